"""Try again, or repair what it names: HTTP 503."""

from __future__ import annotations

from crossfade.errors.base import CrossfadeError


class UnavailableError(CrossfadeError):
    """It would work, but not now."""

    code = "unavailable"
    http_status = 503
    exit_code = 7


class DatabaseUnavailableError(UnavailableError):
    """The database cannot be reached or refuses."""

    code = "database_unavailable"
    sentence = "the database does not answer: {problem}"
    hint_template = "check it with `crossfade doctor`"


class DatabaseLostError(DatabaseUnavailableError):
    """The database is missing or empty, and this machine has served from it."""

    code = "database_lost"
    sentence = "the database is lost: {problem}, but its revision {revision} was served here"
    hint_template = "restore it from a backup; to begin anew on purpose, delete {witness}"


class DatabaseDamagedError(DatabaseUnavailableError):
    """The file of the database is damaged, or is something else."""

    code = "database_damaged"
    sentence = "the database cannot be read: {problem}"
    hint_template = "restore the file in {where} from a backup"


class DatabaseMovedError(DatabaseUnavailableError):
    """The file of the database was moved, deleted or replaced while it was open."""

    code = "database_moved"
    sentence = "the database does not answer: {path} {change}"
    hint_template = "put the file back; if it is another one on purpose, restart what has it open"


class BlobsUnavailableError(UnavailableError):
    """The blob store cannot be reached or refuses."""

    code = "blobs_unavailable"
    sentence = "the blob store does not answer: {problem}"
    hint_template = "check it with `crossfade doctor`"


class CacheUnavailableError(UnavailableError):
    """The shared response cache cannot be reached or refuses."""

    code = "cache_unavailable"
    sentence = "the response cache does not answer: {problem}"
    hint_template = "check the server that `CROSSFADE_CACHE__REDIS_URL` names"


class StorageFullError(UnavailableError):
    """There is no space left to store something."""

    code = "storage_full"
    http_status = 507
    sentence = "there is no space left in {where}"
    hint_template = "free space there; nothing was changed"


class LedgerUnavailableError(UnavailableError):
    """Outcomes cannot be made durable now."""

    code = "ledger_unavailable"
    sentence = "outcomes cannot be recorded now: {problem}"
    hint_template = (
        "nothing of the batch counts as recorded: send it again, and look at the disk with `crossfade doctor`"
    )


class NotificationFailedError(UnavailableError):
    """Somebody could not be told of an event."""

    code = "notification_failed"
    sentence = "{channel} was not told: {problem}"
    hint_template = "try the channel with `crossfade alerts test`"

    def __init__(self, *, channel: str, problem: str, again: bool = True) -> None:
        super().__init__(channel=channel, problem=problem, again=again)


class PrometheusUnavailableError(UnavailableError):
    """The Prometheus server gives no usable answer."""

    code = "prometheus_unavailable"
    sentence = "Prometheus gives no answer: {problem}"
    hint_template = "check the server that `CROSSFADE_TELEMETRY__PROMETHEUS_URL` names"


class ServerUnreachableError(UnavailableError):
    """A Crossfade server does not answer."""

    code = "server_unreachable"
    sentence = "no Crossfade server answers at {url}: {problem}"
    hint_template = "start one with `crossfade serve`"


class NotServedError(UnavailableError):
    """The version is registered but not ready in this process."""

    code = "not_served"
    sentence = "`{ref}` is not ready here: {problem}"
    hint_template = "see what is served with `crossfade models show {ref}`"


class OverloadedError(UnavailableError):
    """More waits for a model than it can answer in time."""

    code = "overloaded"
    sentence = "`{ref}` is too busy to answer in time: {line}"
    hint_template = (
        "try again after {retry_after_seconds} s, allow more time with `X-Request-Timeout-Ms`, or add servers"
    )

    def __init__(self, *, ref: str, retry_after_seconds: float, waiting: int = 0, line: str = "") -> None:
        if not line:
            others = "1 request waits" if waiting == 1 else f"{waiting} requests wait"
            line = f"{others} for it" if waiting else "what it is doing takes too long"
        super().__init__(ref=ref, waiting=waiting, retry_after_seconds=retry_after_seconds, line=line)


class BatchRestsError(UnavailableError):
    """A batch request has just ended the process of the model: the next one waits, so that others are answered."""

    code = "batch_rests"
    sentence = "`{ref}` takes no batch requests for a moment: one of them has just ended its process"
    hint_template = "try again after {retry_after_seconds} s"


class ModelCrashedError(UnavailableError):
    """The process of the model ended while it answered, or had to be ended."""

    code = "model_crashed"
    http_status = 500
    sentence = "`{ref}` has not answered: {problem}"
    hint_template = "its process is started again; the log of the server has what it printed"


class QuotaExceededError(UnavailableError):
    """A model is asked more often than it may be; the only error with this status."""

    code = "quota_exceeded"
    http_status = 429
    sentence = "`{name}` answers at most {limit} requests a second in each process"
    hint_template = "try again after {retry_after_seconds} s, or raise the setting `serving.max_requests_per_second`"


class DeadlineExceededError(UnavailableError):
    """The time that a request had is over."""

    code = "deadline_exceeded"
    http_status = 504
    sentence = "`{ref}` did not answer in time: the request was still {stage} at its deadline"
    hint_template = (
        "allow more time with `X-Request-Timeout-Ms`, up to the setting `serving.max_request_timeout_seconds`, "
        "or with the setting `serving.request_timeout_seconds`"
    )


class MemberSlowError(UnavailableError):
    """A member of an ensemble did not answer within its budget, and the ensemble cannot do without it."""

    code = "member_slow"
    sentence = "the member `{member}` did not answer within {budget_seconds} s"
    hint_template = "give it more time, or say what happens without it: `crossfade models ensemble --help`"


class EmergencyError(UnavailableError):
    """A person, or the safety policy of a model, has stopped it."""

    code = "emergency"
    sentence = "`{name}` is stopped, {scope} is in an emergency ({mode}): {reason}"
    hint_template = "see who stopped it with `crossfade safety status`"


class LatchUnwritableError(UnavailableError):
    """The files that stop models on this machine cannot be changed."""

    code = "latch_unwritable"
    sentence = "emergencies of this machine cannot be changed in {where}: {problem}"
    hint_template = (
        "see what is in force with `crossfade safety status`; make room there, or do without `--local`, "
        "or end the servers of this machine"
    )


class DrainingError(UnavailableError):
    """The process is shutting down."""

    code = "draining"
    sentence = "this process is shutting down"
    hint_template = "send the request again"


class BodiesBusyError(UnavailableError):
    """The process has no memory left for another large request."""

    code = "bodies_busy"
    sentence = "the large requests under way hold {limit_bytes} bytes already, which is the most allowed"
    hint_template = "send the request again in a second, or raise `CROSSFADE_HTTP__MAX_INFLIGHT_BODY_BYTES`"


class UploadsBusyError(UnavailableError):
    """As many files are being uploaded as the process takes at a time."""

    code = "uploads_busy"
    sentence = "{limit} files are being uploaded already, which is the most at a time"
    hint_template = "send the file again in a few seconds"


class MissingExtraError(UnavailableError):
    """An optional package is not installed."""

    code = "missing_extra"
    sentence = "{feature} needs the package `{package}`"
    hint_template = "pip install 'crossfade[{extra}]'"


class ConfigBoardUnavailableError(UnavailableError):
    """Where active configs are read from does not answer."""

    code = "config_board_unavailable"
    sentence = "the board of configs does not answer: {problem}"
    hint_template = "check the server that `CROSSFADE_CONFIGS__BOARD_URL` names; readers keep what they read last"

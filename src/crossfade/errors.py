"""Every error that Crossfade raises on purpose.

```
CrossfadeError
├── InvalidInputError      422 / exit 2   what was sent cannot be used
│   ├── InvalidNameError, InvalidRefError, InvalidSemverError, InvalidPathError
│   ├── SettingsError, MalformedRequestError, SignatureMismatchError, ManifestError
│   ├── UnknownFlavorError, SignatureRequiredError, PredictionError, InvalidPageError
│   ├── ModelNotNamedError, BodyTooLargeError (413), BodyTooSlowError (408), UploadTooSlowError (408)
│   ├── UnsupportedMediaTypeError (415), NotAcceptableError (406)
├── NotFoundError          404 / exit 3   what was named does not exist
│   ├── ModelNotFoundError, VersionNotFoundError, AliasNotFoundError, BlobNotFoundError, JobNotFoundError
├── ConflictError          409 / exit 4   it collides with what is there
│   ├── VersionConflictError, IllegalTransitionError, StillReferencedError
│   ├── AliasMovedError, NoPreviousVersionError, BreakingChangeError, RejectedVersionError
│   ├── JobConflictError
├── DeniedError            403 / exit 5   the server's policy forbids it
│   ├── CodeNotAllowedError, UntrustedTypesError, HostNotAllowedError, OriginNotAllowedError
│   ├── RemoteControlError
├── UnsafeError            412 / exit 6   it was checked and found unfit
│   ├── CorruptBlobError, GoldenMismatchError, LoadFailedError, NotReadyError, CorruptAuditError
└── UnavailableError       503 / exit 7   try again, or repair what it names
    ├── DatabaseUnavailableError, BlobsUnavailableError, CacheUnavailableError, ServerUnreachableError
    ├── NotServedError, DrainingError, MissingExtraError, StorageFullError (507)
    ├── OverloadedError, DeadlineExceededError (504), BodiesBusyError, UploadsBusyError
```

A constructor takes *facts* by keyword, never text: the class holds the sentence and the hint as templates, so that the
Python exception, the problem+json body and the command line always say the same. Facts travel in the problem body too.

Example:
    >>> str(VersionNotFoundError(ref="churn:2.1.1", name="churn"))
    '`churn:2.1.1` is not registered'
"""

from __future__ import annotations

from typing import ClassVar


class CrossfadeError(Exception):
    """Base of every deliberate error: a stable `code`, one clear sentence, one runnable hint.

    Args:
        **facts: The values that the `sentence` and `hint` templates of the class name. Extra facts are allowed and are
            reported in the problem body.
    """

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    sentence: ClassVar[str] = "{problem}"
    hint_template: ClassVar[str] = ""

    def __init__(self, **facts: object) -> None:
        self.facts = facts
        self.message = self.sentence.format_map(facts)
        self.hint = self.hint_template.format_map(facts)
        super().__init__(self.message)

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the facts when the error is copied to another process or thread."""
        return (_rebuild, (type(self), self.facts))


def _rebuild(kind: type[CrossfadeError], facts: dict[str, object]) -> CrossfadeError:
    return kind(**facts)


# --- invalid input -------------------------------------------------------------------------------------------------


class InvalidInputError(CrossfadeError):
    """What was sent cannot be used as it is."""

    code = "invalid_input"
    http_status = 422
    exit_code = 2


class InvalidNameError(InvalidInputError):
    """A model or alias name is not a lower-case slug."""

    code = "invalid_name"
    sentence = "`{name}` is not a valid {kind} name"
    hint_template = "use 1 to 64 of a-z, 0-9, `_`, `-`, `.`, starting with a letter or digit"


class InvalidRefError(InvalidInputError):
    """A model reference cannot be parsed."""

    code = "invalid_ref"
    sentence = "`{ref}` is not a model reference"
    hint_template = "write `name`, `name:1.2.0` or `name@alias`"


class InvalidSemverError(InvalidInputError):
    """A version is not a semantic version."""

    code = "invalid_semver"
    sentence = "`{version}` is not a semantic version"
    hint_template = "write MAJOR.MINOR.PATCH, for example `1.4.0`"


class InvalidPathError(InvalidInputError):
    """A file name inside a version is not an acceptable label."""

    code = "invalid_path"
    sentence = "`{path}` is not allowed as a file name inside a version"
    hint_template = "use letters, digits, `.`, `_`, `-` and `/`, at most 8 levels, no `..`"


class SettingsError(InvalidInputError):
    """A setting is unknown or has a value that cannot be used."""

    code = "invalid_settings"
    sentence = "setting `{field}`: {problem}"
    hint_template = "see every setting and where it comes from with `crossfade settings show --sources`"


class MalformedRequestError(InvalidInputError):
    """The body is not what the protocol describes."""

    code = "malformed_request"
    sentence = "the request cannot be read: {problem}"
    hint_template = "see the shape of a request with `crossfade models show MODEL`"


class SignatureMismatchError(InvalidInputError):
    """An input does not fit the version's signature."""

    code = "signature_mismatch"
    sentence = "input `{field}`: expected {expected}, got {given}"
    hint_template = "see the signature with `crossfade models show {ref}`"

    def __init__(self, *, field: str, expected: str, given: str, ref: str = "MODEL") -> None:
        super().__init__(field=field, expected=expected, given=given, ref=ref)


class ManifestError(InvalidInputError):
    """A manifest is incomplete or inconsistent."""

    code = "invalid_manifest"
    sentence = "the manifest of `{ref}` cannot be accepted: {problem}"
    hint_template = "let `crossfade models register` build the manifest"


class UnknownFlavorError(InvalidInputError):
    """No flavor recognises the model object or file."""

    code = "unknown_flavor"
    sentence = "no flavor recognises {given}"
    hint_template = "name it, for example `--flavor onnx`; supported: {supported}"


class SignatureRequiredError(InvalidInputError):
    """The signature can neither be read from the model nor inferred."""

    code = "signature_required"
    sentence = "the signature of `{name}` is unknown"
    hint_template = "pass example data, for example `--example rows.csv`, or a signature"


class PredictionError(InvalidInputError):
    """The model itself failed on inputs that fit its signature."""

    code = "prediction_failed"
    sentence = "`{ref}` failed on this input: {problem}"
    hint_template = "try the golden requests with `crossfade models verify {ref}`"


class InvalidPageError(InvalidInputError):
    """A page of a list was asked for in a way that cannot be answered."""

    code = "invalid_page"
    sentence = "this page cannot be listed: {problem}"
    hint_template = "take `cursor` from the page before, or leave it out; `limit` is 1 to 1000"


class BodyTooLargeError(InvalidInputError):
    """A body or what it unpacks to is larger than the limit."""

    code = "body_too_large"
    http_status = 413
    sentence = "the body is larger than {limit_bytes} bytes"
    hint_template = "send fewer rows at once, or raise `CROSSFADE_HTTP__MAX_BODY_BYTES`"


class BodyTooSlowError(InvalidInputError):
    """A body did not arrive in time."""

    code = "body_too_slow"
    http_status = 408
    sentence = "the body did not arrive within {limit_seconds} seconds"
    hint_template = "send the body faster, or raise `CROSSFADE_HTTP__BODY_TIMEOUT_SECONDS`"


class UploadTooSlowError(InvalidInputError):
    """A file arrived so slowly that it would have kept others from uploading."""

    code = "upload_too_slow"
    http_status = 408
    sentence = "the upload arrives slower than {limit_bytes} bytes a second"
    hint_template = (
        "send the file again over a faster connection, or register on the server with `crossfade models register`"
    )


class ModelNotNamedError(InvalidInputError):
    """A request names no model, and there is not exactly one."""

    code = "model_not_named"
    sentence = "the request names no model, and {count} are served here"
    hint_template = "ask `/models/NAME/invocations`, or set `CROSSFADE_HTTP__INVOCATIONS_MODEL`"


class UnsupportedMediaTypeError(InvalidInputError):
    """A body is in a format that this route does not read."""

    code = "unsupported_media_type"
    http_status = 415
    sentence = "a body of `{given}` cannot be read here"
    hint_template = "send one of {supported}"


class NotAcceptableError(InvalidInputError):
    """An answer cannot be written in the format that was asked for."""

    code = "not_acceptable"
    http_status = 406
    sentence = "the answer cannot be written as `{wanted}`: {problem}"
    hint_template = "leave out the `Accept` header to get JSON"


# --- not found -----------------------------------------------------------------------------------------------------


class NotFoundError(CrossfadeError):
    """What was named does not exist."""

    code = "not_found"
    http_status = 404
    exit_code = 3
    sentence = "`{what}` does not exist"


class ModelNotFoundError(NotFoundError):
    """No model has this name."""

    code = "model_not_found"
    sentence = "model `{name}` is not registered"
    hint_template = "{suggestion}list models with `crossfade models list`"

    def __init__(self, *, name: str, suggestion: str = "") -> None:
        super().__init__(name=name, suggestion=suggestion)


class VersionNotFoundError(NotFoundError):
    """The model exists, this version of it does not."""

    code = "version_not_found"
    sentence = "`{ref}` is not registered"
    hint_template = "{suggestion}list versions with `crossfade models versions {name}`"

    def __init__(self, *, ref: str, name: str, suggestion: str = "") -> None:
        super().__init__(ref=ref, name=name, suggestion=suggestion)


class AliasNotFoundError(NotFoundError):
    """The model has no such alias."""

    code = "alias_not_found"
    sentence = "`{name}` has no alias `{alias}`"
    hint_template = "{suggestion}set it with `crossfade models alias {name} {alias} VERSION`"

    def __init__(self, *, name: str, alias: str, suggestion: str = "") -> None:
        super().__init__(name=name, alias=alias, suggestion=suggestion)


class BlobNotFoundError(NotFoundError):
    """No blob has this digest."""

    code = "blob_not_found"
    sentence = "blob {digest} does not exist"
    hint_template = "check what is stored with `crossfade doctor`"


class JobNotFoundError(NotFoundError):
    """No batch job has this id."""

    code = "job_not_found"
    sentence = "there is no job `{id}`"
    hint_template = "see which there are with `crossfade jobs list`"


# --- conflict ------------------------------------------------------------------------------------------------------


class ConflictError(CrossfadeError):
    """The request collides with what is already there."""

    code = "conflict"
    http_status = 409
    exit_code = 4


class VersionConflictError(ConflictError):
    """The semver is taken by other content."""

    code = "version_conflict"
    sentence = "`{ref}` is already registered with other content"
    hint_template = "a version never changes; register it as `{proposed}`"


class IllegalTransitionError(ConflictError):
    """The stage change is not among the legal transitions."""

    code = "illegal_transition"
    sentence = "`{ref}` cannot go from stage `{source}` to `{target}`"
    hint_template = "legal from `{source}`: {allowed}"


class StillReferencedError(ConflictError):
    """Something still needs what should be deleted."""

    code = "still_referenced"
    sentence = "`{ref}` is still referenced by {references}"
    hint_template = "move the reference away first, see `crossfade models show {ref}`"


class AliasMovedError(ConflictError):
    """Somebody moved the alias since the caller looked."""

    code = "alias_moved"
    sentence = "`{name}@{alias}` points to {actual}, not to {expected}"
    hint_template = "look again with `crossfade models show {name}`"


class NoPreviousVersionError(ConflictError):
    """There is nothing to roll back to."""

    code = "no_previous_version"
    sentence = "`{name}@{alias}` has no earlier version to go back to"
    hint_template = "move it with `crossfade models alias {name} {alias} VERSION`"


class BreakingChangeError(ConflictError):
    """The proposed semver understates the change of the signature."""

    code = "breaking_change"
    sentence = "`{ref}` changes the signature ({changes}), which needs a {required} version"
    hint_template = "register it as `{proposed}`"


class RejectedVersionError(ConflictError):
    """An alias may not point to a version in the stage `rejected`."""

    code = "rejected_version"
    sentence = "`{ref}` is rejected, so `{name}@{alias}` cannot point to it"
    hint_template = "move it to another stage first with `crossfade models transition {ref} STAGE`"


class JobConflictError(ConflictError):
    """The batch job is not what the request takes it for."""

    code = "job_conflict"
    sentence = "job `{id}` {problem}"
    hint_template = "see it with `crossfade jobs show {id}`"


# --- denied --------------------------------------------------------------------------------------------------------


class DeniedError(CrossfadeError):
    """The server's policy forbids it."""

    code = "denied"
    http_status = 403
    exit_code = 5


class CodeNotAllowedError(DeniedError):
    """The format runs code when it is loaded, and the policy does not allow that."""

    code = "code_not_allowed"
    sentence = "{given} runs code when it is loaded, which this server does not allow"
    hint_template = (
        "save it in a safe format (ONNX, skops, native JSON), or trust your publishers with "
        "`CROSSFADE_REGISTRY__ALLOW_CODE_MODELS=true`"
    )


class UntrustedTypesError(DeniedError):
    """A skops file contains types that are not on the server's list."""

    code = "untrusted_types"
    sentence = "the file contains types that this server does not trust: {types}"
    hint_template = "review them, then add them to `CROSSFADE_REGISTRY__TRUSTED_TYPES`"


class HostNotAllowedError(DeniedError):
    """The request names a host that this server does not answer for."""

    code = "host_not_allowed"
    sentence = "this server does not answer for the host `{host}`"
    hint_template = "add the name to `CROSSFADE_HTTP__ALLOWED_HOSTS`"


class OriginNotAllowedError(DeniedError):
    """A page of another site tries to change something."""

    code = "origin_not_allowed"
    sentence = "a page of `{origin}` may not change anything here"
    hint_template = "use `crossfade` or `crossfade.client.Client` instead of a browser"


class RemoteControlError(DeniedError):
    """A caller on another machine wants more than predictions."""

    code = "remote_control"
    sentence = "{caller} may ask for predictions only: all else is answered on the server's own machine"
    hint_template = (
        "run it there, or, where everybody who reaches the server is trusted, start that with "
        "`CROSSFADE_HTTP__ALLOW_REMOTE_CONTROL=true`"
    )


# --- unsafe --------------------------------------------------------------------------------------------------------


class UnsafeError(CrossfadeError):
    """It was checked and found unfit."""

    code = "unsafe"
    http_status = 412
    exit_code = 6


class CorruptBlobError(UnsafeError):
    """Stored bytes are missing or differ from their digest."""

    code = "corrupt_blob"
    sentence = "blob {digest} ({path} of `{ref}`) is {damage}"
    hint_template = "register the version again with the same content, which restores the blob"


class GoldenMismatchError(UnsafeError):
    """The loaded version does not give the answers stored with it."""

    code = "golden_mismatch"
    sentence = "`{ref}` gives other answers than its golden requests: output `{output}` differs by {difference}"
    hint_template = "compare with `crossfade models verify {ref}`"


class LoadFailedError(UnsafeError):
    """The version cannot be loaded here."""

    code = "load_failed"
    sentence = "`{ref}` cannot be loaded: {problem}"
    hint_template = "try it with `crossfade models verify {ref}`"


class NotReadyError(UnsafeError):
    """A version was refused because it did not become ready in every process."""

    code = "not_ready"
    sentence = "`{ref}` did not become ready, so `{name}@{alias}` was not moved: {problem}"
    hint_template = "see why with `crossfade models verify {ref}`"


class CorruptAuditError(UnsafeError):
    """The audit log was changed by somebody other than Crossfade."""

    code = "corrupt_audit"
    sentence = "the audit log does not verify at entry {seq}: {problem}"
    hint_template = "the entries before {seq} are intact; compare with a backup of the database"


# --- unavailable ---------------------------------------------------------------------------------------------------


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
    hint_template = "free space there; nothing was registered"


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
    sentence = "`{ref}` is too busy to answer in time: {waiting} requests wait for it"
    hint_template = (
        "try again after {retry_after_seconds} s, allow more time with `X-Request-Timeout-Ms`, or add servers"
    )


class DeadlineExceededError(UnavailableError):
    """The time that a request had is over."""

    code = "deadline_exceeded"
    http_status = 504
    sentence = "`{ref}` did not answer in time: the request was still {stage} at its deadline"
    hint_template = "allow more time with `X-Request-Timeout-Ms` or the setting `serving.request_timeout_seconds`"


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

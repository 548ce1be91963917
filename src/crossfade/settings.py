"""Crossfade's own configuration: one `Settings`, one section per concern.

A value comes from, first match wins: arguments, `CROSSFADE_<SECTION>__<FIELD>` in the environment, `crossfade.toml` in
the working directory (or the file that `CROSSFADE_CONFIG` names), the default. Secrets belong in the environment.
"""

from __future__ import annotations

import os
import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource
from pydantic_settings import SettingsError as PydanticSettingsError

from crossfade.errors import SettingsError

PREFIX = "CROSSFADE_"
_OF_KUBERNETES = re.compile(r"_SERVICE_(HOST|PORT)|_PORT_\d+_(TCP|UDP|SCTP)|=(tcp|udp|sctp)://")
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
Span = Annotated[float, Field(gt=0, le=315_360_000.0)]  # ten years: what dates can be added to
Least = Literal["info", "ticket", "page"]
SHORTEST_SECRET = 16
"""Characters of what webhooks are signed with."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StorageSettings(_Section):
    """Where metadata and bytes live. Empty means: inside `home`."""

    database_url: str = Field("", description="SQLAlchemy URL; default SQLite in `home`")
    pool_size: Count = Field(5, description="PostgreSQL connections per process")
    blobs_url: str = Field("", description="a folder, or `s3://bucket/prefix`; default a folder in `home`")
    s3_endpoint_url: str = Field("", description="S3-compatible endpoint; default AWS")
    s3_access_key_id: str = Field("", description="default: the AWS credential chain")
    s3_secret_access_key: SecretStr = Field(SecretStr(""), description="default: the AWS credential chain")
    s3_region: str = Field("us-east-1", description="S3 region")


class RegistrySettings(_Section):
    """What may be registered, and how a version may move."""

    backend: str = Field("native", description="`native`, or the name of an installed `crossfade.registry` entry point")
    allow_code_models: bool = Field(
        default=False, description="accept formats that run code when loaded (pickle, Model)"
    )
    trusted_types: tuple[str, ...] = Field((), description="types in skops files trusted besides the built-in list")
    stages: dict[str, tuple[str, ...]] = Field(
        {
            "registered": ("validating", "staging", "archived", "rejected"),
            "validating": ("staging", "rejected", "archived"),
            "staging": ("production", "registered", "archived", "rejected"),
            "production": ("staging", "archived"),
            "archived": ("registered", "staging", "production"),
            "rejected": ("archived", "registered"),
        },
        description="stage -> stages that may follow, merged over the defaults; a version starts as `registered`",
    )
    max_blob_bytes: Count = Field(20 * 2**30, description="largest file of a version")
    garbage_grace_seconds: Seconds = Field(86_400.0, description="age before an unreferenced blob may be deleted")
    lease_seconds: Seconds = Field(3_600.0, description="how long an unfinished registration protects its blobs")

    @model_validator(mode="after")
    def _stages_are_closed(self) -> Self:
        unknown = {target for targets in self.stages.values() for target in targets} - set(self.stages)
        if unknown:
            raise ValueError(f"stages without an entry of their own: {sorted(unknown)}")
        return self


class ModelRules(_Section):
    """How a model is served."""

    request_timeout_seconds: Seconds = Field(10.0, description="for a request without `X-Request-Timeout-Ms`")
    max_request_timeout_seconds: Seconds = Field(
        60.0, description="whatever `X-Request-Timeout-Ms` or the deadline of a gRPC call wishes"
    )
    max_batch_rows: Count = Field(256, description="rows predicted in one call of the model")
    max_batch_delay_seconds: float = Field(0.0, ge=0, description="how long an incomplete batch waits for company")
    execution: Literal["auto", "inline", "thread", "process"] = Field(
        "auto", description="where models run; auto = code in a process of its own, others by speed"
    )
    device: Literal["auto", "cpu", "gpu"] = Field(
        "auto", description="auto = as the version declares, else a GPU when its format can use one that is here"
    )
    threads: int = Field(
        0, ge=0, le=1024, description="of one prediction; 0 = as the version declares, else its format's"
    )
    max_requests_per_second: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="of a model in each process, then 429; 0 = as many as come"
    )

    @property
    def longest_request_seconds(self) -> float:
        """How long a request may take that wishes for as much as it can get; never less than one that says nothing."""
        return max(self.request_timeout_seconds, self.max_request_timeout_seconds)


class ServingSettings(ModelRules):
    """How versions are loaded, kept and swapped."""

    workers: Count = Field(1, description="data-plane processes that share the port")
    snapshot_poll_seconds: Seconds = Field(0.1, description="how often a process looks for a new snapshot revision")
    heartbeat_seconds: Seconds = Field(2.0, description="how often a process reports itself; stale after three")
    ready_timeout_seconds: Seconds = Field(120.0, description="how long an alias move waits for processes to load")
    warmup_requests: Count = Field(3, description="predictions before a version is ready")
    environment: str = Field(
        "production", min_length=1, max_length=64, description="whose deployments the processes of this server run"
    )
    keep_previous: int = Field(1, ge=0, description="former champions kept warm per model")
    memory_limit_bytes: int = Field(0, ge=0, description="for loaded versions; 0 = three quarters of the machine")
    inline_below_seconds: Seconds = Field(0.001, description="faster models run on the event loop, others on a thread")
    models: dict[str, ModelRules] = Field(
        {}, description='model -> which rules are other for it, for example `{"churn": {"max_batch_rows": 8}}`'
    )
    drain_seconds: float = Field(0.5, ge=0, description="after SIGTERM: not ready, but still answering")
    drain_timeout_seconds: Seconds = Field(30.0, description="after SIGTERM: then in-flight requests are cut")

    def of_model(self, name: str) -> ModelRules:
        """Return the rules for one model: its own where there are some, the common ones elsewhere.

        Example:
            >>> ServingSettings(models={"churn": ModelRules(max_batch_rows=8)}).of_model("churn").max_batch_rows
            8
        """
        own = self.models.get(name)
        return self if own is None else self.model_copy(update=own.model_dump(exclude_unset=True))


class IsolationSettings(_Section):
    """What a model in a process of its own may do."""

    memory_bytes: int = Field(0, ge=0, description="private memory of each; 0 = a quarter of the machine per worker")
    network: bool = Field(default=False, description="let it open sockets")
    readable_paths: tuple[str, ...] = Field((), description="what it may read besides the libraries of this Python")


class CacheSettings(_Section):
    """Answers that are kept, so that equal requests are not computed again."""

    mode: Literal["off", "on", "models"] = Field("off", description="`models`: only the models in `cache.models`")
    models: tuple[str, ...] = Field((), description="names of models, for the mode `models`")
    max_bytes: int = Field(64 * 2**20, ge=2**20, description="memory per process; an answer may take a sixteenth")
    ttl_seconds: Seconds = Field(300.0, description="age at which an answer is computed again")
    redis_url: SecretStr = Field(SecretStr(""), description="`redis://` or `rediss://` server that processes share")
    redis_timeout_seconds: Seconds = Field(0.05, description="then the answer is computed without it")

    @model_validator(mode="after")
    def _models_are_named(self) -> Self:
        if self.mode == "models" and not self.models:
            raise ValueError("the mode `models` needs names in `cache.models`")
        return self

    @property
    def max_value_bytes(self) -> int:
        """The largest answer that is kept: one must not push out all the others."""
        return self.max_bytes // 16


class JobSettings(_Section):
    """Batch jobs: how they run, and how long their results are kept."""

    chunk_rows: int = Field(10_000, ge=1, le=100_000, description="rows between two commits of progress")
    poll_seconds: Seconds = Field(1.0, description="how often an idle process looks for a job")
    lease_seconds: Seconds = Field(30.0, description="silence after which another process takes a job over")
    patience_seconds: Seconds = Field(900.0, description="without progress, because something it needs is away")
    retention_seconds: Seconds = Field(604_800.0, description="after its end: then its file and result are let go of")
    reader_memory_bytes: int = Field(2**30, ge=2**28, description="memory of the process that reads the file")


class HttpSettings(_Section):
    """Where to listen, and what a client may do."""

    host: str = Field("127.0.0.1", description="address to bind")
    port: int = Field(8000, ge=0, le=65_535, description="port to bind; 0 = any free port")
    max_body_bytes: Count = Field(10 * 2**20, description="prediction and metadata bodies, unpacked")
    max_inflight_body_bytes: Count = Field(
        512 * 2**20, description="all bodies above 64 KiB that a process holds; one of the largest always fits"
    )
    body_timeout_seconds: Seconds = Field(
        30.0, description="for a whole prediction or metadata body; the longest pause in an upload"
    )
    header_timeout_seconds: Seconds = Field(5.0, description="for a whole request head")
    max_header_bytes: Count = Field(32 * 2**10, description="of a request head")
    max_rows: Count = Field(100_000, description="rows of one prediction request")
    invocations_model: str = Field("", description="what `/invocations` asks (any reference); default the only model")
    allowed_hosts: tuple[str, ...] = Field(
        (), description="Host headers accepted besides loopback and `host`; their own pages may be `https`"
    )
    allow_remote_control: bool = Field(
        default=False, description="let every machine that reaches this one change models: nobody is authenticated yet"
    )


class GrpcSettings(_Section):
    """The gRPC service (extra `grpc`). It listens where `http.host` says, within the limits of the section `http`."""

    port: int = Field(0, ge=0, le=65_535, description="port of the service; 0 = there is none")


class TelemetrySettings(_Section):
    """Traces sent to a collector of OpenTelemetry, series read from Prometheus. Each is off until it has an address."""

    otlp_endpoint: str = Field("", description="address of a collector (OTLP/HTTP), such as `http://localhost:4318`")
    sample_ratio: float = Field(
        0.01, ge=0, le=1, description="share of predictions traced; with a `traceparent` the caller decides"
    )
    prometheus_url: str = Field("", description="address of a Prometheus server, for checks that ask it")
    prometheus_token: SecretStr = Field(SecretStr(""), description="sent to it as a bearer token; empty sends none")
    prometheus_timeout_seconds: Seconds = Field(5.0, description="for a whole question to it")
    prometheus_max_age_seconds: Seconds = Field(
        120.0, description="a sample that is older is stale, which is no answer"
    )


class CaptureRules(_Section):
    """Which predictions of a model are kept, and what of them."""

    ratio: float = Field(gt=0, le=1, description="share of the predictions")
    include: tuple[str, ...] = Field((), description="inputs and outputs that are kept; default all")
    exclude: tuple[str, ...] = Field((), description="those that are not")
    hashed: tuple[str, ...] = Field((), description="those of which a keyed hash is kept")


class CaptureSettings(_Section):
    """Predictions that are kept with their inputs and outputs, as Parquet files. Off until a model is named."""

    models: dict[str, CaptureRules] = Field(
        {}, description="model -> `ratio` (of its predictions), `include`, `exclude`, `hashed` (names of fields)"
    )
    folder: str = Field("", description="where to; default `captures` in `home`")
    file_seconds: Seconds = Field(60.0, description="after which a file is written; a crash loses at most so much")
    max_file_rows: Count = Field(100_000, description="rows after which a file is written")
    max_file_bytes: Count = Field(32 * 2**20, description="bytes in memory after which a file is written")
    max_waiting_bytes: Count = Field(64 * 2**20, description="held in memory per process; what is more is dropped")
    retention_seconds: Seconds = Field(7 * 86_400.0, description="age at which a file is deleted")


class LedgerSettings(_Section):
    """Exposures and outcomes: how they get from here to the database, and how long they are kept there."""

    folder: str = Field("", description="where they wait for the database; default `ledger` in `home`")
    max_spool_bytes: int = Field(
        2**30, ge=2**20, description="of files there; then outcomes are refused, exposures dropped"
    )
    poll_seconds: Seconds = Field(0.5, description="how often events are brought to the database")
    retention_days: int = Field(
        400, ge=1, le=36_500, description="older events are deleted from the database, and older outcomes refused"
    )


class ExperimentSettings(_Section):
    """Experiments: what happens to them by itself."""

    poll_seconds: Seconds = Field(5.0, description="how often bandits learn and decisions are looked at, at most")
    lease_seconds: Seconds = Field(30.0, description="silence after which another process does it")


class WebhookRules(_Section):
    """One receiver of webhooks."""

    url: SecretStr = Field(description="where to; it often lets whoever knows it in, so it is a secret")
    secret: SecretStr = Field(
        description="shared with the receiver, at least 16 characters: what requests are signed with"
    )
    least: Least = Field("info", description="least severity that it is told of")


class NotificationSettings(_Section):
    """Who is told of alerts and of what happens to releases, and how."""

    log: bool = Field(default=True, description="write them to the log")
    webhooks: dict[str, WebhookRules] = Field(
        {}, description="name -> `url`, `secret`, `least` (severity: `info`, `ticket`, `page`)"
    )
    private_hosts: tuple[str, ...] = Field(
        (), description="hosts, as written in URLs, that webhooks may reach at addresses that are not public"
    )
    mail_host: str = Field("", description="SMTP server; empty sends no e-mail")
    mail_port: int = Field(587, ge=1, le=65_535, description="its port")
    mail_starttls: bool = Field(default=True, description="encrypt, and refuse a server that cannot")
    mail_username: str = Field("", description="empty does not log in")
    mail_password: SecretStr = Field(SecretStr(""), description="of that user")
    mail_from: str = Field("crossfade@localhost", description="sender of e-mails")
    mail_to: tuple[str, ...] = Field((), description="recipients of e-mails")
    mail_least: Least = Field("ticket", description="least severity that is told by e-mail")

    @model_validator(mode="after")
    def _mail_can_be_sent(self) -> Self:
        if self.mail_host and not self.mail_to:
            raise ValueError("`mail_host` needs recipients in `mail_to`")
        for address in (self.mail_from, *self.mail_to):
            if not address.isprintable() or "," in address or "@" not in address:
                raise ValueError(f"{address!r} is no address of e-mail")
        if taken := {"log", "mail"} & set(self.webhooks):
            raise ValueError(f"no webhook can be called {sorted(taken)}")
        return self


class SloRules(_Section):
    """What the answers of a model shall be like."""

    availability: float = Field(0.999, gt=0, lt=1, description="share of requests that shall not fail")
    latency_seconds: Seconds = Field(0.1, description="an answer that took longer is slow")
    latency: float = Field(0.99, gt=0, lt=1, description="share of answers that shall not be slow")
    min_requests: Count = Field(100, description="fewer in the long window of a rule say nothing")


class SloSettings(SloRules):
    """Service levels: what alert rules and their burn rates are about."""

    models: dict[str, SloRules] = Field(
        {}, description='model -> which of these are other for it, for example `{"churn": {"availability": 0.99}}`'
    )

    def of_model(self, name: str) -> SloRules:
        """Return what holds for one model.

        Example:
            >>> SloSettings(models={"churn": SloRules(latency=0.9)}).of_model("churn").latency
            0.9
        """
        own = self.models.get(name)
        return self if own is None else self.model_copy(update=own.model_dump(exclude_unset=True))


class AlertSettings(_Section):
    """Alerts: how often rules are looked at, and how often people are told."""

    poll_seconds: Seconds = Field(15.0, description="how often rules are evaluated")
    lease_seconds: Span = Field(60.0, description="silence after which another process does it")
    disabled: tuple[str, ...] = Field((), description="names of rules that are left out")
    group_by: tuple[str, ...] = Field(("model",), description="labels whose equal values share one notification")
    group_wait_seconds: Span = Field(30.0, description="how long the first notification waits for company")
    group_interval_seconds: Span = Field(300.0, description="least time between two notifications of a group")
    repeat_seconds: Span = Field(14_400.0, description="a group that is unchanged is told of again after this")
    resolve_seconds: Span = Field(60.0, description="how long it must be well; twice as long each time it comes back")
    unknown_seconds: Span = Field(3_600.0, description="a firing alert of which nothing is known for so long is over")
    keep_seconds: Span = Field(604_800.0, description="how long resolved alerts, ended silences and messages are kept")
    p95_seconds: Seconds = Field(0.1, description="95 % of the answers shall be as fast, else it is an alert")
    p99_seconds: Seconds = Field(1.0, description="99 % of the answers shall be as fast, else it is an alert")
    error_rate: float = Field(0.05, gt=0, lt=1, description="share of failed requests that wakes somebody up")
    failure_rate: float = Field(0.01, gt=0, lt=1, description="share of failed requests that is an alert")
    queue_depth: Count = Field(100, description="requests that wait for a model, then it is an alert")
    spool_share: float = Field(0.8, gt=0, le=1, description="of `ledger.max_spool_bytes`, then it is an alert")
    cache_hit_rate: float = Field(0.8, gt=0, le=1, description="below it is an alert, where answers are kept")
    cache_share: float = Field(0.8, gt=0, le=1, description="of `cache.max_bytes`, then it is an alert")


class ReleaseSettings(_Section):
    """Rollouts: what happens to them by itself."""

    poll_seconds: Seconds = Field(0.5, description="how often rollouts are looked at; a decision takes at most so long")
    lease_seconds: Seconds = Field(10.0, description="silence after which another process looks after them")
    webhook_secret: SecretStr = Field(
        SecretStr(""), description="what webhooks of checks are signed with, at least 16 characters"
    )

    @field_validator("webhook_secret")
    @classmethod
    def _secret_is_long_enough(cls, secret: SecretStr) -> SecretStr:
        if 0 < len(secret.get_secret_value()) < SHORTEST_SECRET:
            raise ValueError(f"it needs at least {SHORTEST_SECRET} characters")
        return secret


class SafetySettings(_Section):
    """Checks of answers, and emergency mode."""

    poll_seconds: float = Field(
        0.2, gt=0, le=0.25, description="how often a process looks for an emergency of this machine, and for expiries"
    )
    retention_days: int = Field(30, ge=1, le=36_500, description="older violations are deleted from the database")
    max_violations: int = Field(
        100_000, ge=100, description="rows of violations (by check, version and minute) that are kept at most"
    )


class ConfigSettings(_Section):
    """Configs: how they are approved and read."""

    four_eyes: bool = Field(default=True, description="somebody else than its author has to approve a version")
    board_url: SecretStr = Field(
        SecretStr(""), description="where active versions are read: default the database; `etcd://host:2379/prefix`"
    )
    board_timeout_seconds: Seconds = Field(5.0, description="for one answer of that server")
    max_waiting: Count = Field(1_000, description="readers that wait for news, per process; others ask again later")
    report_seconds: Seconds = Field(5.0, description="how often what clients run is written down")
    stale_seconds: Seconds = Field(180.0, description="silence after which a client counts as stale")
    client_retention_seconds: Seconds = Field(86_400.0, description="silence after which it is forgotten")


class LogSettings(_Section):
    """What is written to stderr."""

    level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="least severe level")
    json_lines: bool = Field(default=True, description="JSON lines; false = readable lines")


def _file() -> str:
    return os.environ.get("CROSSFADE_CONFIG", "crossfade.toml")


class Settings(BaseSettings):
    """All settings. `Settings()` reads environment and file; `Settings.load()` also translates errors.

    Example:
        >>> Settings(http=HttpSettings(port=9000)).http.port
        9000
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        toml_file="crossfade.toml",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
    )

    home: Path = Field(Path(".crossfade"), description="folder of the default database, blobs and process files")
    storage: StorageSettings = StorageSettings()
    registry: RegistrySettings = RegistrySettings()
    serving: ServingSettings = ServingSettings()
    isolation: IsolationSettings = IsolationSettings()
    cache: CacheSettings = CacheSettings()
    jobs: JobSettings = JobSettings()
    http: HttpSettings = HttpSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    capture: CaptureSettings = CaptureSettings()
    ledger: LedgerSettings = LedgerSettings()
    releases: ReleaseSettings = ReleaseSettings()
    experiments: ExperimentSettings = ExperimentSettings()
    notifications: NotificationSettings = NotificationSettings()
    slo: SloSettings = SloSettings()
    alerts: AlertSettings = AlertSettings()
    safety: SafetySettings = SafetySettings()
    configs: ConfigSettings = ConfigSettings()
    grpc: GrpcSettings = GrpcSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic passes it by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - likewise
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: arguments, environment, file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, _file())

    @classmethod
    def load(cls, **overrides: object) -> Self:
        """Read all sources.

        Raises:
            SettingsError: A value is unknown or cannot be used; names the field.
        """
        _check_environment()
        try:
            return cls(**overrides)  # type: ignore[arg-type]
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            problem = _unknown(field) if first["type"] == "extra_forbidden" else first["msg"]
            raise SettingsError(field=field, problem=problem) from error
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(field=str(_file()), problem=f"not TOML: {error}") from error
        except PydanticSettingsError as error:
            raise SettingsError(field="environment", problem=str(error)) from error

    @property
    def database_url(self) -> str:
        """The database URL with the default filled in."""
        return self.storage.database_url or f"sqlite:///{(self.home / 'crossfade.db').absolute()}"

    @property
    def capture_folder(self) -> Path:
        """Where captured predictions are, with the default filled in."""
        return Path(self.capture.folder or self.home / "captures").absolute()

    @property
    def ledger_folder(self) -> Path:
        """Where events wait for the database, with the default filled in."""
        return Path(self.ledger.folder or self.home / "ledger").absolute()

    @property
    def blobs_url(self) -> str:
        """The blob URL with the default filled in."""
        return self.storage.blobs_url or str((self.home / "blobs").absolute())


def names() -> list[str]:
    """Return the names of all settings, such as `http.port`."""
    found = []
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, _Section):
            found += [f"{name}.{each}" for each in section.model_fields]
        else:
            found.append(name)
    return found


def _check_environment() -> None:
    """Refuse variables that are meant for a setting and name none; pydantic reads only those that it knows.

    `CROSSFADE_` and a word may be somebody else's: Kubernetes tells every container of a service `crossfade-http` in
    `CROSSFADE_HTTP_PORT=tcp://...`. Two underscores in a row are ours, and so is what only lacks the second one.
    """
    known = names()
    sections, ours = {name.partition(".")[0] for name in known if "." in name}, {_flat(name): name for name in known}
    for variable, value in os.environ.items():
        name = variable[len(PREFIX) :].lower()
        if not variable.upper().startswith(PREFIX) or _OF_KUBERNETES.search(f"{variable}={value}"):
            continue
        if "__" in f"_{name}" and name.partition("__")[0] not in sections:
            raise SettingsError(field=variable, problem=_unknown(name.replace("__", "."), in_environment=True))
        if "." in ours.get(name, ""):
            raise SettingsError(field=variable, problem=_unknown(ours[name], in_environment=True))


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _unknown(field: str, *, in_environment: bool = False) -> str:
    """Say that there is no such setting, and which one may be meant."""
    close = get_close_matches(field[:80], names(), n=1)
    if not close or field.count(".") > 1:  # what is deeper has names of its own
        return "there is no such setting"
    meant = PREFIX + close[0].upper().replace(".", "__") if in_environment else close[0]
    return f"there is no such setting; `{meant}` is close"

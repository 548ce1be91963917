"""Crossfade's own configuration: one `Settings`, one section per concern.

A value comes from, first match wins: arguments, `CROSSFADE_<SECTION>__<FIELD>` in the environment, `crossfade.toml` in
the working directory (or the file that `CROSSFADE_CONFIG` names), the default. Secrets belong in the environment.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource
from pydantic_settings import SettingsError as PydanticSettingsError

from crossfade.errors import SettingsError

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]


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
    """Traces of predictions, sent to a collector of OpenTelemetry. Off until there is an address."""

    otlp_endpoint: str = Field("", description="address of a collector (OTLP/HTTP), such as `http://localhost:4318`")
    sample_ratio: float = Field(
        0.01, ge=0, le=1, description="share of predictions traced; with a `traceparent` the caller decides"
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
        env_prefix="CROSSFADE_",
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
    experiments: ExperimentSettings = ExperimentSettings()
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
        try:
            return cls(**overrides)  # type: ignore[arg-type]
        except ValidationError as error:
            first = error.errors()[0]
            raise SettingsError(field=".".join(map(str, first["loc"])), problem=first["msg"]) from error
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

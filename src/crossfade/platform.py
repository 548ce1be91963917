"""The composition root: the only module that knows which concrete classes make up a running Crossfade."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

from sqlalchemy import Connection

from crossfade.alerts.store import AlertStore
from crossfade.configs.desk import ConfigDesk, open_desk
from crossfade.configs.references import References
from crossfade.configs.store import ConfigStore
from crossfade.core.clock import utc_now
from crossfade.errors import DatabaseUnavailableError
from crossfade.experiments.judging import Judge
from crossfade.experiments.learning import Learner
from crossfade.experiments.store import ExperimentStore
from crossfade.jobs.store import JobStore
from crossfade.ledger.ledger import Ledger
from crossfade.ledger.rollups import fold
from crossfade.notifications.channels import Channels
from crossfade.notifications.outbox import post
from crossfade.registry.backends import open_registry
from crossfade.registry.registry import Registry
from crossfade.registry.requests import CacheStatus
from crossfade.registry.verification import ModelOpener, VerifyReport
from crossfade.releases.announcing import Reach, event_of
from crossfade.releases.deployment_store import DeploymentStore
from crossfade.releases.latch import ChampionLatch
from crossfade.releases.shipping import Shipping
from crossfade.releases.store import RolloutStore, Tell
from crossfade.releases.subjects.configs import ConfigSubject
from crossfade.releases.subjects.models import ModelSubject
from crossfade.releases.subjects.port import Subject
from crossfade.safety.store import SafetyStore
from crossfade.serving.predictor import Predictor, PredictorInfo
from crossfade.settings import Settings
from crossfade.storage.blobs.backends import open_blobs
from crossfade.storage.database import Database, open_database
from crossfade.storage.lease import Lease
from crossfade.storage.migrate import migrate
from crossfade.traffic.deployed import Deployed
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.health import HealthLog
from crossfade.traffic.invalidation import AnswerInvalidation
from crossfade.traffic.last_known_good import LastKnownGood
from crossfade.traffic.readiness import Readiness
from crossfade.traffic.switch import AliasSwitch

if TYPE_CHECKING:
    from crossfade.alerts.evaluator import Evaluator
    from crossfade.experiments.conductor import Conductor
    from crossfade.jobs.runner import JobRunner
    from crossfade.notifications.messenger import Messenger
    from crossfade.releases.controller import Controller
    from crossfade.releases.deployment_keeper import DeploymentKeeper
    from crossfade.releases.rollout import Rollout
    from crossfade.serving.runtime import ServingRuntime


def _subjects(registry: Registry, database: Database) -> dict[str, Subject]:
    """Return what can be released."""
    references = References(registry, database)
    subjects: list[Subject] = [ModelSubject(), ConfigSubject(ConfigStore(), references)]
    return {subject.kind: subject for subject in subjects}


@dataclass(frozen=True)
class Platform:
    """Everything that is open: use it as a context manager, it closes in the reverse order of opening.

    Attributes:
        settings: What it was opened with.
        database: All metadata.
        registry: Every verb on models and versions.
        fleet: The serving processes on this database.
        switch: The only way that an alias moves: after every serving process has the version ready.
        invalidation: The way to make every process compute answers anew.
        jobs: Every verb on batch jobs.
        experiments: Every verb on experiments and layers.
        deployments: Every verb on deployments.
        judge: From the evidence of an experiment to a decision, and to what follows.
        learner: Lets bandits learn, and says what they know.
        channels: Who is told of what happens.
        alerts: Every verb on alerts and silences.
        safety: Every verb on safety policies, overrides and emergencies.
        configs: Every verb on configs, and those who read them.
        ledger: Takes exposures and outcomes; it does nothing until it gets the first, or the platform serves.
        health: How versions do.
        rollouts: Every verb on rollouts.
        runtime: What serves predictions in this process, or None.
    """

    settings: Settings
    database: Database
    registry: Registry
    fleet: Fleet
    switch: AliasSwitch
    invalidation: AnswerInvalidation
    jobs: JobStore
    experiments: ExperimentStore
    deployments: DeploymentStore
    judge: Judge
    learner: Learner
    channels: Channels
    alerts: AlertStore
    safety: SafetyStore
    configs: ConfigDesk
    ledger: Ledger
    health: HealthLog
    rollouts: RolloutStore
    runtime: ServingRuntime | None
    _opened: ExitStack = field(repr=False)

    def cache_status(self) -> CacheStatus:
        """Say what is kept of answers, and what this process has found in it."""
        if self.runtime is not None:
            return self.runtime.cache_status()
        from crossfade.serving.cache import cache_status

        return cache_status(self.settings.cache, None, ())

    def warnings(self) -> list[str]:
        """Say what this process does without although it should not."""
        found = [] if self.runtime is None else self.runtime.warnings()
        away = "" if self.configs.follower is None else self.configs.follower.away
        return [*found, f"configs stay as they were read last: {away}"] if away else found

    def verify(self, ref: str) -> VerifyReport:
        """Check a version; where this process serves, code runs in a process of its own, as it does when it is served.

        Raises:
            CrossfadeError: What `Registry.verify` raises.
        """
        return self.registry.verify(ref, None if self.runtime is None else self.runtime.open_model)

    def job_runner(self) -> JobRunner:
        """Return what works on batch jobs in this process; whoever starts it closes it before the platform.

        Raises:
            RuntimeError: Nothing is served in this process.
        """
        from crossfade.jobs.runner import JobRunner

        if self.runtime is None:
            raise RuntimeError("only a platform that serves can run jobs")
        return JobRunner(self.registry, self.database, self.runtime.predictions, self.settings)

    def conductor(self) -> Conductor:
        """Return what attends to experiments by itself; whoever starts it closes it before the platform."""
        from crossfade.experiments.conductor import LEASE, Conductor

        settings = self.settings.experiments
        lease = Lease(self.database, LEASE, settings.lease_seconds)
        return Conductor(self.experiments, self.judge, self.learner, lease, settings)

    def controller(self) -> Controller:
        """Return what brings rollouts forward and back; whoever starts it closes it before the platform."""
        from crossfade.releases.announcing import Webhooks
        from crossfade.releases.checks.measuring import Measurer
        from crossfade.releases.controller import LEASE, Controller
        from crossfade.releases.surroundings import Surroundings
        from crossfade.telemetry.prometheus import open_prometheus

        settings = self.settings
        secret, patience = settings.releases.webhook_secret.get_secret_value(), settings.serving.ready_timeout_seconds
        webhooks = Webhooks(self.channels, secret) if secret else None
        prometheus = open_prometheus(settings.telemetry)
        return Controller(
            self.rollouts,
            self.database,
            Surroundings(self.database, _subjects(self.registry, self.database), self.fleet, patience, self._emergency),
            Measurer(self.database, self.health, self.experiments, prometheus, webhooks),
            Lease(self.database, LEASE, settings.releases.lease_seconds),
            settings.releases,
        )

    def _emergency(self, rollout: Rollout) -> str:
        """Say which emergencies a rollout's subject is in, as this process knows."""
        guards = None if self.runtime is None else self.runtime.warden.guards
        if guards is None:
            return ""
        # a name that no model has: of configs, only what is about everything counts
        found = guards.emergencies(rollout.subject if rollout.kind == ModelSubject.kind else "-")
        return ", ".join(f"{item.scope}={item.mode} by {item.started_by}: {item.reason}" for item in found)

    def evaluator(self) -> Evaluator:
        """Return what evaluates alert rules; whoever starts it closes it before the platform."""
        from crossfade.alerts.evaluator import LEASE, Evaluator
        from crossfade.alerts.sources import standard_sources

        lease = Lease(self.database, LEASE, self.settings.alerts.lease_seconds)
        evaluator = Evaluator(
            self.database,
            self.settings,
            self.channels,
            lease,
            health=self.health,
            metrics=None if self.runtime is None else self.runtime.predictions.metrics,
            sources=standard_sources(self.database, self.experiments, self.judge, self.safety, self.configs),
        )
        if self.runtime is not None:
            self.runtime.measure_alerts(lambda: evaluator.firing, lambda: self.channels.counts)
        return evaluator

    def messenger(self) -> Messenger:
        """Return what brings messages to channels; whoever starts it closes it before the platform."""
        from crossfade.notifications.messenger import LEASE, LEASE_SECONDS, Messenger

        lease = Lease(self.database, LEASE, LEASE_SECONDS)
        return Messenger(self.database, self.channels, lease, self.settings.alerts.keep_seconds)

    def deployment_keeper(self) -> DeploymentKeeper:
        """Return what sees to it that deployments come up; whoever starts it closes it before the platform."""
        from crossfade.releases.deployment_keeper import LEASE, LEASE_SECONDS, DeploymentKeeper

        lease = Lease(self.database, LEASE, LEASE_SECONDS)
        return DeploymentKeeper(self.deployments, lease, self.settings.serving.ready_timeout_seconds)

    def close(self) -> None:
        """Close everything, last opened first. Closing twice does nothing."""
        self._opened.close()

    def __enter__(self) -> Self:
        """Return the open platform."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close everything."""
        self.close()


def open_platform(settings: Settings | None = None, *, serve: bool = False) -> Platform:
    """Open everything that the settings describe; what was opened is closed again when something fails on the way.

    Args:
        settings: By default what environment and `crossfade.toml` say.
        serve: Also load and serve versions in this process.

    Raises:
        SettingsError: A setting cannot be used.
        UnavailableError: A database or blob store does not answer.

    Example:
        >>> with open_platform() as platform:  # doctest: +SKIP
        ...     platform.registry.resolve("churn@champion").version
        '1.2.0'
    """
    settings = settings or Settings.load()
    with ExitStack() as opening:
        database = open_known_database(settings, pool_size=settings.storage.pool_size)
        opening.callback(database.close)
        _migrate(settings, database, serve=serve)
        blobs = open_blobs(settings)
        opening.callback(blobs.close)
        registry = open_registry(settings.registry, database, blobs)
        opening.callback(registry.backend.close)
        fleet = Fleet(database, settings.serving)
        invalidation = AnswerInvalidation(registry, database, fleet)
        jobs = JobStore(registry, database, settings.jobs)
        readiness = Readiness(fleet, settings.serving.ready_timeout_seconds)
        experiments = ExperimentStore(registry, database, readiness)
        deployments = DeploymentStore(
            registry, database, fleet, HealthLog(database), lambda terms: _fitting(settings, terms)
        )
        channels = Channels(settings.notifications)
        opening.callback(channels.close)
        subjects = _subjects(registry, database)
        rollouts = RolloutStore(
            database, subjects, readiness, tell=_telling(channels), objection=_reach(settings, channels).objection
        )
        latch = ChampionLatch(database, subjects["model"])
        switch = AliasSwitch(registry, fleet, settings.serving, latch)
        judge = Judge(experiments, database, switch, releases=Shipping(rollouts))
        alerts = AlertStore(database, settings, channels)
        safety = SafetyStore(registry, database, settings.home, fleet.live, fleet.wait_revision)
        ledger = Ledger(database, settings.ledger, settings.ledger_folder, fold)
        opening.callback(ledger.close)
        learner = Learner(experiments, database, behind_seconds=ledger.counts.oldest_unshipped_seconds)
        runtime = _start_serving(settings, database, registry, ledger, opening) if serve else None
        predictors = PredictorOpener(registry, None if runtime is None else runtime.open_model)
        configs = open_desk(settings, database, registry, predictors.open, opening, serve=serve)
        if runtime is not None and configs.follower is not None:
            report_soon = runtime.report_configs(configs.follower.moved)
            configs.follower.subscribe(lambda _names: report_soon())
        return Platform(
            settings,
            database,
            registry,
            fleet,
            switch,
            invalidation,
            jobs,
            experiments,
            deployments,
            judge,
            learner,
            channels,
            alerts,
            safety,
            configs,
            ledger,
            HealthLog(database),
            rollouts,
            runtime,
            opening.pop_all(),
        )


def open_known_database(settings: Settings, *, pool_size: int) -> Database:
    """Open the database of the settings. Where this machine has served from it, none is made in its place.

    Raises:
        SettingsError: The URL names no database that is supported.
        DatabaseUnavailableError: The SQLite file cannot be opened.
    """
    witness = LastKnownGood(settings.home, settings.database_url).witness()
    return open_database(settings.database_url, pool_size=pool_size, witness=witness)


class PredictorOpener:
    """Loads versions for a while; where this process serves, code runs in a process of its own.

    Args:
        registry: Where versions are.
        open_model: How the serving part of this process opens one; None: into this process.
    """

    def __init__(self, registry: Registry, open_model: ModelOpener | None) -> None:
        self._registry = registry
        self._open_model = open_model

    @contextmanager
    def open(self, ref: str) -> Iterator[Predictor]:
        """Open the version that a reference means for as long as the `with` block lasts.

        Raises:
            CrossfadeError: There is no such version, or it cannot be loaded.
        """
        version = self._registry.resolve(ref)
        manifest = self._registry.manifest(version.ref)
        info = PredictorInfo(version, manifest.signature, self._registry.card(version.ref))
        if self._open_model is None:
            yield Predictor(info, self._registry.load(version.ref).predict)
            return
        with self._open_model(manifest) as opened:
            yield Predictor(info, opened.predict)


def _migrate(settings: Settings, database: Database, *, serve: bool) -> None:
    """Bring the database to this release; a process that knows what to serve anyway does so when it is back."""
    try:
        migrate(database)
    except DatabaseUnavailableError:
        if not serve or LastKnownGood(settings.home, settings.database_url).find() is None:
            raise


def _fitting(settings: Settings, terms: Deployed) -> int:
    from crossfade.serving.replicas.local import fitting  # most commands deploy nothing

    return fitting(settings, terms)


def _start_serving(
    settings: Settings, database: Database, registry: Registry, ledger: Ledger, opening: ExitStack
) -> ServingRuntime:
    from crossfade.serving.runtime import ServingRuntime

    runtime = ServingRuntime(registry.backend, database, settings, record=ledger.expose)
    opening.callback(runtime.close)
    ledger.start()  # also for what processes that have ended left behind
    runtime.measure_events(ledger.counts)
    runtime.start()
    return runtime


def _reach(settings: Settings, channels: Channels) -> Reach:
    secret = settings.releases.webhook_secret.get_secret_value()
    return Reach(channels, secret, prometheus=bool(settings.telemetry.prometheus_url))


def _telling(channels: Channels) -> Tell:
    """Return what has channels told of rollouts."""

    def tell(connection: Connection, rollout: Rollout) -> None:
        now = utc_now()
        event = event_of(rollout, now)
        post(connection, event, channels.of(event.severity), now)

    return tell


def load(ref: str, *, server: str | None = None, settings: Settings | None = None) -> Predictor:
    """Return a predictor for the version that `ref` means now.

    Args:
        ref: Any spelling: `flight_delay` (its champion), `flight_delay:1.1.0`, `flight_delay@challenger`.
        server: The address of a server that shall compute; by default the model is loaded into this process. The
            connections to it close when the predictor is no longer used.
        settings: Of the local platform.

    Raises:
        NotFoundError: There is no such version.
        UnsafeError: Its bytes are damaged, or it cannot be loaded here.

    Example:
        >>> predictor = load("flight_delay@champion")  # doctest: +SKIP
        >>> predictor.predict(flights, probabilities=True)  # doctest: +SKIP
    """
    if server is not None:
        return _load_remote(ref, server)
    with open_platform(settings) as platform:
        version = platform.registry.resolve(ref)
        pipeline = platform.registry.load(version.ref)
        info = PredictorInfo(version, pipeline.signature, platform.registry.card(version.ref))
    return Predictor(info, pipeline.predict)


def _load_remote(ref: str, server: str) -> Predictor:
    from crossfade.client import Client

    client = Client(server)
    try:
        predictor = client.load(ref)
    except BaseException:
        client.close()
        raise
    weakref.finalize(predictor, client.close)
    return predictor

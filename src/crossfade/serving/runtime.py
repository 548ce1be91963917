"""`ServingRuntime`: everything that serves predictions in one process, wired together."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from crossfade.errors import NotServedError
from crossfade.ledger.event_counts import EventCounts
from crossfade.ledger.events import Exposure
from crossfade.registry.port import RegistryBackend
from crossfade.registry.publication import trust_policy
from crossfade.registry.registry import Registry
from crossfade.registry.requests import CacheStatus
from crossfade.safety.rules import PRINCIPAL, Emergency
from crossfade.safety.specs import Mode
from crossfade.safety.store import SafetyStore
from crossfade.safety.violations import ViolationLog
from crossfade.safety.warden import Warden
from crossfade.serving.cache import cache_status, open_response_cache
from crossfade.serving.enrolment import Enroller, Record
from crossfade.serving.flags import FlagService
from crossfade.serving.guarding import Protector
from crossfade.serving.health import HealthReporter
from crossfade.serving.holding import HeldVersion, Holder
from crossfade.serving.isolation.nursery import open_nursery
from crossfade.serving.loader import Loader
from crossfade.serving.measurements import Measurements
from crossfade.serving.naming import unknown_models
from crossfade.serving.observing import open_observer
from crossfade.serving.opening import Opener, VersionOpener
from crossfade.serving.prediction import PredictionService
from crossfade.serving.replicas.local import LocalRunner
from crossfade.serving.slots import SlotTable
from crossfade.settings import Settings
from crossfade.storage.database import Database
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.follower import SnapshotFollower
from crossfade.traffic.health import HealthLog
from crossfade.traffic.heartbeat import Heartbeat
from crossfade.traffic.last_known_good import LastKnownGood
from crossfade.traffic.machine import new_process_id
from crossfade.traffic.snapshot import Snapshot

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.01


def _keep_nothing(_exposure: Exposure) -> None:
    """Stand in for a ledger where there is none."""


class ServingRuntime:
    """Follows the registry, holds what it asks for, and reports to the other processes.

    Args:
        backend: Where versions come from.
        database: What is followed.
        settings: All settings; `serving`, `registry` and `cache` matter here.
        opener: Loads a version; by default from the backend, as far as the settings trust it.
        record: Keeps exposures to experiments; must not block, and must not raise.

    Attributes:
        predictions: What answers.
        flags: What evaluates flags.
        warden: The safety rules of this process.
        open_model: Loads a version for a while, apart from what is served.

    Example:
        >>> runtime.start()  # doctest: +SKIP
        >>> runtime.await_ready(timeout=60)  # doctest: +SKIP
    """

    def __init__(
        self,
        backend: RegistryBackend,
        database: Database,
        settings: Settings,
        opener: Opener | None = None,
        record: Record = _keep_nothing,
    ) -> None:
        serving = settings.serving
        self.slots = SlotTable()
        kept = LastKnownGood(settings.home, settings.database_url)
        process = new_process_id()
        self.follower = SnapshotFollower(backend, database, serving, kept, process)
        self._nursery = open_nursery(settings)
        policy = trust_policy(settings.registry)
        runner = LocalRunner(backend.blobs, policy, settings, self._nursery)
        versions = VersionOpener(backend, policy, serving, self._nursery, runner)
        self.open_model = versions.open_model
        self._loader = Loader(self.slots, opener or versions.open, serving)
        self._heartbeat = Heartbeat(
            Fleet(database, serving),
            serving,
            self._loader.report,
            deployments=self._loader.deployments,
            process=process,
        )
        self._loader.on_changed = self._heartbeat.report_soon
        self._cache = open_response_cache(settings, database)
        self._settings = settings
        self._observer = open_observer(settings, database)
        self._measurements = Measurements(self.slots, self.follower, self._loader, self._cache)
        if self._observer is not None:
            self._measurements.traces = self._observer.traces
            self._measurements.captured_rows = self._observer.captured_rows
        self.warden = _open_warden(backend, database, settings)
        self._measurements.violations = self.warden.log
        self._measurements.emergencies = self._emergencies
        protector = Protector(self.warden, self.slots)
        enroller = Enroller(self.slots, record, protector)
        self._measurements.shadows = enroller.shadows
        self._measurements.exposures = enroller.exposures
        self.predictions = PredictionService(
            self.follower,
            self.slots,
            self._measurements,
            backend,
            database,
            serving,
            self._cache,
            self._holder(enroller, protector),
        )
        self.flags = FlagService(self.follower, enroller)
        self._health = HealthReporter(self.slots, self.predictions.missed, HealthLog(database), self.process)
        self.follower.subscribe(self._apply)
        self.slots.subscribe(self._heartbeat.report_soon)

    @property
    def process(self) -> str:
        """The id that this process reports itself under."""
        return self._heartbeat.process

    def cache_status(self) -> CacheStatus:
        """Say what the response cache of this process keeps, and what was found in it."""
        return cache_status(self._settings.cache, self._cache, self.slots.all().values())

    def warnings(self) -> list[str]:
        """Say what this process does without although it should not: predictions go on meanwhile."""
        found = unknown_models(self._settings, self.follower.snapshot.models)
        found += [] if self._observer is None else self._observer.problems()
        return found + ([] if self._cache is None else self._cache.problems())

    def start(self) -> None:
        """Read the first snapshot, and begin to load what it asks for.

        Raises:
            DatabaseUnavailableError: The database does not answer, and nothing is known from before.
        """
        self.follower.start()
        for problem in unknown_models(self._settings, self.follower.snapshot.models):
            _log.warning(problem)
        self.warden.start()
        self._loader.start()
        self._heartbeat.start()
        self._health.start()

    def share_measurements(self, folder: Path, place: str) -> None:
        """Add up metrics with the other workers of this server; see `Measurements.share`."""
        self._measurements.share(folder, place)

    def measure_events(self, counts: EventCounts) -> None:
        """Show what becomes of exposures and outcomes among the metrics."""
        self._measurements.events = counts

    def measure_alerts(
        self,
        firing: Callable[[], Mapping[tuple[str, str, str], int]],
        told: Callable[[], Mapping[tuple[str, str], int]],
    ) -> None:
        """Show what fires, and who was told, among the metrics."""
        self._measurements.firing, self._measurements.told = firing, told

    def report_configs(self, moved: Callable[[], dict[str, int]]) -> Callable[[], None]:
        """Say of this process by which revision it answers readers of configs.

        Args:
            moved: Returns that, of those that a rollout moves.

        Returns:
            What to call when it has changed.
        """
        self._heartbeat.configs = moved
        return self._heartbeat.report_soon

    def await_ready(self, timeout: float) -> None:
        """Wait until every champion answers.

        Raises:
            NotServedError: One does not after `timeout` seconds; says why.
        """
        deadline = time.monotonic() + timeout
        while unready := self.predictions.unready():
            if time.monotonic() > deadline:
                ref, _, problem = unready[0].partition(": ")
                raise NotServedError(ref=ref, problem=problem)
            time.sleep(_LOOK_SECONDS)

    def close(self) -> None:
        """Leave the fleet, and stop. Requests must have ended before."""
        with ExitStack() as closing:  # the last first; whatever fails, the others are closed
            if self._observer is not None:
                closing.callback(self._observer.close)
            parts = (
                self._measurements,
                self._nursery,
                self._loader,
                self.warden,
                self.follower,
                self._heartbeat,
                self._health,
            )
            for part in parts:
                closing.callback(part.close)

    def _holder(self, enroller: Enroller, protector: Protector) -> Holder:
        if self._observer is None:
            return Holder(enroller, HeldVersion, protector)
        return Holder(enroller, self._observer.hold, protector, self._observer.refused)

    def _emergencies(self) -> list[Emergency]:
        guards = self.warden.guards
        return [] if guards is None else guards.emergencies()

    def _apply(self, snapshot: Snapshot) -> None:
        self.warden.follow(snapshot.safety, snapshot.revision)
        self._loader.aspire(snapshot)
        if self._cache is not None:
            self._cache.catch_up()
        self._heartbeat.report_soon()


def _open_warden(backend: RegistryBackend, database: Database, settings: Settings) -> Warden:
    """Return what keeps the safety rules of this process."""
    registry = Registry(backend)
    store = SafetyStore(registry, database, settings.home, tuple, lambda _revision, _seconds: ())

    def declare(model: str, mode: Mode, reason: str) -> int:
        return store.begin_emergency(reason, mode=mode, model=model, principal=PRINCIPAL, wait=False).revision

    log = ViolationLog(database, settings.safety)
    return Warden(settings.home, log, declare, settings.safety.poll_seconds)

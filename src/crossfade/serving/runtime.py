"""`ServingRuntime`: everything that serves predictions in one process, wired together."""

from __future__ import annotations

import time

from crossfade.errors import NotServedError
from crossfade.registry.port import RegistryBackend
from crossfade.registry.publication import trust_policy
from crossfade.registry.requests import CacheStatus
from crossfade.serving.cache import cache_status, open_response_cache
from crossfade.serving.loader import Loader
from crossfade.serving.measurements import Measurements
from crossfade.serving.opening import Opener, registry_opener
from crossfade.serving.prediction import PredictionService
from crossfade.serving.slots import SlotTable
from crossfade.settings import Settings
from crossfade.storage.database import Database
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.follower import SnapshotFollower
from crossfade.traffic.heartbeat import Heartbeat
from crossfade.traffic.snapshot import Snapshot

_LOOK_SECONDS = 0.01


class ServingRuntime:
    """Follows the registry, holds what it asks for, and reports to the other processes.

    Args:
        backend: Where versions come from.
        database: What is followed.
        settings: All settings; `serving`, `registry` and `cache` matter here.
        opener: Loads a version; by default from the backend, as far as the settings trust it.

    Attributes:
        predictions: What answers.

    Example:
        >>> runtime.start()  # doctest: +SKIP
        >>> runtime.await_ready(timeout=60)  # doctest: +SKIP
    """

    def __init__(
        self, backend: RegistryBackend, database: Database, settings: Settings, opener: Opener | None = None
    ) -> None:
        serving = settings.serving
        self.slots = SlotTable()
        self.follower = SnapshotFollower(backend, database, serving)
        opener = opener or registry_opener(backend, trust_policy(settings.registry), serving)
        self._loader = Loader(self.slots, opener, serving)
        self._heartbeat = Heartbeat(Fleet(database, serving), serving, self._loader.report)
        self._cache = open_response_cache(settings, database)
        self._cache_settings = settings.cache
        measurements = Measurements(self.slots, self.follower, self._loader, self._cache)
        self.predictions = PredictionService(
            self.follower, self.slots, measurements, backend, database, serving, self._cache
        )
        self.follower.subscribe(self._apply)
        self.slots.subscribe(self._heartbeat.report_soon)

    @property
    def process(self) -> str:
        """The id that this process reports itself under."""
        return self._heartbeat.process

    def cache_status(self) -> CacheStatus:
        """Say what the response cache of this process keeps, and what was found in it."""
        return cache_status(self._cache_settings, self._cache, self.slots.all().values())

    def start(self) -> None:
        """Read the first snapshot, and begin to load what it asks for.

        Raises:
            DatabaseUnavailableError: The database does not answer.
        """
        self.follower.start()
        self._loader.start()
        self._heartbeat.start()

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
        self._heartbeat.close()
        self.follower.close()
        self._loader.close()

    def _apply(self, snapshot: Snapshot) -> None:
        self._loader.aspire(snapshot)
        self._heartbeat.report_soon()

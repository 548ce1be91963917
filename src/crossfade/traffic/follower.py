"""`SnapshotFollower`: keeps this process on the newest snapshot by polling the revision.

The poll is the truth: it needs no message to arrive; PostgreSQL's only make it look earlier. Snapshots only ever move
forward. While the database is away the last snapshot stays in use, for as long as it takes, and `age_seconds` tells.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from crossfade.core.clock import utc_now
from crossfade.errors import DatabaseUnavailableError, UnavailableError
from crossfade.registry.port import RegistryBackend
from crossfade.settings import ServingSettings
from crossfade.storage.database import Database
from crossfade.storage.hints import Hints
from crossfade.traffic.allocation.decisions import Tally
from crossfade.traffic.last_known_good import LastKnownGood
from crossfade.traffic.routing import Router
from crossfade.traffic.snapshot import Snapshot, SnapshotSource

_log = logging.getLogger(__name__)

Listener = Callable[[Snapshot], None]


class SnapshotFollower:
    """Follows the database from a thread of its own.

    Args:
        backend: What routes are made of.
        database: What is followed.
        settings: How often it is asked.
        kept: Where the newest snapshot is kept for a start without the database.
        process: The id that this process reports itself under.

    Attributes:
        snapshot: The one in use: read it once per request.
        tally: Counts assignments that had to fall back.
        away: Whether the newest revision could not be read when it was last asked for.
    """

    def __init__(
        self,
        backend: RegistryBackend,
        database: Database,
        settings: ServingSettings,
        kept: LastKnownGood | None = None,
        process: str = "",
    ) -> None:
        self._process = process
        self.snapshot = Snapshot()
        self.tally = Tally()
        self.away = False
        self._kept = kept
        self._from_file = False
        self._source = SnapshotSource(backend, database, keep_previous=settings.keep_previous)
        self._hints = Hints(database)
        self._poll_seconds = settings.snapshot_poll_seconds
        self._listeners: list[Listener] = []
        self._one_at_a_time = threading.Lock()
        self._confirmed_at = time.monotonic()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="crossfade-follower", daemon=True)

    @property
    def age_seconds(self) -> float:
        """How long ago the database last confirmed that the snapshot is the newest."""
        return time.monotonic() - self._confirmed_at

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` with every new snapshot, on the thread that found it. Subscribe before `start`."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Read the first snapshot, then keep following. While the database is away, begin with the last known good one.

        Raises:
            DatabaseUnavailableError: There is no first snapshot to be had.
        """
        try:
            self.refresh()
        except DatabaseUnavailableError as error:
            if not self._begin_with_kept():
                raise
            self.away = True
            _log.warning(
                "started at revision %d, the last known good: %s; %s", self.snapshot.revision, error, error.hint
            )
        self._thread.start()

    def refresh(self) -> Snapshot:
        """Look now instead of at the next poll; returns the newest snapshot after the listeners have seen it.

        Raises:
            DatabaseUnavailableError: The database does not answer; the last snapshot stays in use.
        """
        with self._one_at_a_time:
            asked_at = time.monotonic()
            known, revision = self.snapshot, self._source.revision()
            if self._from_file or revision > known.revision:
                # what a file said is not built upon: the database may have been restored to another state
                whole = self._from_file or known.revision < 0
                self._use(self._source.read(revision) if whole else self._source.follow(known, revision))
                self._from_file = False
                if self._kept is not None:
                    if whole:
                        self._kept.give_way(revision)
                    self._kept.keep(self.snapshot)
            self._confirmed_at = asked_at
            self.away = False
            if self._kept is not None:
                self._kept.confirm()
            return self.snapshot

    def close(self) -> None:
        """Stop following; the last snapshot stays."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        self._hints.close()

    def _use(self, snapshot: Snapshot) -> None:
        self.snapshot = self._routed(snapshot)
        for listener in self._listeners:
            listener(self.snapshot)

    def _routed(self, snapshot: Snapshot) -> Snapshot:
        return replace(snapshot, router=Router(snapshot.traffic, utc_now(), self.tally, self._process))

    def _turn(self) -> None:
        """Compile the routes again when a schedule or a ramp wants it; the database need not be there for that."""
        due_at = self.snapshot.router.due_at
        if due_at is not None and due_at <= utc_now():
            with self._one_at_a_time:
                self.snapshot = self._routed(self.snapshot)

    def _begin_with_kept(self) -> bool:
        found = None if self._kept is None else self._kept.find()
        if found is None:
            return False
        snapshot, age = found
        self._from_file = True
        self._confirmed_at = time.monotonic() - age
        self._use(snapshot)
        return True

    def _poll(self) -> None:
        told = False
        while self._hints.wait(self._poll_seconds, self._ending):
            try:
                self._turn()
                self.refresh()
            except Exception as error:  # noqa: BLE001 - fail-static: the last good snapshot keeps answering
                if not told:
                    deliberate = isinstance(error, UnavailableError)
                    _log.warning("the newest revision cannot be read: %s", error, exc_info=not deliberate)
                self.away = told = True
            else:
                if told:
                    _log.info("following the registry again at revision %d", self.snapshot.revision)
                told = False

"""`Ledger`: takes exposures and outcomes in this process, makes them durable, and brings them to the database.

- `expose` never waits and never fails. What it takes is written within 200 ms, which is what a kill may lose; how many
  of which experiment that were is known afterwards, and stored as a gap.
- `record` acknowledges outcomes only when they are durable.
- Everything else happens on two threads: one writes (`storage.journal`), one ships (`ledger.shipping`).

See `docs/decisions/0019-events-survive.md`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path

from crossfade.core.identity import new_id
from crossfade.errors import LedgerUnavailableError
from crossfade.ledger.event_counts import OUTCOME, EventCounts
from crossfade.ledger.events import Exposure, Outcome
from crossfade.ledger.feed import ExposureFeed
from crossfade.ledger.shipping import Fold, Shipper, nothing
from crossfade.ledger.validation import encode_outcomes
from crossfade.settings import LedgerSettings
from crossfade.storage.database import Database
from crossfade.storage.filesystem import LocalFileSystem
from crossfade.storage.journal import Journal
from crossfade.storage.segments import SEGMENT_BYTES

RECORD_SECONDS = 30.0
"""How long an acknowledgement is waited for: longer than any disk takes that will answer at all."""
_JOURNAL_END_SECONDS = 10.0
_SHIP_END_SECONDS = 5.0
_SEGMENTS_OF_A_SPOOL = 8


def now_us() -> int:
    """Return the present time in microseconds since 1970."""
    return time.time_ns() // 1000


class Ledger:
    """The ledger of one process. It touches nothing until it is started or gets its first event.

    Args:
        database: Where events end.
        settings: Of the ledger.
        folder: Where they wait for the database; processes may share it.
        fold: Updates what is derived from events; called inside the transaction that stores them, with those that are
            new.
        clock: Microseconds since 1970.

    Attributes:
        counts: What has become of events.

    Example:
        >>> ledger.expose(exposure)  # doctest: +SKIP
        >>> ledger.record([Outcome("f-1", now_us(), "landed_late", 1.0, decision=exposure.id)])  # doctest: +SKIP
        1
    """

    def __init__(
        self,
        database: Database,
        settings: LedgerSettings,
        folder: Path,
        fold: Fold = nothing,
        clock: Callable[[], int] = now_us,
    ) -> None:
        self.counts = EventCounts()
        self._settings = settings
        self._folder = folder
        self._clock = clock
        self._filesystem = LocalFileSystem()
        self._feed = ExposureFeed(folder, self.counts)
        segment_bytes = min(SEGMENT_BYTES, settings.max_spool_bytes // _SEGMENTS_OF_A_SPOOL)
        self._journal = Journal(self._filesystem, folder, new_id(), self._feed, self._room, segment_bytes)
        self._shipper = Shipper(
            database, self._filesystem, folder, self._journal, self._feed, self.counts, settings, fold
        )
        self._starting = threading.Lock()
        self._counting = threading.Lock()
        self._started = False
        self._closed = False

    def start(self) -> None:
        """Begin to write and to ship, also what processes that have ended left behind. Starting twice does nothing."""
        with self._starting:
            if not (self._started or self._closed):
                self._journal.start()
                self._shipper.start()
                self._started = True

    def expose(self, exposure: Exposure) -> None:
        """Take an exposure; never waits. One that cannot be kept is counted, and its experiment becomes incomplete."""
        self._feed.offer(exposure)
        if not self._started:
            self.start()
        self._journal.nudge()

    def record(self, outcomes: Sequence[Outcome]) -> int:
        """Record a batch, all of it or nothing, and return how many outcomes are durable. Not on an event loop.

        Recording an outcome again, by its id, changes nothing.

        Raises:
            TooManyOutcomesError: There are more than 10,000.
            InvalidOutcomesError: One cannot be recorded; says which, and why.
            LedgerUnavailableError: The disk or the spool is full, or the process is shutting down: not acknowledged.
        """
        payload = self._encode(outcomes)
        if payload is None:
            return 0
        try:
            self._journal.append(payload).result(RECORD_SECONDS)
        except futures.TimeoutError:
            raise LedgerUnavailableError(problem="the disk does not answer") from None
        return self._acknowledged(len(outcomes))

    async def record_async(self, outcomes: Sequence[Outcome]) -> int:
        """Do the same on an event loop.

        Raises:
            InvalidInputError, LedgerUnavailableError: As for `record`.
        """
        payload = self._encode(outcomes)
        if payload is None:
            return 0
        await self._journal.append_async(payload)
        return self._acknowledged(len(outcomes))

    def flush(self, timeout: float) -> None:
        """Wait until everything acknowledged so far is in the database.

        Raises:
            LedgerUnavailableError: It is not after `timeout` seconds.
        """
        if self._started and not self._shipper.flush(timeout):
            raise LedgerUnavailableError(problem="the database has not taken what waits for it")

    def close(self) -> None:
        """Take no more, write what waits, ship what can be shipped in a few seconds; the next process does the rest."""
        with self._starting:
            if self._closed:
                return
            self._closed = True
        self._feed.end()
        self._journal.close(_JOURNAL_END_SECONDS)
        if self._started:
            self._shipper.close(_SHIP_END_SECONDS)

    def _encode(self, outcomes: Sequence[Outcome]) -> bytes | None:
        if not outcomes:
            return None
        payload = encode_outcomes(outcomes, self._clock(), self._settings.retention_days)
        if not self._started:
            self.start()
        return payload

    def _acknowledged(self, count: int) -> int:
        with self._counting:
            self.counts.acked[OUTCOME] += count
            self.counts.spooled[OUTCOME] += count
        return count

    def _room(self) -> int:
        return self._settings.max_spool_bytes - self._shipper.spooled_bytes()

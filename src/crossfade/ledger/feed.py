"""`ExposureFeed`: exposures between the event loop and the journal, counted so that none is lost in silence."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path

from crossfade.ledger.event_counts import EXPOSURE, EventCounts
from crossfade.ledger.events import Exposure
from crossfade.ledger.mending import encodable
from crossfade.ledger.records import MAX_EXPOSURES, Began, Ended, Exposures, encode_record
from crossfade.ledger.tally import Counted, Tally, counted
from crossfade.storage.filesystem import LocalFileSystem, make_durable_folder
from crossfade.storage.locks import FileLock

_log = logging.getLogger(__name__)

MAX_WAITING = 50_000
"""Exposures in memory: some seconds of a busy process whose disk hangs."""


def lock_path(folder: Path, journal: str) -> Path:
    """Return the file that the process of a journal holds for as long as it lives."""
    return folder / f"{journal}.lock"


def tally_path(folder: Path, journal: str) -> Path:
    """Return the file with what the process of a journal has counted."""
    return folder / f"{journal}.tally"


class ExposureFeed:
    """Implements `storage.journal.Feed`.

    Args:
        folder: Of the journal.
        counts: What is counted for metrics.
        max_waiting: Exposures in memory.
    """

    def __init__(self, folder: Path, counts: EventCounts, max_waiting: int = MAX_WAITING) -> None:
        self._folder = folder
        self._counts = counts
        self._max_waiting = max_waiting
        self._waiting: deque[Exposure] = deque()
        self._tally = Tally()
        self._counting = threading.Lock()  # some callers are no event loop
        self._closed = False
        self._lock: FileLock | None = None
        self._written: Counter[str] = Counter()
        self._taken: Sequence[Exposure] = ()

    def offer(self, exposure: Exposure) -> None:
        """Take an exposure, or count that it was dropped."""
        with self._counting:
            tally = self._tally
            slot = tally.slot(exposure.experiment)
            tally.offered[slot] += 1
            if len(self._waiting) < self._max_waiting and not self._closed:
                self._waiting.append(exposure)
                self._counts.acked[EXPOSURE] += 1
            else:
                tally.dropped[slot] += 1
                self._counts.dropped[EXPOSURE] += 1

    def tally(self) -> Counted:
        """Return what has been counted so far."""
        with self._counting:
            content = self._tally.copy()
        return counted(content)

    def end(self) -> None:
        """Take no more."""
        self._closed = True

    def close(self, *, delete: bool) -> None:
        """Let go of the files beside the journal, and delete them when nobody needs them any more."""
        with self._counting:
            self._tally.close()
        lock, self._lock = self._lock, None
        if lock is not None:
            if delete:
                tally_path(self._folder, self._journal).unlink(missing_ok=True)
            lock.release(delete=delete)

    # --- what the journal asks ---

    def open(self, journal: str) -> None:
        """Make the folder, and in it the lock that says that this process lives and the tally that outlives it."""
        self._journal = journal
        make_durable_folder(LocalFileSystem(), self._folder)
        if self._lock is None:
            self._lock = FileLock.make(lock_path(self._folder, journal))
        with self._counting:
            self._tally.keep(tally_path(self._folder, journal))

    def opening(self) -> bytes:
        """Say which journal this is, and what has been written before."""
        return encode_record(Began(dict(self._written)))

    def closing(self) -> bytes:
        """Say that nothing is missing behind."""
        return encode_record(Ended())

    def waits(self) -> bool:
        """Tell whether there are exposures."""
        return bool(self._waiting or self._taken)

    def take(self) -> bytes | None:
        """Return a record with the next exposures."""
        while self._waiting:
            count = min(len(self._waiting), MAX_EXPOSURES)
            events = [self._waiting.popleft() for _ in range(count)]
            try:
                payload = encode_record(Exposures(events))
            except Exception:  # noqa: BLE001 - whatever somebody put into one must not cost the others
                events = self._usable(events)
                if not events:
                    continue
                payload = encode_record(Exposures(events))
            self._taken = events
            return payload
        return None

    def settle(self, *, written: bool) -> None:
        """Count what became of the exposures that were taken."""
        events, self._taken = self._taken, ()
        if written:
            self._written.update(each.experiment for each in events)
            self._counts.spooled[EXPOSURE] += len(events)
            return
        with self._counting:
            for each in events:
                self._tally.dropped[self._tally.slot(each.experiment)] += 1
            self._counts.dropped[EXPOSURE] += len(events)

    def synced(self, frames: int) -> None:
        """Note which frames a torn end cannot have taken."""
        self._tally.synced(frames)

    def _usable(self, events: list[Exposure]) -> list[Exposure]:
        """Return those that can be written, and count the others."""
        usable: list[Exposure] = []
        for each in events:
            try:
                mended = encodable(each)
                encode_record(Exposures([mended]))
            except Exception as error:  # noqa: BLE001 - see above
                _log.warning("an exposure of `%s` cannot be written: %s", each.experiment, error)
                with self._counting:
                    self._tally.dropped[self._tally.slot(each.experiment)] += 1
                    self._counts.dropped[EXPOSURE] += 1
            else:
                usable.append(mended)
        return usable

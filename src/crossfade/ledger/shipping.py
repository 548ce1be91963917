"""`Shipper`: brings the events of this process, and of processes that have ended, from their journals to the database.

What is new, what follows from it, how far the journal has been read and what is missing are one transaction. Whatever
is brought twice is known by its id, so a crash anywhere, and several shippers at once, change nothing. Files are
deleted after their events are committed.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Connection

from crossfade.errors import UnavailableError
from crossfade.ledger.conflicts import refuse_conflicts
from crossfade.ledger.event_counts import EXPOSURE, OUTCOME, EventCounts
from crossfade.ledger.events import Exposure, Outcome
from crossfade.ledger.feed import ExposureFeed, lock_path, tally_path
from crossfade.ledger.gaps import Gap, note_gaps
from crossfade.ledger.shipment import Cargo, Shipment
from crossfade.ledger.store import Place, add_exposures, add_outcomes, find_place, forget_journals, move_place
from crossfade.ledger.upkeep import Upkeep
from crossfade.settings import LedgerSettings
from crossfade.storage.database import Database
from crossfade.storage.filesystem import FileSystem
from crossfade.storage.journal import Journal
from crossfade.storage.locks import FileLock
from crossfade.storage.segments import list_segments, segment_name

_log = logging.getLogger(__name__)

Fold = Callable[[Connection, Sequence[Exposure], Sequence[Outcome]], Mapping[str, int]]
"""Updates what is derived from events, inside the transaction that stores them, with those that are new; returns how
many could not be used, by reason."""

_LONGEST_PAUSE_SECONDS = 5.0
_LOOK_SECONDS = 0.01
_JOURNAL_FILE = re.compile(r"([0-9a-f-]{36})(?:-[0-9]{8}\.log|\.tally|\.lock)")


def nothing(_connection: Connection, _exposures: Sequence[Exposure], _outcomes: Sequence[Outcome]) -> Mapping[str, int]:
    """Derive nothing from events."""
    return {}


class Shipper:
    """Ships on a thread of its own.

    Args:
        database: Where to.
        filesystem: Of the folder.
        folder: Where journals are.
        journal: Of this process.
        feed: Of that journal.
        counts: What is counted for metrics.
        settings: Of the ledger.
        fold: Called with new events.
    """

    def __init__(
        self,
        database: Database,
        filesystem: FileSystem,
        folder: Path,
        journal: Journal,
        feed: ExposureFeed,
        counts: EventCounts,
        settings: LedgerSettings,
        fold: Fold,
    ) -> None:
        self._database = database
        self._filesystem = filesystem
        self._folder = folder
        self._journal = journal
        self._feed = feed
        self._counts = counts
        self._poll_seconds = settings.poll_seconds
        self._fold = fold
        self._own = Shipment(filesystem, folder, journal.id)
        self._upkeep = Upkeep(database, settings)
        self._noted = 0
        self._adopted: dict[str, tuple[Shipment, FileLock]] = {}
        self._unreadable: set[str] = set()
        self._others_bytes = 0
        self._away = False
        self._pause = self._poll_seconds
        self._wake = threading.Event()
        self._ending = False
        self._give_up_at = float("inf")
        self._thread = threading.Thread(target=self._run, name="crossfade-shipper", daemon=True)

    def start(self) -> None:
        """Begin to ship."""
        self._thread.start()

    def spooled_bytes(self) -> int:
        """Return how many bytes of journals are in the folder."""
        return sum(self._journal.segments().values()) + self._others_bytes

    def flush(self, timeout: float) -> bool:
        """Wait until everything that has been taken is in the database; tell whether it is."""
        deadline = time.monotonic() + timeout
        while self._feed.waits():
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_SECONDS)
        until = self._journal.written
        while (self._own.place.segment, self._own.place.position) < until:
            if time.monotonic() > deadline:
                return False
            self._wake.set()
            time.sleep(_LOOK_SECONDS)
        return True

    def close(self, timeout: float) -> None:
        """Ship the rest if that takes no longer than `timeout`, and stop. The journal has been closed before."""
        self._give_up_at = time.monotonic() + timeout
        self._ending = True
        self._wake.set()
        self._thread.join(2 * timeout)

    # --- the thread ---

    def _run(self) -> None:
        while not self._ending:
            worked = self._attempt(self._pass)
            if not worked:
                self._wake.wait(self._pause)
                self._wake.clear()
        while time.monotonic() < self._give_up_at and self._attempt(self._ship_own):
            pass
        finished = time.monotonic() < self._give_up_at and self._attempt(self._finish_own)
        self._feed.close(delete=finished)
        if finished and self._own.place.finished:
            self._attempt(self._forget_own)
        for _, lock in self._adopted.values():
            lock.release()

    def _attempt(self, work: Callable[[], bool]) -> bool:
        """Do something, and outlive whatever happens; tells whether there is more to do at once."""
        try:
            more = work()
        except Exception as error:  # noqa: BLE001 - events wait for as long as it takes
            if not self._away:
                bug = not isinstance(error, UnavailableError | OSError)
                _log.warning("events wait for the database: %s", error, exc_info=bug)
            self._away = True
            self._pause = min(2 * self._pause, max(self._poll_seconds, _LONGEST_PAUSE_SECONDS))
            self._upkeep.lost_contact()
            return False
        if more or not self._away:
            self._pause = self._poll_seconds
        return more

    def _pass(self) -> bool:
        more = self._ship_own()
        self._note_drops()
        more |= self._ship_others()
        self._upkeep.work(self._own.place if self._journal.written[0] else None, self._journal.id, self._present())
        if self._away:
            _log.info("the database takes events again")
            self._away, self._pause = False, self._poll_seconds
        return more

    # --- this process ---

    def _ship_own(self) -> bool:
        written, began = self._journal.written, time.monotonic()
        segments = {number: size for number, size in self._journal.segments().items() if number <= written[0]}
        if written[0] in segments:
            segments[written[0]] = written[1]
        if (self._own.place.segment, self._own.place.position) < written:
            self._counts.unshipped_since = self._counts.unshipped_since or began
        more = self._ship(self._own, segments)
        for number in segments:
            if number < self._own.place.segment:
                self._journal.forget(number)
        if (self._own.place.segment, self._own.place.position) >= written and not self._adopted:
            self._counts.unshipped_since = None if self._journal.written == written else began
        shipped = sum(size for number, size in segments.items() if number < self._own.place.segment)
        shipped += self._own.place.position if self._own.place.segment in segments else 0
        self._counts.spool_bytes = max(0, sum(segments.values()) - shipped) + self._others_bytes
        return more

    def _note_drops(self) -> None:
        """Store what had to be dropped; until the database takes it, the tally keeps it."""
        dropped = self._counts.dropped[EXPOSURE]
        if dropped != self._noted:
            gaps = [Gap(name, "dropped", count) for name, count in self._feed.tally().dropped.items()]
            with self._database.write() as connection:
                self._note(connection, self._own, gaps)
            self._noted = dropped

    def _finish_own(self) -> bool:
        """Store that nothing is missing behind the end, and delete the files; whatever is left, others find."""
        if not self._own.ended and self._journal.written[0]:
            return False
        self._note_drops()
        if self._journal.written[0]:
            self._finish(self._own, self._journal.segments())
        return True

    def _forget_own(self) -> bool:
        self._forget(self._own)
        return False

    # --- processes that have ended ---

    def _ship_others(self) -> bool:
        more, size = False, 0
        for journal in self._others():
            adopted = self._adopt(journal)
            segments = self._segments_of(journal)  # only now, as whoever wrote them may have ended just before
            if adopted is not None:
                try:
                    more |= self._ship_other(adopted, segments)
                except OSError as error:
                    self._complain(journal, error)
            size += sum(segments.values())
        self._others_bytes = size
        return more

    def _complain(self, journal: str, error: OSError) -> None:
        """Say once that files cannot be read or deleted; what they hold goes on counting as spooled."""
        if journal not in self._unreadable:
            self._unreadable.add(journal)
            _log.warning("the journal `%s` in %s cannot be shipped: %s", journal, self._folder, error)

    def _ship_other(self, shipment: Shipment, segments: dict[int, int]) -> bool:
        self._counts.unshipped_since = self._counts.unshipped_since or time.monotonic()
        more = self._ship(shipment, segments)
        if not more:
            self._finish(shipment, segments)
            _, lock = self._adopted.pop(shipment.journal)
            lock.release(delete=True)
            self._forget(shipment)
        return more

    def _adopt(self, journal: str) -> Shipment | None:
        """Take over the journal of a process that has ended; None while it lives, or others have taken it over."""
        if journal in self._adopted:
            return self._adopted[journal][0]
        lock = FileLock.take(lock_path(self._folder, journal))
        if lock is None:
            return None
        shipment = Shipment(self._filesystem, self._folder, journal)
        self._adopted[journal] = shipment, lock
        return shipment

    def _others(self) -> list[str]:
        """Return the journals of others that have files in the folder."""
        try:
            names = self._filesystem.list_names(self._folder)
        except FileNotFoundError:
            return []
        found = {match[1] for name in names if (match := _JOURNAL_FILE.fullmatch(name))}
        return sorted(found - {self._journal.id})

    def _segments_of(self, journal: str) -> dict[int, int]:
        """Return the sizes of the segments of a journal."""
        sizes = {}
        for number in list_segments(self._filesystem, self._folder).get(journal, []):
            with contextlib.suppress(FileNotFoundError):  # another process ships it, and is faster
                sizes[number] = self._filesystem.stat(self._folder / segment_name(journal, number)).size
        return sizes

    def _present(self) -> set[str]:
        return {self._journal.id, *self._adopted}

    # --- journals ---

    def _ship(self, shipment: Shipment, segments: Mapping[int, int]) -> bool:
        """Bring the next events of a journal to the database; tells whether there may be more."""
        if not shipment.known:
            with self._database.read() as connection:
                shipment.place = find_place(connection, shipment.journal) or Place()
            shipment.known = True
        cargo = Cargo(shipment.place, shipment.place) if shipment.place.finished else shipment.gather(segments)
        if not cargo.moves:
            return False
        with self._database.write() as connection:
            stored = find_place(connection, shipment.journal) or Place()
            if stored == cargo.start:
                exposures = add_exposures(connection, cargo.exposures)
                outcomes = add_outcomes(connection, cargo.outcomes)
                refused = Counter(self._fold(connection, exposures, outcomes))
                refused.update(refuse_conflicts(connection, cargo.outcomes, outcomes))
                move_place(connection, shipment.journal, cargo.place, _now_us())
                self._note(connection, shipment, cargo.gaps)
        if stored != cargo.start:
            shipment.known = False  # a commit that seemed to fail did not, or the database is an older copy of itself
            return True
        shipment.place = cargo.place
        self._counts.truncated_bytes += cargo.damaged_bytes
        self._counts.shipped[EXPOSURE] += len(exposures)
        self._counts.shipped[OUTCOME] += len(outcomes)
        for reason, count in refused.items():
            self._counts.refused[reason] += count
        return True

    def _finish(self, shipment: Shipment, segments: Mapping[int, int]) -> None:
        """Store what is missing of a journal that has been read to its end, then delete it."""
        if not shipment.place.finished:
            gaps = shipment.losses(segments)
            place = replace(shipment.place, finished=True)
            with self._database.write() as connection:
                move_place(connection, shipment.journal, place, _now_us())
                self._note(connection, shipment, gaps)
            shipment.place = place
        paths = [self._folder / segment_name(shipment.journal, number) for number in segments]
        for path in (*paths, tally_path(self._folder, shipment.journal)):
            with contextlib.suppress(FileNotFoundError):
                self._filesystem.unlink(path)

    def _forget(self, shipment: Shipment) -> None:
        """Forget a journal, after the last of its files is gone: what is left of it would look like a loss."""
        with self._database.write() as connection:
            forget_journals(connection, [shipment.journal])

    def _note(self, connection: Connection, shipment: Shipment, gaps: Sequence[Gap] | set[Gap]) -> None:
        note_gaps(connection, shipment.journal, gaps, shipment.began_us, _now_us())


def _now_us() -> int:
    return time.time_ns() // 1000

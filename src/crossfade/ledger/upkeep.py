"""`Upkeep`: what the ledger needs from time to time: being seen, missing others, letting go of old events."""

from __future__ import annotations

import time
from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from crossfade.ledger.gaps import EVERY, Gap, close_gap, note_gaps
from crossfade.ledger.retention import prune
from crossfade.ledger.store import Place, forget_journals, move_place, silent_journals
from crossfade.settings import LedgerSettings
from crossfade.storage.database import Database

SEEN_SECONDS = 60.0
"""How often a process says that its journal is still read."""
SILENT_SECONDS = 3600.0
"""A journal that nobody has read for so long may be lost with its machine."""
_CONTACT_SECONDS = 3 * SEEN_SECONDS
"""After the database was away, everybody is given this time to be seen again."""
_FORGET_SECONDS = 86_400.0
PRUNE_SECONDS = 86_400.0
_FIRST_PRUNE_SECONDS = 600.0


class Upkeep:
    """Does what is due, on the thread of the shipper.

    Args:
        database: Where events are.
        settings: How long they are kept.
    """

    def __init__(self, database: Database, settings: LedgerSettings) -> None:
        self._database = database
        self._retention_days = settings.retention_days
        self._seen_at = 0.0
        self._contact_since = time.monotonic()
        self._prune_at = time.monotonic() + _FIRST_PRUNE_SECONDS
        self._pruning: Iterator[int] | None = None
        self._unreachable: set[str] = set()

    def lost_contact(self) -> None:
        """Hear that the database was away."""
        self._contact_since = float("inf")

    def work(self, place: Place | None, journal: str, present: AbstractSet[str]) -> None:
        """Do what is due.

        Args:
            place: How far the journal of this process has been shipped; None while it has none.
            journal: Its id.
            present: Journals whose files this process can read.

        Raises:
            UnavailableError: The database does not answer.
        """
        now = time.monotonic()
        if self._contact_since == float("inf"):
            self._contact_since = now
        if now - self._seen_at >= SEEN_SECONDS:
            self._seen_at = now
            if place is not None:
                self._be_seen(place, journal)
            if now - self._contact_since >= _CONTACT_SECONDS:
                self.miss_others(present)
        if now >= self._prune_at:
            self._prune_a_page(now)

    def _be_seen(self, place: Place, journal: str) -> None:
        with self._database.write() as connection:
            move_place(connection, journal, place, _now_us())
            close_gap(connection, journal, "unreachable")

    def _prune_a_page(self, now: float) -> None:
        """Go on with deleting old events; events that wait to be shipped go first again after every page."""
        pruning = self._pruning or prune(self._database, _now_us() - int(self._retention_days * 86_400e6))
        self._pruning = None  # after a failure it begins again
        if next(pruning, None) is None:
            self._prune_at = now + PRUNE_SECONDS
        else:
            self._pruning = pruning

    def miss_others(self, present: AbstractSet[str]) -> None:
        """Store which journals nobody reads any more, and forget those that were finished long ago."""
        now_us = _now_us()
        with self._database.read() as connection:
            silent = silent_journals(connection, now_us - int(SILENT_SECONDS * 1e6))
        old = [name for name, at, finished in silent if finished and at < now_us - int(_FORGET_SECONDS * 1e6)]
        gone = {name: at for name, at, finished in silent if not finished and name not in present}
        new = {name: at for name, at in gone.items() if name not in self._unreachable}
        if old or new:
            with self._database.write() as connection:
                forget_journals(connection, old)
                for name, at in new.items():
                    note_gaps(connection, name, [Gap(EVERY, "unreachable", None)], at, now_us)
        self._unreachable = set(gone)


def _now_us() -> int:
    return time.time_ns() // 1000

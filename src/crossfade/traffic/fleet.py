"""`Fleet`: the serving processes as they report themselves through the database, and what they are asked to load.

Reports travel through the database, so that one process, four workers, replicas on many machines and a command line
that only shares the database all work alike. Clocks of the machines must agree to within a heartbeat.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import msgspec
from sqlalchemy import delete, insert, select

from crossfade.core.clock import Clock, utc_now
from crossfade.errors import LoadFailedError
from crossfade.registry.requests import ProcessStatus
from crossfade.settings import ServingSettings
from crossfade.storage.database import Database
from crossfade.storage.tables import processes
from crossfade.storage.times import from_text, to_text
from crossfade.traffic.candidates import Candidate, add_candidate, remove_candidate, sweep_candidates

READY = "ready"
FAILED = "failed"
"""Slot states as processes report them."""

_LOOK_SECONDS = 0.02
_MISSED = 3
"""Heartbeats that a process may miss before it counts as gone."""
_SWEPT = 30
"""Missed heartbeats after which its row is deleted: long enough for whoever waits for it to see that it died."""

T = TypeVar("T")


class Fleet:
    """All serving processes on one database.

    Example:
        >>> [process.revision for process in fleet.live()]  # doctest: +SKIP
        [41, 41]
    """

    def __init__(self, database: Database, settings: ServingSettings, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock
        self._stale_after = timedelta(seconds=_MISSED * settings.heartbeat_seconds)
        self._swept_after = timedelta(seconds=_SWEPT * settings.heartbeat_seconds)
        self._candidates_end_after = timedelta(seconds=2 * settings.ready_timeout_seconds)

    def revision(self) -> int:
        """Return the newest revision, which every live process will have before long."""
        return self._database.revision()

    def live(self) -> tuple[ProcessStatus, ...]:
        """Return the processes heard from within three heartbeats, oldest first.

        Raises:
            DatabaseUnavailableError: The database does not answer.
        """
        stale = self._clock() - self._stale_after
        return tuple(process for process in self._all() if process.seen_at > stale)

    def report(self, status: ProcessStatus) -> None:
        """Store what a process says about itself."""
        row = {
            "process": status.process,
            "host": status.host,
            "pid": status.pid,
            "started_at": to_text(status.started_at),
            "seen_at": to_text(status.seen_at),
            "revision": status.revision,
            "slots": msgspec.json.encode(status.slots).decode(),
        }
        with self._database.write() as connection:
            connection.execute(delete(processes).where(processes.c.process == status.process))
            connection.execute(insert(processes).values(row))

    def leave(self, process: str) -> None:
        """Forget a process that ends in good order."""
        with self._database.write() as connection:
            connection.execute(delete(processes).where(processes.c.process == process))

    def sweep(self) -> None:
        """Delete what the dead left behind: rows of processes, and candidates that nobody waits for any more."""
        now = self._clock()
        if any(process.seen_at < now - self._swept_after for process in self._all()):
            with self._database.write() as connection:
                connection.execute(delete(processes).where(processes.c.seen_at < to_text(now - self._swept_after)))
        sweep_candidates(self._database, before=now - self._candidates_end_after, now=now)

    def add_candidate(self, name: str, version: str, *, principal: str) -> Candidate:
        """Ask every process to load a version."""
        return add_candidate(self._database, name, version, principal=principal, now=self._clock())

    def remove_candidate(self, candidate: Candidate, *, principal: str) -> None:
        """Withdraw the request, unless somebody has asked for the same version again since."""
        remove_candidate(self._database, candidate, principal=principal, now=self._clock())

    def wait_ready(self, candidate: Candidate, timeout: float) -> tuple[ProcessStatus, ...]:
        """Wait until every live process has the candidate ready, and return them.

        Args:
            candidate: From `add_candidate`; what processes reported before they knew of it does not count.
            timeout: In seconds.

        Raises:
            LoadFailedError: One could not make it ready, died while it tried, or took longer than `timeout`.
        """
        members: set[str] = set()

        def ready() -> tuple[ProcessStatus, ...] | None:
            live = self.live()
            self._check_alive(candidate.ref, members, live)
            states = [_state(process, candidate) for process in live]
            for state, problem in states:
                if state == FAILED:
                    raise LoadFailedError(ref=candidate.ref, problem=problem)
            return live if all(state == READY for state, _ in states) else None

        found = _look_until(ready, timeout)
        if found is None:
            late = [
                f"{process.host}/{process.pid}" for process in self.live() if _state(process, candidate)[0] != READY
            ]
            problem = f"{', '.join(late)} did not have it ready within {timeout:g} seconds"
            raise LoadFailedError(ref=candidate.ref, problem=problem)
        return found

    def wait_revision(self, revision: int, timeout: float) -> tuple[ProcessStatus, ...]:
        """Wait until every live process answers from this revision or a later one.

        Returns:
            The live processes that still do not after `timeout` seconds; none when all is well.
        """

        def late() -> tuple[ProcessStatus, ...]:
            return tuple(process for process in self.live() if process.revision < revision)

        return late() if _look_until(lambda: True if not late() else None, timeout) is None else ()

    def _all(self) -> list[ProcessStatus]:
        query = select(processes).order_by(processes.c.started_at, processes.c.process)
        with self._database.read() as connection:
            return [
                ProcessStatus(
                    process=row.process,
                    host=row.host,
                    pid=row.pid,
                    started_at=from_text(row.started_at),
                    seen_at=from_text(row.seen_at),
                    revision=row.revision,
                    slots=msgspec.json.decode(row.slots, type=dict[str, tuple[str, str]]),
                )
                for row in connection.execute(query)
            ]

    def _check_alive(self, ref: str, members: set[str], live: tuple[ProcessStatus, ...]) -> None:
        """Fail when a member fell silent without saying goodbye: a version may kill the process that loads it."""
        present = {process.process for process in live}
        gone = members - present
        members |= present
        members -= gone
        for process in self._all() if gone else ():
            if process.process in gone:
                problem = f"process {process.host}/{process.pid} fell silent while it loaded the version"
                raise LoadFailedError(ref=ref, problem=problem)


def _state(process: ProcessStatus, candidate: Candidate) -> tuple[str, str]:
    return process.slots.get(candidate.ref, ("", "")) if process.revision >= candidate.revision else ("", "")


def _look_until(found: Callable[[], T | None], timeout: float) -> T | None:
    """Return the first answer of `found` that is not None, or None after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while (answer := found()) is None and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    return answer

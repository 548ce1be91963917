"""`Fleet`: the serving processes as they report themselves through the database, and what they are asked to load.

Reports travel through the database, so that one process, four workers, replicas on many machines and a command line
that only shares the database all work alike. Clocks of the machines must agree to within a heartbeat.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
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
from crossfade.traffic.candidates import Candidate, add_candidate, is_candidate, remove_candidate, sweep_candidates
from crossfade.traffic.deployed import DeploymentReport
from crossfade.traffic.machine import has_ended

READY = "ready"
FAILED = "failed"
"""Slot states as processes report them."""

_LOOK_SECONDS = 0.02
_MISSED = 3
"""Heartbeats that a process may miss before it counts as silent: nobody relies on it, but it may still answer."""
_ENDED = 6
"""Missed heartbeats after which one is forgotten that is known to have ended: long enough for a waiting switch to see
that it fell silent."""
_SWEPT = 30
"""Missed heartbeats after which any silent process counts as gone."""
_PATIENCE = 6
"""Heartbeats for which a switch waits for processes that were silent before it asked."""

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
        self._ended_after = timedelta(seconds=_ENDED * settings.heartbeat_seconds)
        self._swept_after = timedelta(seconds=_SWEPT * settings.heartbeat_seconds)
        self._patience = timedelta(seconds=_PATIENCE * settings.heartbeat_seconds)
        self._candidates_end_after = timedelta(seconds=2 * settings.ready_timeout_seconds)

    def revision(self) -> int:
        """Return the newest revision, which every live process will have before long."""
        return self._database.revision()

    def live(self) -> tuple[ProcessStatus, ...]:
        """Return the processes heard from within three heartbeats, oldest first.

        Raises:
            DatabaseUnavailableError: The database does not answer.
        """
        return tuple(process for process in self._all() if not self._is_silent(process))

    def members(self) -> tuple[ProcessStatus, ...]:
        """Return the processes that may be answering, oldest first: the live, and the silent until they count as gone.

        Raises:
            DatabaseUnavailableError: The database does not answer.
        """
        return tuple(process for process in self._all() if not self._is_gone(process))

    def report(self, status: ProcessStatus, deployments: tuple[DeploymentReport, ...] = ()) -> None:
        """Store what a process says about itself, and about the replicas that it keeps."""
        row = {
            "process": status.process,
            "host": status.host,
            "pid": status.pid,
            "started_at": to_text(status.started_at),
            "seen_at": to_text(status.seen_at),
            "revision": status.revision,
            "slots": msgspec.json.encode(status.slots).decode(),
            "deployments": msgspec.json.encode(deployments).decode(),
            "configs": msgspec.json.encode(status.configs).decode(),
        }
        with self._database.write() as connection:
            connection.execute(delete(processes).where(processes.c.process == status.process))
            connection.execute(insert(processes).values(row))

    def deployments(self) -> dict[str, tuple[DeploymentReport, ...]]:
        """Return what each process said last of the deployments that it runs, by the id of the process.

        Raises:
            DatabaseUnavailableError: The database does not answer.
        """
        with self._database.read() as connection:
            rows = connection.execute(select(processes.c.process, processes.c.deployments)).all()
        return {row.process: msgspec.json.decode(row.deployments, type=tuple[DeploymentReport, ...]) for row in rows}

    def leave(self, process: str) -> None:
        """Forget a process that ends in good order."""
        with self._database.write() as connection:
            connection.execute(delete(processes).where(processes.c.process == process))

    def sweep(self) -> None:
        """Delete what the dead left behind: rows of processes, and candidates that nobody waits for any more."""
        now = self._clock()
        gone = [process for process in self._all() if self._is_gone(process)]
        if gone:
            with self._database.write() as connection:
                for process in gone:  # one that has reported since is not gone after all
                    unchanged = processes.c.seen_at == to_text(process.seen_at)
                    connection.execute(delete(processes).where(processes.c.process == process.process, unchanged))
        sweep_candidates(self._database, before=now - self._candidates_end_after, now=now)

    def add_candidate(self, name: str, version: str, *, principal: str) -> Candidate:
        """Ask every process to load a version."""
        return add_candidate(self._database, name, version, principal=principal, now=self._clock())

    def remove_candidate(self, candidate: Candidate, *, principal: str) -> None:
        """Withdraw the request, unless somebody has asked for the same version again since."""
        remove_candidate(self._database, candidate, principal=principal, now=self._clock())

    def is_candidate(self, candidate: Candidate) -> bool:
        """Tell whether every process is still asked to load that version, by whomever."""
        return is_candidate(self._database, candidate.name, candidate.version)

    def wait_ready(
        self, candidate: Candidate, timeout: float, *, registered_at: datetime | None = None
    ) -> tuple[ProcessStatus, ...]:
        """Wait until every process has the candidate ready, and return them.

        A process that is silent from the beginning is waited for during six heartbeats, unless its last report said
        that it had the version ready: it cannot have followed any change since.

        Args:
            candidate: From `add_candidate`; what processes reported before they knew of it does not count.
            timeout: In seconds.
            registered_at: When the version was registered; what a silent process reported before is about another one.

        Raises:
            LoadFailedError: One could not make it ready, died while it tried, is silent, or took longer than `timeout`;
                or all left while they were waited for.
        """
        started = self._clock()
        heard: set[str] = set()

        def ready() -> tuple[ProcessStatus, ...] | None:
            members = self.members()
            silent = [process for process in members if self._is_silent(process)]
            self._check_company(candidate.ref, heard, members, silent)
            states = [_state(process, candidate) for process in members if process not in silent]
            for state, problem in states:
                if state == FAILED:
                    raise LoadFailedError(ref=candidate.ref, problem=problem)
            unproven = [process for process in silent if not _was_ready(process, candidate, registered_at)]
            if unproven and self._clock() - started >= self._patience:
                raise LoadFailedError(ref=candidate.ref, problem=self._silence_of(unproven[0]))
            return members if not unproven and all(state == READY for state, _ in states) else None

        found = _look_until(ready, timeout)
        if found is None:
            late = [
                f"{process.host}/{process.pid}" for process in self.members() if _state(process, candidate)[0] != READY
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
                    configs=msgspec.json.decode(row.configs, type=dict[str, int]),
                )
                for row in connection.execute(query)
            ]

    def _is_silent(self, process: ProcessStatus) -> bool:
        return process.seen_at <= self._clock() - self._stale_after

    def _is_gone(self, process: ProcessStatus) -> bool:
        age = self._clock() - process.seen_at
        return age > self._swept_after or (age > self._ended_after and has_ended(process.process, process.pid))

    def _check_company(
        self, ref: str, heard: set[str], members: tuple[ProcessStatus, ...], silent: list[ProcessStatus]
    ) -> None:
        """Fail when one that was heard of fell silent, or all have left: a version may kill whoever loads it."""
        for process in silent:
            if process.process in heard:
                problem = f"process {process.host}/{process.pid} fell silent while it loaded the version"
                raise LoadFailedError(ref=ref, problem=problem)
        if heard and not members:
            raise LoadFailedError(ref=ref, problem="every process ended before it had the version ready")
        heard |= {process.process for process in members if process not in silent}

    def _silence_of(self, process: ProcessStatus) -> str:
        gone_at = process.seen_at + self._swept_after
        return (
            f"process {process.host}/{process.pid} has been silent since {process.seen_at:%Y-%m-%d %H:%M:%S} UTC and "
            f"may still answer; end it if it hangs, or try again after {gone_at:%H:%M:%S}, when it counts as gone"
        )


def _state(process: ProcessStatus, candidate: Candidate) -> tuple[str, str]:
    return process.slots.get(candidate.ref, ("", "")) if process.revision >= candidate.revision else ("", "")


def _was_ready(process: ProcessStatus, candidate: Candidate, registered_at: datetime | None) -> bool:
    """Tell whether the last report of a silent process proves the version."""
    about_it = registered_at is not None and process.seen_at > registered_at
    return about_it and process.slots.get(candidate.ref, ("", ""))[0] == READY


def _look_until(found: Callable[[], T | None], timeout: float) -> T | None:
    """Return the first answer of `found` that is not None, or None after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while (answer := found()) is None and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    return answer

"""`Surroundings`: what is around a rollout: the processes that have to follow, its subject, an emergency."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from sqlalchemy import Connection

from crossfade.registry.requests import ProcessStatus
from crossfade.releases.changing import StaleError
from crossfade.releases.policy import Situation
from crossfade.releases.rollout import Rollout
from crossfade.releases.subjects.port import Release, Subject
from crossfade.storage.database import Database
from crossfade.traffic.fleet import Fleet

Emergency = Callable[[Rollout], str]
"""From a rollout to why nothing may go on now; empty in quiet times."""


def _quiet(_rollout: Rollout) -> str:
    return ""


class Surroundings:
    """Looks around.

    Args:
        database: Where subjects are.
        subjects: Kind -> what is to be known of it.
        fleet: The processes.
        patience_seconds: How long loading a version may take.
        emergency: See `Emergency`.
    """

    def __init__(
        self,
        database: Database,
        subjects: Mapping[str, Subject],
        fleet: Fleet,
        patience_seconds: float,
        emergency: Emergency = _quiet,
    ) -> None:
        self._database = database
        self._subjects = subjects
        self._fleet = fleet
        self._patience_seconds = patience_seconds
        self._emergency = emergency

    def processes(self) -> tuple[ProcessStatus, ...]:
        """Return the live processes."""
        return self._fleet.live()

    def of(self, rollout: Rollout, processes: tuple[ProcessStatus, ...], now: datetime) -> Situation:
        """Return what is seen around a rollout."""
        with self._database.read() as connection:
            stable, usable = self._subject(connection, rollout)
        ready, problem = self._subjects[rollout.kind].prepared(rollout, processes)
        return Situation(
            now,
            processes=tuple(process.process for process in processes),
            behind=tuple(each.process for each in processes if each.revision < rollout.state.revision),
            ready=ready,
            problem=problem,
            stable=stable,
            usable=usable,
            emergency=self._emergency(rollout),
            patience_seconds=self._patience_seconds,
        )

    def confirm(self, connection: Connection, rollout: Rollout, seen: Situation) -> None:
        """Go on only while the subject is as it was seen; within the transaction of what was decided by that.

        Raises:
            StaleError: Somebody has moved it since, or the new version is usable no longer.
        """
        if self._subject(connection, rollout) != (seen.stable, seen.usable):
            raise StaleError(rollout.name)

    def _subject(self, connection: Connection, rollout: Rollout) -> tuple[str, bool]:
        """Return which version everybody gets, and whether the new one may be released."""
        subject = self._subjects[rollout.kind]
        stable = subject.stable(connection, rollout.subject)
        release = subject.release(connection, rollout.subject, rollout.candidate)
        return stable, isinstance(release, Release) and release.digest == rollout.digest

"""`Surroundings`: what is around a rollout: the processes that have to follow, its subject, an emergency."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from sqlalchemy import Connection

from crossfade.registry.requests import ProcessStatus
from crossfade.releases.changing import StaleError
from crossfade.releases.policy import Situation
from crossfade.releases.rollout import Rollout
from crossfade.releases.subjects.port import Refusal, Release, Subject
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
        subject = self._subjects[rollout.kind]
        with self._database.read() as connection:
            stable, release = self._subject(connection, rollout)
            behind = subject.behind(connection, rollout, processes)
        missing = None if release is None else subject.missing(rollout.subject, release)
        ready, problem = subject.prepared(rollout, processes)
        return Situation(
            now,
            processes=tuple(process.process for process in processes),
            behind=tuple(process.process for process in behind),
            ready=ready,
            problem=problem,
            stable=stable,
            usable=release is not None,
            missing="" if missing is None else missing.problem,
            emergency=self._emergency(rollout),
            patience_seconds=self._patience_seconds,
        )

    def confirm(self, connection: Connection, rollout: Rollout, seen: Situation) -> None:
        """Go on only while the subject is as it was seen; within the transaction of what was decided by that.

        Raises:
            StaleError: Somebody has moved it since, or the new version is usable no longer.
        """
        stable, release = self._subject(connection, rollout)
        if (stable, release is not None) != (seen.stable, seen.usable):
            raise StaleError(rollout.name)

    def _subject(self, connection: Connection, rollout: Rollout) -> tuple[str, Release | None]:
        """Return which version everybody gets, and the new one, if it may still be released."""
        subject = self._subjects[rollout.kind]
        stable = subject.stable(connection, rollout.subject)
        release = subject.release(connection, rollout.subject, rollout.candidate)
        if isinstance(release, Refusal) or release.digest != rollout.digest:
            return stable, None
        return stable, release

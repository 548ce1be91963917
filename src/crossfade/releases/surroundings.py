"""`Surroundings`: what is around a rollout: the processes that have to follow, its subject, an emergency."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from crossfade.registry.requests import ProcessStatus
from crossfade.releases.policy import Situation
from crossfade.releases.rollout import Rollout
from crossfade.releases.subjects.port import Subject
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
            stable = subject.stable(connection, rollout.subject)
            release = subject.release(connection, rollout.subject, rollout.candidate)
        ready, problem = subject.prepared(rollout, processes)
        return Situation(
            now,
            processes=tuple(process.process for process in processes),
            behind=tuple(each.process for each in processes if each.revision < rollout.state.revision),
            ready=ready,
            problem=problem,
            stable=stable,
            usable=release is not None and release.digest == rollout.digest,
            emergency=self._emergency(rollout),
            patience_seconds=self._patience_seconds,
        )

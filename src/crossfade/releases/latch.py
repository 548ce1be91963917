"""The latch: what was rolled back does not come again without a person's word.

A latch belongs to bytes, so that a new number for the same files changes nothing. Whoever overrides one lifts it: what
comes again by a person's word may be returned to later like any other version.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, select, update

from crossfade.core.clock import Clock, utc_now
from crossfade.errors import LatchedError
from crossfade.releases.subjects.port import Refusal, Release, Subject
from crossfade.storage.changes import commit_change
from crossfade.storage.database import Database
from crossfade.storage.tables import rollouts
from crossfade.traffic.snapshot import ROLLOUT


def require_unlatched(connection: Connection, kind: str, subject: str, release: Release) -> None:
    """Refuse a version that was rolled back before.

    Raises:
        LatchedError: It was, and nobody has lifted the latch since.
    """
    query = select(rollouts.c.name, rollouts.c.reason).where(_latched(kind, subject, release))
    former = connection.execute(query.order_by(rollouts.c.number.desc())).first()
    if former is not None:
        raise LatchedError(
            name=subject, version=release.version, rollout=former.name, problem=former.reason, kind=kind, first=""
        )


def lift(connection: Connection, kind: str, subject: str, release: Release) -> bool:
    """Let a version come again; returns whether it was latched."""
    lifted = connection.execute(update(rollouts).where(_latched(kind, subject, release)).values(latched=False))
    return lifted.rowcount > 0


class ChampionLatch:
    """The latch of models for whoever moves a champion; implements `crossfade.traffic.switch.Latch`.

    Args:
        database: Where rollouts are.
        subject: Finds versions of models.
        clock: What time it is.
    """

    def __init__(self, database: Database, subject: Subject, clock: Clock = utc_now) -> None:
        self._database = database
        self._subject = subject
        self._clock = clock

    def require_unlatched(self, model: str, version: str) -> None:
        """Refuse a version that was rolled back before.

        Raises:
            LatchedError: It was, and nobody has lifted the latch since.
        """
        with self._database.read() as connection:
            found = self._subject.release(connection, model, version)
            if isinstance(found, Release):
                require_unlatched(connection, self._subject.kind, model, found)

    def lift(self, model: str, version: str, *, principal: str, reason: str) -> None:
        """Let a version come again; where it is not latched, nothing changes."""
        with self._database.write() as connection:
            found = self._subject.release(connection, model, version)
            if isinstance(found, Refusal) or not lift(connection, self._subject.kind, model, found):
                return
            commit_change(
                connection,
                kind=ROLLOUT,
                model=model,
                subject=f"{model}:{version}",
                principal=principal,
                action="rollout.lift_latch",
                details={"version": version, "reason": reason},
                now=self._clock(),
            )


def _latched(kind: str, subject: str, release: Release) -> ColumnElement[bool]:
    mine = (rollouts.c.kind == kind) & (rollouts.c.subject == subject)
    return mine & rollouts.c.latched & (rollouts.c.digest == release.digest)

"""Candidates: versions that every process shall load because an alias is about to move there."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select

from crossfade.storage.changes import commit_change
from crossfade.storage.database import Database
from crossfade.storage.tables import candidates
from crossfade.storage.times import to_text


class Candidate(msgspec.Struct, frozen=True):
    """A request to load a version, and the revision from which every process knows of it."""

    name: str
    version: str
    requested_at: str
    revision: int

    @property
    def ref(self) -> str:
        """`name:1.2.0`."""
        return f"{self.name}:{self.version}"


def add_candidate(database: Database, name: str, version: str, *, principal: str, now: datetime) -> Candidate:
    """Ask every process to load a version; asking again is a new request, and a failed process tries again."""
    requested_at = to_text(now)
    with database.write() as connection:
        connection.execute(delete(candidates).where(_same(name, version)))
        connection.execute(insert(candidates).values(model=name, semver=version, requested_at=requested_at))
        revision = _announce(connection, name, version, "candidate.add", principal, now)
    return Candidate(name, version, requested_at, revision)


def remove_candidate(database: Database, candidate: Candidate, *, principal: str, now: datetime) -> None:
    """Withdraw a request, unless somebody has asked for the same version again since."""
    ours = and_(_same(candidate.name, candidate.version), candidates.c.requested_at == candidate.requested_at)
    _remove(database, ours, principal, now)


def is_candidate(database: Database, name: str, version: str) -> bool:
    """Tell whether somebody asks every process to load a version."""
    with database.read() as connection:
        return connection.execute(select(candidates).where(_same(name, version))).first() is not None


def sweep_candidates(database: Database, *, before: datetime, now: datetime) -> None:
    """Withdraw requests that nobody waits for any more, because the one who asked has died."""
    _remove(database, candidates.c.requested_at < to_text(before), "sweep", now)


def _remove(database: Database, which: ColumnElement[bool], principal: str, now: datetime) -> None:
    with database.read() as connection:
        if connection.execute(select(candidates).where(which)).first() is None:
            return
    with database.write() as connection:
        for row in connection.execute(select(candidates).where(which)).all():
            connection.execute(delete(candidates).where(_same(row.model, row.semver)))
            _announce(connection, row.model, row.semver, "candidate.remove", principal, now)


def _same(name: str, version: str) -> ColumnElement[bool]:
    return and_(candidates.c.model == name, candidates.c.semver == version)


def _announce(connection: Connection, name: str, version: str, action: str, principal: str, now: datetime) -> int:
    return commit_change(
        connection,
        kind="candidate",
        model=name,
        subject=f"{name}:{version}",
        principal=principal,
        action=action,
        details={},
        now=now,
    )

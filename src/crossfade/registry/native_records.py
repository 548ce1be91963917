"""From rows of the database to the registry's records, and the reads that the native backend is made of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, and_, func, select, tuple_, union

from crossfade.core.identity import Semver
from crossfade.errors import InvalidSemverError, ModelNotFoundError, VersionNotFoundError
from crossfade.registry.versions import AliasMove, RegisteredModel, StageChange, Version
from crossfade.storage.tables import (
    alias_history,
    aliases,
    job_parts,
    jobs,
    models,
    stage_history,
    version_files,
    versions,
)
from crossfade.storage.times import from_text

_PREFIX = re.compile(r"(0|[1-9][0-9]{0,8})(?:\.(0|[1-9][0-9]{0,8}))?\.?")

_LATEST = (
    select(versions.c.semver)
    .where(versions.c.model == models.c.name)
    .order_by(versions.c.number.desc())
    .limit(1)
    .scalar_subquery()
)
_MODEL_COLUMNS = select(models, func.coalesce(_LATEST, "").label("latest_version"))


def read_models(connection: Connection, where: ColumnElement[bool], limit: int) -> list[RegisteredModel]:
    """Return models in the order of their names."""
    rows = connection.execute(_MODEL_COLUMNS.where(where).order_by(models.c.name).limit(limit)).all()
    names = [row.name for row in rows]
    pointers: dict[str, dict[str, str]] = {name: {} for name in names}
    found = select(aliases).where(aliases.c.model.in_(names)).order_by(aliases.c.alias)
    for pointer in connection.execute(found) if names else ():
        pointers[pointer.model][pointer.alias] = pointer.semver
    return [
        RegisteredModel(
            name=row.name,
            description=row.description,
            created_at=from_text(row.created_at),
            created_by=row.created_by,
            version_count=row.version_count,
            latest_version=row.latest_version,
            aliases=pointers[row.name],
            unloaded=row.unloaded,
        )
        for row in rows
    ]


def read_versions(
    connection: Connection, where: ColumnElement[bool], order: Iterable[ColumnElement[object]], limit: int
) -> list[Version]:
    """Return versions of one model with their aliases."""
    rows = connection.execute(select(versions).where(where).order_by(*order).limit(limit)).all()
    if not rows:
        return []
    pointing: dict[str, list[str]] = {row.semver: [] for row in rows}
    same_model = aliases.c.model == rows[0].model
    for row in connection.execute(select(aliases).where(same_model).order_by(aliases.c.alias)):
        if row.semver in pointing:
            pointing[row.semver].append(row.alias)
    return [_version(row, tuple(pointing[row.semver])) for row in rows]


def read_version(connection: Connection, name: str, version: str) -> Version | None:
    """Return one version, or None."""
    found = read_versions(connection, is_version(name, version), (), 1)
    return found[0] if found else None


def _version(row: Row[tuple[object, ...]], pointing: tuple[str, ...]) -> Version:
    return Version(
        model=row.model,
        version=row.semver,
        number=row.number,
        manifest_digest=row.manifest_digest,
        flavor=row.flavor,
        stage=row.stage,
        size_bytes=row.size_bytes,
        evaluation=msgspec.json.decode(row.evaluation, type=dict[str, float]),
        tags=msgspec.json.decode(row.tags, type=dict[str, str]),
        source=row.source,
        created_at=from_text(row.created_at),
        created_by=row.created_by,
        deprecated_at=None if row.deprecated_at is None else from_text(row.deprecated_at),
        deprecation_reason=row.deprecation_reason,
        aliases=pointing,
    )


def is_version(name: str, version: str) -> ColumnElement[bool]:
    """Select one version."""
    return and_(versions.c.model == name, versions.c.semver == version)


def are_versions(name: str, wanted: Sequence[str]) -> ColumnElement[bool]:
    """Select some versions of one model."""
    return and_(versions.c.model == name, versions.c.semver.in_(wanted))


def points_here(name: str, alias: str) -> ColumnElement[bool]:
    """Select the version that an alias points to."""
    target = select(aliases.c.semver).where(aliases.c.model == name, aliases.c.alias == alias)
    return versions.c.semver == target.scalar_subquery()


def has_prefix(prefix: str) -> ColumnElement[bool]:
    """Select the versions of a major line (`2.`) or a minor line (`2.1.`); the last dot may be left out.

    Raises:
        InvalidSemverError: The prefix is neither.
    """
    match = _PREFIX.fullmatch(prefix)
    if match is None:
        raise InvalidSemverError(version=prefix[:80])
    major, minor = match.groups()
    line = versions.c.major == int(major)
    return line if minor is None else and_(line, versions.c.minor == int(minor))


def is_release(below: Semver | None) -> ColumnElement[bool]:
    """Select versions that are no prereleases; with `below`, only those that come before it."""
    release = versions.c.semver.not_like("%-%")
    if below is None:
        return release
    precedence = tuple_(versions.c.major, versions.c.minor, versions.c.patch)
    return and_(release, precedence < tuple_(below.major, below.minor, below.patch))


def require_model(connection: Connection, name: str) -> None:
    """Make sure that a model exists.

    Raises:
        ModelNotFoundError: It does not.
    """
    if connection.scalar(select(models.c.name).where(models.c.name == name)) is None:
        raise ModelNotFoundError(name=name)


def require_version(connection: Connection, name: str, version: str) -> Version:
    """Return a version.

    Raises:
        ModelNotFoundError: The model does not exist.
        VersionNotFoundError: The version does not.
    """
    found = read_version(connection, name, version)
    if found is None:
        require_model(connection, name)
        raise VersionNotFoundError(ref=f"{name}:{version}", name=name)
    return found


def read_alias_moves(connection: Connection, where: ColumnElement[bool], limit: int) -> list[AliasMove]:
    """Return alias moves, newest first."""
    rows = connection.execute(select(alias_history).where(where).order_by(alias_history.c.seq.desc()).limit(limit))
    return [
        AliasMove(
            seq=row.seq,
            model=row.model,
            alias=row.alias,
            source=row.source,
            target=row.target,
            moved_at=from_text(row.moved_at),
            moved_by=row.moved_by,
            reason=row.reason,
        )
        for row in rows
    ]


def read_stage_changes(connection: Connection, where: ColumnElement[bool], limit: int) -> list[StageChange]:
    """Return stage changes, newest first."""
    rows = connection.execute(select(stage_history).where(where).order_by(stage_history.c.seq.desc()).limit(limit))
    return [
        StageChange(
            seq=row.seq,
            model=row.model,
            version=row.semver,
            source=row.source,
            target=row.target,
            changed_at=from_text(row.changed_at),
            changed_by=row.changed_by,
            reason=row.reason,
        )
        for row in rows
    ]


def file_entry(connection: Connection, version: Version, role: str) -> tuple[str, str] | None:
    """Return digest and path of the version's first file with a role."""
    files = version_files.c
    mine = and_(files.model == version.model, files.semver == version.version, files.role == role)
    row = connection.execute(select(files.digest, files.path).where(mine).order_by(files.path).limit(1)).first()
    return None if row is None else (row.digest, row.path)


def referenced_among(connection: Connection, digests: Sequence[str]) -> set[str]:
    """Return which of these digests belong to a version, or to a batch job that is kept."""
    files, parts = version_files.c.digest, job_parts.c.digest
    found = union(
        select(files).where(files.in_(digests)),
        select(parts).where(parts.in_(digests)),
        select(jobs.c.input_digest).where(jobs.c.input_digest.in_(digests), jobs.c.kept),
        select(jobs.c.result_digest).where(jobs.c.result_digest.in_(digests), jobs.c.kept),
    )
    return set(connection.scalars(found))

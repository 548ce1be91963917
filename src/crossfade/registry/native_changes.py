"""The changes that the native backend makes, each inside a transaction that holds the database's writer lock."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, and_, delete, func, insert, select, update

from crossfade.core.hashing import canonical_json
from crossfade.core.identity import Semver
from crossfade.errors import (
    AliasMovedError,
    AliasNotFoundError,
    ConflictError,
    CorruptBlobError,
    RejectedVersionError,
    StillReferencedError,
    VersionConflictError,
)
from crossfade.registry.followers import prove_anew
from crossfade.registry.garbage import unmark, unprotected
from crossfade.registry.native_records import is_version, read_alias_moves, read_version, require_model, require_version
from crossfade.registry.native_references import references_to
from crossfade.registry.versions import (
    MANIFEST_MEDIA_TYPE,
    MANIFEST_PATH,
    REJECTED,
    AliasMove,
    Card,
    FileEntry,
    Manifest,
    StageChange,
    Version,
)
from crossfade.storage.blobs.port import BlobStore
from crossfade.storage.changes import commit_change
from crossfade.storage.tables import (
    alias_history,
    aliases,
    models,
    stage_history,
    version_files,
    version_parents,
    versions,
)
from crossfade.storage.times import to_text


def require_blobs(blobs: BlobStore, manifest: Manifest) -> None:
    """Check that every blob of a version is stored. Asks the store, so it must not be called inside a transaction.

    Raises:
        CorruptBlobError: One is missing or of another size.
    """
    for entry in _all_files(manifest):
        blob = blobs.find(entry.digest)
        if blob is None or blob.size != entry.size:
            damage = "missing" if blob is None else "of another size"
            raise CorruptBlobError(digest=entry.digest, path=entry.path, ref=manifest.ref, damage=damage)


def publish(
    connection: Connection,
    manifest: Manifest,
    card: Card,
    *,
    stage: str,
    principal: str,
    now: datetime,
) -> tuple[Version, bool]:
    """Make a version visible; see `RegistryBackend.publish`."""
    existing = read_version(connection, manifest.name, manifest.version)
    if existing is not None:
        return _same_content(existing, manifest, proposed=_next_patch(connection, manifest.name)), False
    files = _all_files(manifest)
    loose = unprotected(connection, [entry.digest for entry in files], now)
    for entry in files:
        if entry.digest in loose:
            damage = "not protected from garbage collection"
            raise CorruptBlobError(digest=entry.digest, path=entry.path, ref=manifest.ref, damage=damage)
    seq = commit_change(
        connection,
        kind="version",
        model=manifest.name,
        subject=manifest.ref,
        principal=principal,
        action="version.publish",
        details={"manifest": manifest.digest, "stage": stage},
        now=now,
    )
    _insert_model(connection, manifest.name, card.description, principal, now)
    _insert_version(connection, manifest, card, stage, principal, now)
    _count_versions(connection, manifest.name, 1)
    where = {"model": manifest.name, "semver": manifest.version}
    connection.execute(
        insert(version_files),
        [
            where | {"path": e.path, "digest": e.digest, "size": e.size, "media_type": e.media_type, "role": e.role}
            for e in files
        ],
    )
    if card.parents:
        connection.execute(insert(version_parents), [where | {"parent": parent} for parent in set(card.parents)])
    _append_stage_change(connection, StageChange(seq, manifest.name, manifest.version, None, stage, now, principal, ""))
    unmark(connection, [entry.digest for entry in files])
    return require_version(connection, manifest.name, manifest.version), True


def _same_content(existing: Version, manifest: Manifest, *, proposed: str) -> Version:
    if existing.manifest_digest != manifest.digest:
        raise VersionConflictError(ref=manifest.ref, proposed=proposed)
    return existing


def _next_patch(connection: Connection, name: str) -> str:
    newest = select(versions.c.major, versions.c.minor, versions.c.patch).where(versions.c.model == name)
    order = (versions.c.major.desc(), versions.c.minor.desc(), versions.c.patch.desc())
    major, minor, patch = connection.execute(newest.order_by(*order).limit(1)).one()
    return f"{name}:{Semver(major, minor, patch).bump('patch')}"


def _all_files(manifest: Manifest) -> tuple[FileEntry, ...]:
    size = len(manifest.encode())
    return (*manifest.files, FileEntry(MANIFEST_PATH, manifest.digest, size, MANIFEST_MEDIA_TYPE, "manifest"))


def _insert_model(connection: Connection, name: str, description: str, principal: str, now: datetime) -> None:
    known = connection.scalar(select(models.c.name).where(models.c.name == name))
    if known is None:
        connection.execute(
            insert(models).values(
                name=name, description=description, created_at=to_text(now), created_by=principal, unloaded=False
            )
        )
    elif description:
        connection.execute(update(models).where(models.c.name == name).values(description=description))


def _count_versions(connection: Connection, name: str, change: int) -> None:
    count = update(models).where(models.c.name == name).values(version_count=models.c.version_count + change)
    connection.execute(count)


def _insert_version(
    connection: Connection, manifest: Manifest, card: Card, stage: str, principal: str, now: datetime
) -> None:
    semver = Semver.parse(manifest.version)
    newest = connection.scalar(select(func.max(versions.c.number)).where(versions.c.model == manifest.name))
    connection.execute(
        insert(versions).values(
            model=manifest.name,
            semver=manifest.version,
            number=(newest or 0) + 1,
            major=semver.major,
            minor=semver.minor,
            patch=semver.patch,
            manifest_digest=manifest.digest,
            flavor=manifest.flavor,
            stage=stage,
            size_bytes=sum(entry.size for entry in manifest.files),
            evaluation=canonical_json(card.evaluation).decode(),
            tags=canonical_json(card.tags).decode(),
            source=card.source,
            created_at=to_text(now),
            created_by=principal,
        )
    )


def _append_stage_change(connection: Connection, change: StageChange) -> None:
    connection.execute(
        insert(stage_history).values(
            seq=change.seq,
            model=change.model,
            semver=change.version,
            source=change.source,
            target=change.target,
            changed_at=to_text(change.changed_at),
            changed_by=change.changed_by,
            reason=change.reason,
        )
    )


def move_alias(
    connection: Connection,
    name: str,
    alias: str,
    target: str | None,
    *,
    expected: str | None,
    principal: str,
    reason: str,
    now: datetime,
) -> AliasMove:
    """Move, set or remove an alias; see `RegistryBackend.move_alias`."""
    require_model(connection, name)
    here = and_(aliases.c.model == name, aliases.c.alias == alias)
    source = connection.scalar(select(aliases.c.semver).where(here))
    if expected is not None and source != expected:
        raise AliasMovedError(name=name, alias=alias, actual=source or "nothing", expected=expected)
    if target is None and source is None:
        raise AliasNotFoundError(name=name, alias=alias)
    if target is not None and require_version(connection, name, target).stage == REJECTED:
        raise RejectedVersionError(ref=f"{name}:{target}", name=name, alias=alias)
    same_alias = and_(alias_history.c.model == name, alias_history.c.alias == alias)
    if source == target:
        return read_alias_moves(connection, same_alias, 1)[0]
    details: dict[str, object] = {"from": source, "to": target, "reason": reason}
    followers = prove_anew(connection, name, alias, target, principal, now)
    seq = commit_change(
        connection,
        kind="alias",
        model=name,
        subject=f"{name}@{alias}",
        principal=principal,
        action="alias.remove" if target is None else "alias.move",
        details=details | ({"deployments": followers} if followers else {}),
        now=now,
    )
    moved_at = to_text(now)
    connection.execute(delete(aliases).where(here))
    if target is not None:
        connection.execute(insert(aliases).values(model=name, alias=alias, semver=target, moved_at=moved_at))
    entry = insert(alias_history).values(seq=seq, model=name, alias=alias, source=source, target=target)
    connection.execute(entry.values(moved_at=moved_at, moved_by=principal, reason=reason))
    return AliasMove(seq, name, alias, source, target, now, principal, reason)


def change_stage(
    connection: Connection,
    name: str,
    version: str,
    target: str,
    *,
    source: str,
    principal: str,
    reason: str,
    now: datetime,
) -> Version:
    """Change the stage of a version; see `RegistryBackend.change_stage`."""
    found = require_version(connection, name, version)
    if found.stage != source:
        raise ConflictError(problem=f"`{found.ref}` is in stage `{found.stage}`, no longer in `{source}`")
    if target == REJECTED and found.aliases:
        raise StillReferencedError(ref=found.ref, references=", ".join(f"alias `{a}`" for a in found.aliases))
    seq = commit_change(
        connection,
        kind="stage",
        model=name,
        subject=found.ref,
        principal=principal,
        action="version.transition",
        details={"from": source, "to": target, "reason": reason},
        now=now,
    )
    connection.execute(update(versions).where(is_version(name, version)).values(stage=target))
    _append_stage_change(connection, StageChange(seq, name, version, source, target, now, principal, reason))
    return require_version(connection, name, version)


def deprecate(
    connection: Connection, name: str, version: str, *, principal: str, reason: str, now: datetime
) -> Version:
    """Mark a version as deprecated; doing so again replaces the reason."""
    found = require_version(connection, name, version)
    commit_change(
        connection,
        kind="version",
        model=name,
        subject=found.ref,
        principal=principal,
        action="version.deprecate",
        details={"reason": reason},
        now=now,
    )
    marks = update(versions).where(is_version(name, version))
    connection.execute(marks.values(deprecated_at=to_text(now), deprecation_reason=reason))
    return require_version(connection, name, version)


def delete_version(
    connection: Connection, name: str, version: str, *, principal: str, reason: str, now: datetime
) -> None:
    """Forget a version; see `RegistryBackend.delete_version`."""
    found = require_version(connection, name, version)
    references = ", ".join(references_to(connection, found))
    if references:
        raise StillReferencedError(ref=found.ref, references=references)
    commit_change(
        connection,
        kind="version",
        model=name,
        subject=found.ref,
        principal=principal,
        action="version.delete",
        details={"manifest": found.manifest_digest, "reason": reason},
        now=now,
    )
    for table in (version_files, version_parents):
        connection.execute(delete(table).where(table.c.model == name, table.c.semver == version))
    connection.execute(delete(versions).where(is_version(name, version)))
    _count_versions(connection, name, -1)

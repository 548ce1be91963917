"""The native registry backend: records in SQLite or PostgreSQL, bytes in a blob store.

A version becomes visible in one transaction, after all its bytes are durable, so that it is either complete or absent
whatever happens to the process that publishes it. Every change takes the database's writer lock first, which puts
revisions, registration numbers and audit entries in one order.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import timedelta

import msgspec
from sqlalchemy import ColumnElement, and_, delete, true

from crossfade.core.clock import Clock, utc_now
from crossfade.core.identity import Semver
from crossfade.errors import BlobNotFoundError, CorruptBlobError, UnavailableError
from crossfade.registry import garbage, native_changes
from crossfade.registry.native_records import (
    are_versions,
    file_entry,
    has_prefix,
    is_release,
    points_here,
    read_alias_moves,
    read_models,
    read_stage_changes,
    read_version,
    read_versions,
    require_model,
)
from crossfade.registry.pages import check_limit, number_cursor, page_of, text_cursor
from crossfade.registry.versions import AliasMove, Card, Manifest, Page, RegisteredModel, StageChange, Version
from crossfade.storage.blobs.port import BlobStore
from crossfade.storage.database import Database
from crossfade.storage.tables import alias_history, blob_leases, models, stage_history, versions

_SWEEP_SECONDS = 15.0
"""How long a registration waits for a sweep that is deleting its blobs, which takes ten seconds at most."""
_IN_ONE_QUERY = 1000
"""Names of versions; databases take some ten thousand values in a query."""
_BY_NUMBER = (versions.c.number.desc(),)
_BY_PRECEDENCE = (versions.c.major.desc(), versions.c.minor.desc(), versions.c.patch.desc())


class NativeBackend:
    """Records of models, versions, aliases and stages in Crossfade's own database. Implements `RegistryBackend`.

    Args:
        database: Open and migrated; closed by its owner.
        blobs: Where the bytes are; closed by its owner.
        clock: What time it is.
        lease_seconds: How long an unfinished registration protects its blobs.
    """

    def __init__(
        self, database: Database, blobs: BlobStore, *, clock: Clock = utc_now, lease_seconds: float = 3600.0
    ) -> None:
        self.database = database
        self._blobs = blobs
        self._clock = clock
        self._lease = timedelta(seconds=lease_seconds)

    @property
    def blobs(self) -> BlobStore:
        """Where the bytes of versions are."""
        return self._blobs

    def close(self) -> None:
        """Do nothing: database and blob store belong to whoever opened them."""

    # --- changes ---

    def lease_blobs(self, digests: Iterable[str], holder: str) -> None:
        """Protect digests, and what the holder protects already, from garbage collection for `lease_seconds`."""
        wanted = set(digests)
        give_up = time.monotonic() + _SWEEP_SECONDS
        while not self._lease_now(wanted, holder):
            if time.monotonic() > give_up:
                problem = "garbage collection did not finish deleting files of this version; try again in two minutes"
                raise UnavailableError(problem=problem)
            time.sleep(0.05)

    def _lease_now(self, wanted: set[str], holder: str) -> bool:
        with self.database.write() as connection:
            now = self._clock()
            if garbage.is_deleting(connection, wanted, now):
                return False
            garbage.lease(connection, wanted, holder, now, now + self._lease)
            return True

    def release_blobs(self, holder: str) -> None:
        """End the protection by this holder."""
        with self.database.write() as connection:
            connection.execute(delete(blob_leases).where(blob_leases.c.holder == holder))

    def publish(self, manifest: Manifest, card: Card, *, stage: str, principal: str) -> tuple[Version, bool]:
        """Make a version visible in one transaction, after checking that all its blobs are stored."""
        # Before the lock is taken, because it is everybody's and a store may be slow. What is found here is still there
        # at the commit: every blob has had a lease since before it was looked for, or another version refers to it, the
        # transaction makes sure of that, and no sweep deletes such blobs.
        native_changes.require_blobs(self._blobs, manifest)
        with self.database.write() as connection:
            return native_changes.publish(
                connection, manifest, card, stage=stage, principal=principal, now=self._clock()
            )

    def move_alias(
        self, name: str, alias: str, target: str | None, *, expected: str | None, principal: str, reason: str
    ) -> AliasMove:
        """Point an alias to a version, or remove it (`target` None)."""
        with self.database.write() as connection:
            return native_changes.move_alias(
                connection,
                name,
                alias,
                target,
                expected=expected,
                principal=principal,
                reason=reason,
                now=self._clock(),
            )

    def change_stage(
        self, name: str, version: str, target: str, *, source: str, principal: str, reason: str
    ) -> Version:
        """Change the stage if it still is `source`."""
        with self.database.write() as connection:
            return native_changes.change_stage(
                connection,
                name,
                version,
                target,
                source=source,
                principal=principal,
                reason=reason,
                now=self._clock(),
            )

    def deprecate(self, name: str, version: str, *, principal: str, reason: str) -> Version:
        """Mark a version as deprecated; it stays usable."""
        with self.database.write() as connection:
            return native_changes.deprecate(
                connection, name, version, principal=principal, reason=reason, now=self._clock()
            )

    def delete_version(self, name: str, version: str, *, principal: str, reason: str) -> None:
        """Forget a version; its blobs are left to garbage collection."""
        with self.database.write() as connection:
            native_changes.delete_version(
                connection, name, version, principal=principal, reason=reason, now=self._clock()
            )

    def collect_garbage(self, *, grace_seconds: float, dry_run: bool = False) -> tuple[int, int]:
        """Delete blobs that nothing has referenced for the grace period; return how many, and how many bytes."""
        grace = timedelta(seconds=grace_seconds)
        return garbage.collect(self.database, self._blobs, clock=self._clock, grace=grace, dry_run=dry_run)

    # --- models and versions ---

    def find_model(self, name: str) -> RegisteredModel | None:
        """Return a model, or None."""
        with self.database.read() as connection:
            found = read_models(connection, models.c.name == name, 1)
        return found[0] if found else None

    def list_models(self, *, prefix: str = "", cursor: str = "", limit: int = 100) -> Page[RegisteredModel]:
        """Return models in the order of their names."""
        where = models.c.name > text_cursor("models", cursor)
        if prefix:
            where &= models.c.name.startswith(prefix, autoescape=True)
        with self.database.read() as connection:
            found = read_models(connection, where, check_limit(limit) + 1)
        return page_of("models", found, limit, lambda model: model.name)

    def find_version(self, name: str, version: str) -> Version | None:
        """Return a version, or None."""
        with self.database.read() as connection:
            return read_version(connection, name, version)

    def find_versions(self, name: str, wanted: Sequence[str]) -> dict[str, Version]:
        """Return those of some versions of a model that there are, by semver."""
        found: dict[str, Version] = {}
        with self.database.read() as connection:
            for start in range(0, len(wanted), _IN_ONE_QUERY):
                some = wanted[start : start + _IN_ONE_QUERY]
                rows = read_versions(connection, are_versions(name, some), (), len(some))
                found |= {version.version: version for version in rows}
        return found

    def find_numbered(self, name: str, number: int) -> Version | None:
        """Return the version that another registry calls `number`, else the one registered as number `number`."""
        foreign = self._first(name, versions.c.source == f"models:/{name}/{number}", *_BY_NUMBER)
        return foreign or self._first(name, versions.c.number == number)

    def find_in_stage(self, name: str, stage: str) -> Version | None:
        """Return the newest version in a stage."""
        return self._first(name, versions.c.stage == stage, *_BY_NUMBER)

    def find_alias(self, name: str, alias: str) -> Version | None:
        """Return the version that an alias points to."""
        return self._first(name, points_here(name, alias))

    def highest_version(self, name: str, *, below: Semver | None = None) -> Version | None:
        """Return the release with the highest precedence, or the highest one before `below`."""
        return self._first(name, is_release(below), *_BY_PRECEDENCE)

    def list_versions(
        self, name: str, *, stage: str = "", prefix: str = "", cursor: str = "", limit: int = 100
    ) -> Page[Version]:
        """Return versions, newest first."""
        where = and_(versions.c.model == name, versions.c.number < number_cursor("versions", cursor))
        if stage:
            where &= versions.c.stage == stage
        if prefix:
            where &= has_prefix(prefix)
        with self.database.read() as connection:
            found = read_versions(connection, where, _BY_NUMBER, check_limit(limit) + 1)
            if not found:
                require_model(connection, name)
        return page_of("versions", found, limit, lambda version: version.number)

    def _first(self, name: str, where: ColumnElement[bool], *order: ColumnElement[object]) -> Version | None:
        with self.database.read() as connection:
            found = read_versions(connection, and_(versions.c.model == name, where), order, 1)
        return found[0] if found else None

    # --- content ---

    def manifest(self, version: Version) -> Manifest:
        """Return the manifest, after checking its digest."""
        content = self._read(version, version.manifest_digest, "manifest.json")
        return msgspec.json.decode(content, type=Manifest)

    def card(self, version: Version) -> Card:
        """Return the card, after checking its digest; an empty one when the version has none."""
        with self.database.read() as connection:
            entry = file_entry(connection, version, "card")
        return Card() if entry is None else msgspec.json.decode(self._read(version, *entry), type=Card)

    def _read(self, version: Version, digest: str, path: str) -> bytes:
        try:
            return self._blobs.read(digest)
        except BlobNotFoundError as error:
            raise CorruptBlobError(digest=digest, path=path, ref=version.ref, damage="missing") from error
        except CorruptBlobError as error:
            raise CorruptBlobError(digest=digest, path=path, ref=version.ref, damage="changed") from error

    # --- histories ---

    def history(self, name: str, *, cursor: str = "", limit: int = 100) -> Page[AliasMove | StageChange]:
        """Return alias moves and stage changes together, newest first."""
        before, more = number_cursor("history", cursor), check_limit(limit) + 1
        moved = and_(alias_history.c.model == name, alias_history.c.seq < before)
        changed = and_(stage_history.c.model == name, stage_history.c.seq < before)
        with self.database.read() as connection:
            require_model(connection, name)
            moves = read_alias_moves(connection, moved, more)
            transitions = read_stage_changes(connection, changed, more)
        entries: list[AliasMove | StageChange] = [*moves, *transitions]
        found = sorted(entries, key=lambda entry: entry.seq, reverse=True)
        return page_of("history", found[:more], limit, lambda entry: entry.seq)

    def alias_history(self, name: str, alias: str = "", *, cursor: str = "", limit: int = 100) -> Page[AliasMove]:
        """Return alias moves, newest first."""
        where = and_(alias_history.c.model == name, alias_history.c.seq < number_cursor("alias moves", cursor))
        where &= alias_history.c.alias == alias if alias else true()
        with self.database.read() as connection:
            require_model(connection, name)
            found = read_alias_moves(connection, where, check_limit(limit) + 1)
        return page_of("alias moves", found, limit, lambda move: move.seq)

    def stage_history(self, name: str, version: str = "", *, cursor: str = "", limit: int = 100) -> Page[StageChange]:
        """Return stage changes, newest first."""
        where = and_(stage_history.c.model == name, stage_history.c.seq < number_cursor("stage changes", cursor))
        where &= stage_history.c.semver == version if version else true()
        with self.database.read() as connection:
            require_model(connection, name)
            found = read_stage_changes(connection, where, check_limit(limit) + 1)
        return page_of("stage changes", found, limit, lambda change: change.seq)

"""Deleting blobs that nothing needs, in two phases, without ever taking one from a registration under way.

A blob is *marked* when no version, no batch job and no lease refers to it, and *swept* when that has been so for a
grace period.
The writer lock of the database is held for rows only, never while a blob store is asked: a slow store must not keep
heartbeats waiting. Four things keep a sweep from racing a registration all the same:

1. A sweep first takes leases of its own on what it is about to delete, under the lock, and only on what nothing refers
   to. A registration that wants one of these blobs waits until the sweep gives its leases back; it then finds the bytes
   gone and stores them again. So whoever has a lease knows that nobody is deleting, or going to delete, its blobs.
2. A publication finds every blob it names, and then, under the lock, a lease or a version that refers to each.
3. The leases of a sweep that died run out. It begins no deletion later than the longest that one may take before that.
4. Bytes stored within the grace period are spared, even when the mark is older.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice

from sqlalchemy import Connection, Select, delete, insert, select, update

from crossfade.core.clock import Clock
from crossfade.core.identity import new_id
from crossfade.registry.native_records import referenced_among
from crossfade.storage.blobs.port import Blob, BlobStore
from crossfade.storage.changes import commit_change
from crossfade.storage.database import Database
from crossfade.storage.tables import blob_candidates, blob_leases
from crossfade.storage.times import from_text, to_text

COLLECTOR = "garbage-collection"
"""The principal of deletions that nobody asked for one by one."""

UNFINISHED_AGE = timedelta(days=1)
"""How old an upload must be to count as interrupted, whatever the grace period is."""

_SWEEPER = f"{COLLECTOR}:"
"""What the holder of a sweep's leases starts with; no registration may choose a holder with a colon."""
_DELETING = timedelta(seconds=10)
"""How long after it took its leases a sweep begins deletions; what is left then is for the next collection."""
_LONGEST_DELETION = timedelta(seconds=120)
"""More than a blob store tries to delete one blob before it gives up."""
_MARKED_AT_ONCE = 500
_SWEPT_AT_ONCE = 32


def lease(connection: Connection, digests: Iterable[str], holder: str, now: datetime, expires_at: datetime) -> None:
    """Protect digests, and whatever the holder protects already, until then; forget that they were unreferenced."""
    wanted = set(digests)
    mine = blob_leases.c.holder == holder
    connection.execute(delete(blob_leases).where(mine & (blob_leases.c.expires_at <= to_text(now))))
    renewed = update(blob_leases).where(mine).values(expires_at=to_text(expires_at)).returning(blob_leases.c.digest)
    fresh = wanted - set(connection.scalars(renewed))
    rows = [{"digest": digest, "holder": holder, "expires_at": to_text(expires_at)} for digest in sorted(fresh)]
    if rows:
        connection.execute(insert(blob_leases), rows)
        unmark(connection, fresh)


def is_deleting(connection: Connection, digests: Iterable[str], now: datetime) -> bool:
    """Tell whether a sweep is deleting one of these blobs at this moment."""
    swept = blob_leases.c.holder.startswith(_SWEEPER, autoescape=True)
    return connection.scalar(_leases(digests, now).where(swept).limit(1)) is not None


def unprotected(connection: Connection, digests: Iterable[str], now: datetime) -> set[str]:
    """Return which of these blobs neither a version nor a registration refers to."""
    wanted = list(digests)
    registering = ~blob_leases.c.holder.startswith(_SWEEPER, autoescape=True)
    leased = set(connection.scalars(_leases(wanted, now).where(registering)))
    return set(wanted) - leased - referenced_among(connection, wanted)


def unmark(connection: Connection, digests: Iterable[str]) -> None:
    """Forget that digests were unreferenced: something refers to them now."""
    connection.execute(delete(blob_candidates).where(blob_candidates.c.digest.in_(list(digests))))


def collect(database: Database, blobs: BlobStore, *, clock: Clock, grace: timedelta, dry_run: bool) -> tuple[int, int]:
    """Mark what is unreferenced, and delete what has been so for the grace period, and what uploads left unfinished.

    Returns:
        How many blobs were deleted (or would be), and how many bytes.
    """
    now = clock()
    if not dry_run:
        with database.write() as connection:
            connection.execute(delete(blob_leases).where(blob_leases.c.expires_at <= to_text(now)))
        blobs.sweep_unfinished(now - max(grace, UNFINISHED_AGE))
    count = size = 0
    for group in _batches(blobs.list(), _MARKED_AT_ONCE):
        if not dry_run:
            _mark(database, group, now)
        for batch in _batches(iter(_ripe(database, group, now, now - grace)), _SWEPT_AT_ONCE):
            deleted = batch if dry_run else _sweep(database, blobs, batch, clock, now - grace)
            count += len(deleted)
            size += sum(blob.size for blob in deleted)
    return count, size


def _mark(database: Database, group: list[Blob], now: datetime) -> None:
    with database.write() as connection:
        needed = _needed(connection, group, now)
        unmark(connection, needed)
        marked = _marks(connection, group)
        fresh = [blob.digest for blob in group if blob.digest not in needed and blob.digest not in marked]
        rows = [{"digest": digest, "marked_at": to_text(now)} for digest in fresh]
        if rows:
            connection.execute(insert(blob_candidates), rows)


def _ripe(database: Database, group: list[Blob], now: datetime, cutoff: datetime) -> list[Blob]:
    with database.read() as connection:
        needed = _needed(connection, group, now)
        marked = _marks(connection, group)
    return [
        blob
        for blob in group
        if blob.digest not in needed and marked.get(blob.digest, now) <= cutoff and blob.stored_at <= cutoff
    ]


def _sweep(database: Database, blobs: BlobStore, batch: list[Blob], clock: Clock, cutoff: datetime) -> list[Blob]:
    holder = _SWEEPER + new_id()
    doomed, until = _doom(database, batch, holder, clock, cutoff)
    if not doomed:
        return []
    deleted: list[Blob] = []
    settled = False
    try:
        for blob in doomed:
            if clock() > until:
                break
            if _is_older(blobs, blob.digest, cutoff) and blobs.delete(blob.digest):
                deleted.append(blob)
        settled = True
    finally:
        with database.write() as connection:
            _record(connection, deleted, clock())
            if settled:  # else a deletion that nobody answered may still happen, so the leases stay until they run out
                connection.execute(delete(blob_leases).where(blob_leases.c.holder == holder))
    return deleted


def _doom(
    database: Database, batch: list[Blob], holder: str, clock: Clock, cutoff: datetime
) -> tuple[list[Blob], datetime]:
    """Take leases for deleting; return on what, and until when deletions may begin."""
    with database.write() as connection:
        now = clock()
        needed = _needed(connection, batch, now)
        marked = _marks(connection, batch)
        doomed = [
            blob
            for blob in batch
            if blob.digest not in needed and blob.digest in marked and marked[blob.digest] <= cutoff
        ]
        expires_at = to_text(now + _DELETING + _LONGEST_DELETION)
        if doomed:
            rows = [{"digest": blob.digest, "holder": holder, "expires_at": expires_at} for blob in doomed]
            connection.execute(insert(blob_leases), rows)
    return doomed, now + _DELETING


def _record(connection: Connection, deleted: list[Blob], now: datetime) -> None:
    if not deleted:
        return
    digests = [blob.digest for blob in deleted]
    unmark(connection, digests)
    commit_change(
        connection,
        kind="blobs",
        model="",
        subject="",
        principal=COLLECTOR,
        action="blobs.collect",
        details={"digests": digests, "bytes": sum(blob.size for blob in deleted)},
        now=now,
    )


def _is_older(blobs: BlobStore, digest: str, cutoff: datetime) -> bool:
    blob = blobs.find(digest)
    return blob is not None and blob.stored_at <= cutoff


def _needed(connection: Connection, group: list[Blob], now: datetime) -> set[str]:
    digests = [blob.digest for blob in group]
    return referenced_among(connection, digests) | set(connection.scalars(_leases(digests, now)))


def _leases(digests: Iterable[str], now: datetime) -> Select[tuple[str]]:
    wanted = blob_leases.c.digest.in_(list(digests))
    return select(blob_leases.c.digest).where(wanted, blob_leases.c.expires_at > to_text(now))


def _marks(connection: Connection, group: list[Blob]) -> dict[str, datetime]:
    found = select(blob_candidates).where(blob_candidates.c.digest.in_([blob.digest for blob in group]))
    return {row.digest: from_text(row.marked_at) for row in connection.execute(found)}


def _batches(blobs: Iterator[Blob], size: int) -> Iterator[list[Blob]]:
    while batch := list(islice(blobs, size)):
        yield batch

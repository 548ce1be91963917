"""Deleting blobs that nothing needs, in two phases, without ever taking one from a registration under way.

A blob is *marked* when no version and no lease refers to it, and *swept* when that has been so for a grace period.
Three things keep the sweep from racing a registration:

1. Leases, marks and publications are all made under the database's writer lock. A sweep checks again and deletes the
   bytes while it holds that lock, so a lease is either seen by the sweep or taken after the bytes are gone; in the
   second case the upload that follows stores them again.
2. A publication checks, under the same lock, that every blob it names is stored.
3. Bytes stored within the grace period are spared, even when the mark is older.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice

from sqlalchemy import Connection, delete, insert, select

from crossfade.registry.native_records import referenced_among
from crossfade.storage.blobs.port import Blob, BlobStore
from crossfade.storage.changes import commit_change
from crossfade.storage.database import Database
from crossfade.storage.tables import blob_candidates, blob_leases
from crossfade.storage.times import from_text, to_text

COLLECTOR = "garbage-collection"
"""The principal of deletions that nobody asked for one by one."""

_MARKED_AT_ONCE = 500
_SWEPT_AT_ONCE = 32


def lease(connection: Connection, digests: Iterable[str], holder: str, expires_at: datetime) -> None:
    """Protect digests until then, and forget that they were unreferenced."""
    wanted = sorted(set(digests))
    held = (blob_leases.c.holder == holder) & blob_leases.c.digest.in_(wanted)
    connection.execute(delete(blob_leases).where(held))
    rows = [{"digest": digest, "holder": holder, "expires_at": to_text(expires_at)} for digest in wanted]
    if rows:
        connection.execute(insert(blob_leases), rows)
    unmark(connection, wanted)


def unmark(connection: Connection, digests: Iterable[str]) -> None:
    """Forget that digests were unreferenced: something refers to them now."""
    connection.execute(delete(blob_candidates).where(blob_candidates.c.digest.in_(list(digests))))


def collect(database: Database, blobs: BlobStore, *, now: datetime, grace: timedelta, dry_run: bool) -> tuple[int, int]:
    """Mark what is unreferenced, and delete what has been so since before `now - grace`.

    Returns:
        How many blobs were deleted (or would be), and how many bytes.
    """
    if not dry_run:
        with database.write() as connection:
            connection.execute(delete(blob_leases).where(blob_leases.c.expires_at <= to_text(now)))
    count = size = 0
    for group in _batches(blobs.list(), _MARKED_AT_ONCE):
        if not dry_run:
            _mark(database, group, now)
        for batch in _batches(iter(_ripe(database, group, now, now - grace)), _SWEPT_AT_ONCE):
            deleted = batch if dry_run else _sweep(database, blobs, batch, now, now - grace)
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


def _sweep(database: Database, blobs: BlobStore, batch: list[Blob], now: datetime, cutoff: datetime) -> list[Blob]:
    with database.write() as connection:
        needed = _needed(connection, batch, now)
        deleted = [
            blob
            for blob in batch
            if blob.digest not in needed
            and _take_mark(connection, blob.digest, cutoff)
            and _is_older(blobs, blob.digest, cutoff)
            and blobs.delete(blob.digest)
        ]
        if deleted:
            commit_change(
                connection,
                kind="blobs",
                model="",
                subject="",
                principal=COLLECTOR,
                action="blobs.collect",
                details={"digests": [blob.digest for blob in deleted], "bytes": sum(blob.size for blob in deleted)},
                now=now,
            )
    return deleted


def _take_mark(connection: Connection, digest: str, cutoff: datetime) -> bool:
    # also proves, right before the bytes are deleted, that the connection and so the writer lock is still ours
    old = (blob_candidates.c.digest == digest) & (blob_candidates.c.marked_at <= to_text(cutoff))
    return connection.execute(delete(blob_candidates).where(old)).rowcount == 1


def _is_older(blobs: BlobStore, digest: str, cutoff: datetime) -> bool:
    blob = blobs.find(digest)
    return blob is not None and blob.stored_at <= cutoff


def _needed(connection: Connection, group: list[Blob], now: datetime) -> set[str]:
    digests = [blob.digest for blob in group]
    leased = select(blob_leases.c.digest).where(
        blob_leases.c.digest.in_(digests), blob_leases.c.expires_at > to_text(now)
    )
    return referenced_among(connection, digests) | set(connection.scalars(leased))


def _marks(connection: Connection, group: list[Blob]) -> dict[str, datetime]:
    found = select(blob_candidates).where(blob_candidates.c.digest.in_([blob.digest for blob in group]))
    return {row.digest: from_text(row.marked_at) for row in connection.execute(found)}


def _batches(blobs: Iterator[Blob], size: int) -> Iterator[list[Blob]]:
    while batch := list(islice(blobs, size)):
        yield batch

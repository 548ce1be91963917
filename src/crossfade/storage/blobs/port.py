"""What a blob store promises. `crossfade.testing.blobs` is the specification that every backend passes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import BinaryIO, Protocol

import msgspec


class Blob(msgspec.Struct, frozen=True):
    """A stored blob: its digest (SHA-256, hexadecimal), its size in bytes, and when it was stored."""

    digest: str
    size: int
    stored_at: datetime


class BlobReader(Protocol):
    """Where verified bytes come from: all that loading a version needs of a blob store."""

    def read(self, digest: str) -> bytes:
        """Return the whole blob, after checking that these very bytes have the digest.

        Raises:
            BlobNotFoundError: It is not stored.
            CorruptBlobError: The bytes differ from the digest.
        """


class BlobStore(BlobReader, Protocol):
    """Immutable bytes under their digest. Every method may be called from any thread."""

    def put(self, chunks: Iterable[bytes], *, limit_bytes: int, expected: str | None = None) -> Blob:
        """Store bytes while hashing them. A digest is visible only when its bytes are complete and durable.

        Storing what is already there is cheap and renews `stored_at`. A stored blob whose bytes went bad is replaced.

        Raises:
            BodyTooLargeError: More than `limit_bytes` arrive; nothing is kept.
            CorruptBlobError: The bytes do not have the `expected` digest; nothing is kept.
            StorageFullError: There is no space; nothing is kept.
            BlobsUnavailableError: The store does not answer.
        """

    def find(self, digest: str) -> Blob | None:
        """Return what is known about a digest, or None when it is not stored."""

    def find_intact(self, digest: str) -> Blob | None:
        """Return what is known about a digest whose stored bytes are good; None when they are missing or went bad.

        Takes as long as reading the blob, unless the store keeps checksums of its own, but never holds it in memory.
        Whoever relies on a blob without storing it again asks this, or a damaged one would never be replaced.
        """

    def open(self, digest: str) -> BinaryIO:
        """Return a readable stream. It does not verify: use `read` for bytes that will be parsed.

        Raises:
            BlobNotFoundError: It is not stored.
        """

    def delete(self, digest: str) -> bool:
        """Delete a blob; tell whether it was there."""

    def list(self) -> Iterator[Blob]:
        """Yield every blob in the order of digests, without loading any."""

    def sweep_unfinished(self, older_than: datetime) -> int:
        """Remove what interrupted uploads left behind before a moment; return how many.

        An upload under way that is older than that may break off, so leave them a day.
        """

    def close(self) -> None:
        """Release connections. The store cannot be used afterwards."""

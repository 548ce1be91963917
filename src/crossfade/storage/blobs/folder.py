"""Blobs in a folder: `sha256/ab/<digest>`, and `tmp/` for what is still arriving.

How a blob is stored, so that a power cut at any moment leaves either all of it or nothing under its digest:

1. write `tmp/<random>`, a new file for the owner only, hashing and counting;
2. fsync it; rename it to its digest; make it read-only; fsync the folder, and the folder's folder if that is new.

What a crash leaves in `tmp/` is harmless, and `sweep_unfinished` removes it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import secrets
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Self

from crossfade.core.hashing import is_digest, sha256
from crossfade.errors import (
    BlobNotFoundError,
    BlobsUnavailableError,
    BodyTooLargeError,
    CorruptBlobError,
    StorageFullError,
)
from crossfade.settings import Settings
from crossfade.storage.blobs.port import Blob
from crossfade.storage.filesystem import FileSystem, LocalFileSystem, make_durable_folder

_READ_ONLY = 0o444
_CHUNK = 1 << 20
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class FolderBlobStore:
    """A blob store in a folder of a local disk. Several processes may use one folder at the same time.

    Args:
        root: The folder; made when missing.
        filesystem: Stands in for the disk in tests.

    Raises:
        BlobsUnavailableError: The folder cannot be made or used.
        StorageFullError: There is no space to make it.

    Example:
        >>> store = FolderBlobStore(Path("/srv/blobs"))  # doctest: +SKIP
        >>> store.put([b"hello"], limit_bytes=100).size  # doctest: +SKIP
        5
    """

    def __init__(self, root: Path, filesystem: FileSystem | None = None) -> None:
        self.root = root
        self._filesystem: FileSystem = filesystem or LocalFileSystem()
        self._temporary = root / "tmp"
        self._blobs = root / "sha256"
        # Shards whose own name is known to survive a power cut. A shard that merely exists may have been made by a
        # process that died before it synchronised the folder above, so each process does that once per shard.
        self._durable_shards: set[Path] = set()
        with self._translated():
            self._make_folders()

    @classmethod
    def from_url(cls, url: str, settings: Settings) -> Self:  # noqa: ARG003 - the signature of every backend
        """Open the folder that a path or `file:///path` names."""
        return cls(Path(url.removeprefix("file://")).absolute())

    def put(self, chunks: Iterable[bytes], *, limit_bytes: int, expected: str | None = None) -> Blob:
        """Store bytes durably under their digest; see `BlobStore.put`."""
        temporary = self._temporary / secrets.token_hex(16)
        with self._translated():
            handle = self._filesystem.open_new(temporary)
        try:
            try:
                digest, size = self._receive(handle, chunks, limit_bytes)
                if expected is not None and digest != expected:
                    raise CorruptBlobError(digest=expected, path="bytes", ref="this upload", damage=f"{digest} instead")
                with self._translated():
                    kept = self._renew(digest, size)
                    if not kept:
                        self._filesystem.fsync(handle)
            finally:
                with self._translated():
                    self._filesystem.close(handle)
            with self._translated():
                if not kept:
                    self._publish(temporary, digest)
                # Even when it was there: its writer may have died between the rename and this.
                self._filesystem.fsync_dir(self._path(digest).parent)
                return self._blob(digest)
        finally:
            with contextlib.suppress(OSError):  # usually it has been renamed; `sweep_unfinished` is the second chance
                self._filesystem.unlink(temporary)

    def find(self, digest: str) -> Blob | None:
        """Return what is known about a digest; see `BlobStore.find`."""
        if not is_digest(digest):
            return None
        with self._translated():
            try:
                return self._blob(digest)
            except FileNotFoundError:
                return None

    def find_intact(self, digest: str) -> Blob | None:
        """Return what is known about a digest whose bytes are good; see `BlobStore.find_intact`."""
        blob = self.find(digest)
        with self._translated(), contextlib.suppress(FileNotFoundError):  # deleted since it was found
            if blob is not None and self._is_good(self._path(digest), digest):
                return blob
        return None

    def open(self, digest: str) -> BinaryIO:
        """Return a readable stream; see `BlobStore.open`."""
        if not is_digest(digest):
            raise BlobNotFoundError(digest=digest[:80])
        with self._translated():
            try:
                return self._filesystem.open_read(self._path(digest))
            except FileNotFoundError as error:
                raise BlobNotFoundError(digest=digest) from error

    def read(self, digest: str) -> bytes:
        """Return the verified bytes; see `BlobStore.read`."""
        with self.open(digest) as stream, self._translated():
            data = stream.read()
        if sha256(data) != digest:
            raise CorruptBlobError(digest=digest, path="bytes", ref=str(self.root), damage="damaged")
        return data

    def delete(self, digest: str) -> bool:
        """Delete a blob; see `BlobStore.delete`."""
        if not is_digest(digest):
            return False
        with self._translated():
            try:
                self._filesystem.unlink(self._path(digest))
            except FileNotFoundError:
                return False
        return True

    def list(self) -> Iterator[Blob]:
        """Yield every blob in the order of digests; see `BlobStore.list`."""
        for shard in self._names(self._blobs):
            for name in self._names(self._blobs / shard):
                # Whatever else somebody put there is not ours to report, still less to collect as garbage.
                if is_digest(name) and name.startswith(shard) and (blob := self.find(name)) is not None:
                    yield blob

    def sweep_unfinished(self, older_than: datetime) -> int:
        """Remove what interrupted uploads left behind, last written before then; see `BlobStore.sweep_unfinished`."""
        removed = 0
        for name in self._names(self._temporary):
            path = self._temporary / name
            # It may finish, and lose this name, at any moment.
            with self._translated(), contextlib.suppress(FileNotFoundError):
                if self._filesystem.stat(path).modified_at < older_than:
                    self._filesystem.unlink(path)
                    removed += 1
        return removed

    def close(self) -> None:
        """Do nothing: no connection is held."""

    def _make_folders(self) -> None:
        make_durable_folder(self._filesystem, self.root)
        self._filesystem.mkdir(self._temporary)
        self._filesystem.mkdir(self._blobs)
        self._filesystem.fsync_dir(self.root)

    def _receive(self, handle: int, chunks: Iterable[bytes], limit_bytes: int) -> tuple[str, int]:
        hashed, size = hashlib.sha256(), 0
        for chunk in chunks:
            size += len(chunk)
            if size > limit_bytes:
                raise BodyTooLargeError(limit_bytes=limit_bytes)
            hashed.update(chunk)
            with self._translated():
                self._filesystem.write(handle, chunk)
        return hashed.hexdigest(), size

    def _renew(self, digest: str, size: int) -> bool:
        """Keep the stored blob and renew its time if its bytes are good; tell whether."""
        path = self._path(digest)
        try:
            if self._filesystem.stat(path).size != size or not self._is_good(path, digest):
                return False
            self._filesystem.touch(path)
        except FileNotFoundError:
            return False
        self._make_durable_shard(path.parent)
        return True

    def _is_good(self, path: Path, digest: str) -> bool:
        hashed = hashlib.sha256()
        with self._filesystem.open_read(path) as stream:
            while chunk := stream.read(_CHUNK):
                hashed.update(chunk)
        return hashed.hexdigest() == digest

    def _publish(self, temporary: Path, digest: str) -> None:
        path = self._path(digest)
        self._make_durable_shard(path.parent)
        self._filesystem.rename(temporary, path)
        self._filesystem.chmod(path, _READ_ONLY)

    def _make_durable_shard(self, shard: Path) -> None:
        made = self._filesystem.mkdir(shard)
        if made or shard not in self._durable_shards:
            self._filesystem.fsync_dir(shard.parent)
            self._durable_shards.add(shard)

    def _blob(self, digest: str) -> Blob:
        info = self._filesystem.stat(self._path(digest))
        return Blob(digest=digest, size=info.size, stored_at=info.modified_at)

    def _path(self, digest: str) -> Path:
        return self._blobs / digest[:2] / digest

    def _names(self, folder: Path) -> Sequence[str]:
        with self._translated():
            try:
                return self._filesystem.list_names(folder)
            except (FileNotFoundError, NotADirectoryError):
                return []

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise StorageFullError(where=str(self.root)) from error
            raise BlobsUnavailableError(problem=f"{self.root}: {error.strerror or error}") from error

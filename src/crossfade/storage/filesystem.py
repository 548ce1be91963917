"""The few file operations that durable storage is made of, behind an interface.

Storage code calls nothing else, so that a test can stand in for the disk: it records what was not yet synchronised,
cuts the power at every operation, and checks every state that the disk may then be in.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

DIRECTORY_MODE = 0o700
"""Folders are for the owner only."""


class FileInfo(NamedTuple):
    """Size in bytes and time of the last change of a file."""

    size: int
    modified_at: datetime


class FileSystem(Protocol):
    """File operations. Every one raises OSError as the operating system does."""

    def open_new(self, path: Path) -> int:
        """Create a file that did not exist, readable and writable by its owner only; return a handle."""

    def write(self, handle: int, data: bytes | memoryview) -> None:
        """Append all of `data`."""

    def fsync(self, handle: int) -> None:
        """Return when the contents of the file survive a power cut."""

    def sync_data(self, handle: int) -> None:
        """Return when the contents of the file survive a power cut; its times may not."""

    def truncate(self, path: Path, size: int) -> None:
        """Cut a file to its first `size` bytes, and return when that survives a power cut."""

    def close(self, handle: int) -> None:
        """Close a handle of `open_new`."""

    def open_read(self, path: Path) -> BinaryIO:
        """Open a file for reading."""

    def rename(self, source: Path, target: Path) -> None:
        """Give a file another name, replacing atomically what had it."""

    def unlink(self, path: Path) -> None:
        """Delete a name."""

    def chmod(self, path: Path, mode: int) -> None:
        """Set the permissions."""

    def touch(self, path: Path) -> None:
        """Set the time of the last change to now."""

    def stat(self, path: Path) -> FileInfo:
        """Return size and time of a file."""

    def mkdir(self, path: Path) -> bool:
        """Make a folder for the owner only; return False when there is one already."""

    def list_names(self, path: Path) -> list[str]:
        """Return the sorted names in a folder."""

    def fsync_dir(self, path: Path) -> None:
        """Return when the names in a folder survive a power cut."""


class LocalFileSystem:
    """The operating system's files."""

    def open_new(self, path: Path) -> int:
        """Create a file; see `FileSystem`."""
        # append: after a file was cut, what follows must not leave a hole
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, handle: int, data: bytes | memoryview) -> None:
        """Append all of `data`; see `FileSystem`."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]

    def fsync(self, handle: int) -> None:
        """Make contents durable; see `FileSystem`."""
        os.fsync(handle)

    def sync_data(self, handle: int) -> None:
        """Make contents durable; see `FileSystem`."""
        os.fdatasync(handle)

    def truncate(self, path: Path, size: int) -> None:
        """Cut a file; see `FileSystem`."""
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.ftruncate(handle, size)
            os.fsync(handle)
        finally:
            os.close(handle)

    def close(self, handle: int) -> None:
        """Close a handle; see `FileSystem`."""
        os.close(handle)

    def open_read(self, path: Path) -> BinaryIO:
        """Open for reading; see `FileSystem`."""
        return path.open("rb")

    def rename(self, source: Path, target: Path) -> None:
        """Rename atomically; see `FileSystem`."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Delete a name; see `FileSystem`."""
        path.unlink()

    def chmod(self, path: Path, mode: int) -> None:
        """Set permissions; see `FileSystem`."""
        path.chmod(mode)

    def touch(self, path: Path) -> None:
        """Renew the time; see `FileSystem`."""
        os.utime(path)

    def stat(self, path: Path) -> FileInfo:
        """Return size and time; see `FileSystem`."""
        found = path.stat()
        return FileInfo(found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    def mkdir(self, path: Path) -> bool:
        """Make a folder; see `FileSystem`."""
        try:
            path.mkdir(mode=DIRECTORY_MODE)
        except FileExistsError:
            return False
        return True

    def list_names(self, path: Path) -> list[str]:
        """Return sorted names; see `FileSystem`."""
        return sorted(os.listdir(path))  # noqa: PTH208 - iterdir would build a Path for each of very many names

    def fsync_dir(self, path: Path) -> None:
        """Make names durable; see `FileSystem`."""
        with _opened_directory(path) as handle:
            os.fsync(handle)


def make_durable_folder(filesystem: FileSystem, folder: Path) -> None:
    """Make a folder, and those above it, so that it survives a power cut.

    Folders that were there are synchronised too: whoever made them may have died before doing so.

    Raises:
        OSError: It cannot be made.
    """
    for each in (*reversed(folder.parents), folder):
        made = filesystem.mkdir(each)
        try:
            filesystem.fsync_dir(each.parent)
        except OSError:
            # A folder further up may be closed to us, or on a read-only disk: it is not of our making.
            if made:
                raise


@contextlib.contextmanager
def _opened_directory(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)

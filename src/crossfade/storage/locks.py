"""`FileLock`: a file that one process holds for as long as it lives; the system lets go of it however that ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path


class FileLock:
    """A lock that is held; from `make` or `take`.

    Args:
        path: The file.
        handle: Of the file, locked.
    """

    def __init__(self, path: Path, handle: int) -> None:
        self._path = path
        self._handle = handle

    @classmethod
    def take(cls, path: Path) -> FileLock | None:
        """Take the lock without waiting; None while another process, or another part of this one, holds it.

        Raises:
            OSError: The file cannot be made.

        Example:
            >>> FileLock.take(Path("/tmp/a.lock"))  # doctest: +SKIP
        """
        handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            # flock, not fcntl: it belongs to this opening of the file, so closing another one does not lose it
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(path).st_ino == os.fstat(handle).st_ino:  # noqa: PTH116 - beside its twin
                return cls(path, handle)
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # held by others, or its holder deleted the file while it was being taken
        return None

    @classmethod
    def make(cls, path: Path) -> FileLock:
        """Make the file, so that nobody sees it before it is held.

        Raises:
            OSError: It cannot be made.
        """
        beside = path.with_suffix(".new")
        handle = os.open(beside, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            beside.rename(path)
        except BaseException:
            os.close(handle)
            raise
        return cls(path, handle)

    def release(self, *, delete: bool = False) -> None:
        """Let go of the lock, and of its file when nobody will need it again."""
        if delete:
            with contextlib.suppress(OSError):
                self._path.unlink()
        os.close(self._handle)

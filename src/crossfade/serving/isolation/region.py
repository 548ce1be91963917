"""`Region`: memory that the server and one model process share, for tensors too large for a packet.

The server makes it and seals its size, so that the other side cannot shrink it under the reader's feet (which would
end the server with SIGBUS). What is read is copied out before it is looked at, because the other side could change it
meanwhile.

Source: memfd_create(2), and "File sealing" in fcntl(2).
"""

from __future__ import annotations

import fcntl
import mmap
import os

_STEP = 2**20
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Region:
    """Shared memory of a fixed size.

    Args:
        fd: Of the memory; owned by the region from now on.

    Example:
        >>> region = Region.create(10)
        >>> region.write(b"hello")
        >>> region.read(5)
        b'hello'
        >>> region.close()
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.size = os.fstat(fd).st_size
        self._memory = mmap.mmap(fd, self.size)

    @classmethod
    def create(cls, size: int) -> Region:
        """Return a new region of at least `size` bytes.

        Raises:
            OSError: There is not enough memory.
        """
        fd = os.memfd_create("crossfade", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, -(-max(size, 1) // _STEP) * _STEP)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            return cls(fd)
        except OSError:
            os.close(fd)
            raise

    def write(self, data: bytes) -> None:
        """Put bytes at the start; they must fit."""
        self._memory[: len(data)] = data

    def read(self, size: int) -> bytes:
        """Return a copy of the first `size` bytes.

        Raises:
            ValueError: There are not so many.
        """
        if not 0 <= size <= self.size:
            raise ValueError(f"a region of {self.size} bytes holds no {size}")
        return self._memory[:size]

    def close(self) -> None:
        """Let go of it."""
        self._memory.close()
        os.close(self.fd)


def sealed_bytes(parts: list[bytes]) -> int:
    """Return the file descriptor of memory that holds all parts one after the other, and that nobody can change.

    Raises:
        OSError: There is not enough memory.
    """
    fd = os.memfd_create("crossfade", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        for part in parts:
            _write_all(fd, part)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS | fcntl.F_SEAL_WRITE)
    except OSError:
        os.close(fd)
        raise
    return fd


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]

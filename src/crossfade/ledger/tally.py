"""`Tally`: how many exposures there have been, in memory that outlives the process: what a crash loses is known.

The memory is a small file that is mapped: a number written to it is in the system's hands at once, without a system
call, and is there for whoever looks after the process was killed. Comparing it with what the journal holds tells
exactly how many exposures of which experiment are missing. It does not outlive the machine, and does not claim to.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from crossfade.ledger.gaps import EVERY

SLOTS = 1024
_NAME_BYTES = 64
_HEAD = struct.Struct("<8s40sQ")
_SYNCED = 6
"""Where the number of frames is in the head, in words of eight bytes."""
_MAGIC = b"CFTALLY1"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMES_AT = _HEAD.size
_NUMBERS_AT = _NAMES_AT + SLOTS * _NAME_BYTES
_SIZE = _NUMBERS_AT + 2 * 8 * SLOTS


@dataclass(frozen=True)
class Counted:
    """What a tally says.

    Args:
        boot: Which start of the machine it was; empty when the system does not tell.
        synced: Frames of the journal that were durable.
        offered: Experiment -> exposures that there have been.
        dropped: Experiment -> those that are known not to have been written.
    """

    boot: str = ""
    synced: int = 0
    offered: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)


def this_boot() -> str:
    """Return which start of this machine it is; empty where the system does not tell."""
    try:
        return _BOOT.read_text().strip()[:40]
    except OSError:
        return ""


class Tally:
    """Counts by experiment. Begins in ordinary memory; `keep` moves it to a file.

    Not for several threads at a time, except that one may count while others read.

    Attributes:
        offered, dropped: Counts by slot, to be incremented in place.

    Example:
        >>> tally = Tally()
        >>> tally.offered[tally.slot("late")] += 1
        >>> counted(tally.copy()).offered
        {'late': 1}
    """

    def __init__(self) -> None:
        self._slots: dict[str, int] = {}
        self._file: mmap.mmap | None = None
        self._place(memoryview(bytearray(_SIZE)))
        _HEAD.pack_into(self._memory, 0, _MAGIC, this_boot().encode(), 0)
        self.slot(EVERY)  # the first one holds what has no place of its own

    def slot(self, experiment: str) -> int:
        """Return the place of an experiment. Those beyond the first `SLOTS`, and hopeless names, share one."""
        found = self._slots.get(experiment)
        if found is not None:
            return found
        name = str(experiment).encode("utf-8", "replace")
        number = len(self._slots)
        if number >= SLOTS or len(name) > _NAME_BYTES or b"\0" in name:
            return 0
        at = _NAMES_AT + number * _NAME_BYTES
        self._memory[at : at + len(name)] = name
        self._slots[experiment] = number
        return number

    def synced(self, frames: int) -> None:
        """Note how many frames of the journal are durable."""
        self._head[_SYNCED] = frames  # one word at a time: whoever kills this process finds it whole

    def keep(self, path: Path) -> None:
        """Move to a new file; nobody may count meanwhile.

        Raises:
            OSError: It cannot be made; the tally stays where it was.
        """
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(handle, 0, _SIZE)  # a mapped page without a place on the disk would end the process
            mapped = mmap.mmap(handle, _SIZE)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(handle)
        mapped[:] = bytes(self._memory)
        self._release()
        self._file = mapped
        self._place(memoryview(mapped))

    def copy(self) -> bytes:
        """Return what `counted` reads."""
        return bytes(self._memory)

    def close(self) -> None:
        """Let go of the file; what is counted from now on is forgotten."""
        memory = memoryview(bytearray(self._memory))
        self._release()
        if self._file is not None:
            self._file.close()
            self._file = None
        self._place(memory)

    def _place(self, memory: memoryview) -> None:
        self._memory = memory
        numbers = memory[_NUMBERS_AT:].cast("Q")
        self.offered = numbers[:SLOTS]
        self.dropped = numbers[SLOTS:]
        self._head = memory[: _HEAD.size].cast("Q")
        self._views = (self._head, numbers, self.offered, self.dropped, memory)

    def _release(self) -> None:
        for view in self._views:
            view.release()


def read_tally(path: Path) -> Counted | None:
    """Return what the tally of a process that has ended says, or None when there is none that can be read."""
    try:
        with path.open("rb") as file:
            content = file.read(_SIZE + 1)
    except OSError:
        return None
    return counted(content) if len(content) == _SIZE and content.startswith(_MAGIC) else None


def counted(content: bytes) -> Counted:
    """Return what the content of a tally says."""
    _, boot, synced = _HEAD.unpack_from(content)
    names = [_text(content[at : at + _NAME_BYTES]) for at in range(_NAMES_AT, _NUMBERS_AT, _NAME_BYTES)]
    numbers = struct.unpack_from(f"<{2 * SLOTS}Q", content, _NUMBERS_AT)
    columns: list[dict[str, int]] = []
    for first in (0, SLOTS):
        column: dict[str, int] = {}
        for name, number in zip(names, numbers[first : first + SLOTS], strict=True):
            if number:
                column[name] = column.get(name, 0) + number
        columns.append(column)
    return Counted(_text(boot), synced, *columns)


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode("utf-8", "replace")

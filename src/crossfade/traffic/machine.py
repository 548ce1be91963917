"""Which machine this is, and which of its processes have ended: a dead neighbour need not be waited for."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from crossfade.core.hashing import sha256
from crossfade.core.identity import new_id

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")
_SEPARATOR = "."


@cache
def this_machine() -> str:
    """Return what the processes that see each other's pids have in common; empty where the system does not tell.

    A host name is not enough: containers may share it and number their processes each on its own.
    """
    try:
        return sha256(f"{_BOOT.read_text()} {_PID_NAMESPACE.readlink()}".encode())[:16]
    except OSError:
        return ""


def new_process_id() -> str:
    """Return a new id for this process, which names its machine."""
    return f"{new_id()}{_SEPARATOR}{this_machine()}"


def has_ended(process: str, pid: int) -> bool:
    """Tell whether a process is known to have ended; one of another machine never is."""
    machine = process.partition(_SEPARATOR)[2]
    if not machine or machine != this_machine():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it is there, and belongs to somebody else
        return False
    return False

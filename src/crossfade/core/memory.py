"""How much memory there is: of this process, of the machine, and of the container that both are seen from."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_MEMINFO = Path("/proc/meminfo")
_STATM = Path("/proc/self/statm")


def resident_bytes() -> int:
    """Return the resident memory of this process; 0 where the system does not tell."""
    try:
        return int(_STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def private_bytes() -> int:
    """Return what counts as private memory of this process (RLIMIT_DATA); 0 where the system does not tell.

    Source: proc_pid_statm(5), "data".
    """
    try:
        return int(_STATM.read_bytes().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def proportional_bytes(pid: int) -> int:
    """Return the memory of another process, what it shares counted in part; 0 when it has ended or hides.

    Source: proc_pid_smaps(5), "Pss".
    """
    try:
        found = re.search(rb"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_bytes(), re.MULTILINE)
    except OSError:
        return 0
    return 0 if found is None else 1024 * int(found[1])


def total_bytes() -> float:
    """Return the memory of the machine, or of its container."""
    return min(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), _container_bytes())


def available_bytes() -> float:
    """Return how much the machine has to give, or its container at most; infinity where the system does not tell."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(), re.MULTILINE)
    except OSError:
        return math.inf
    return min(math.inf if found is None else 1024.0 * int(found[1]), _container_bytes())


def size(count: float) -> str:
    """Return a number of bytes as people read it.

    Example:
        >>> size(1536)
        '1.5 KiB'
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} TiB"


def _container_bytes() -> float:
    return min(map(_limit, _CGROUP_LIMITS))


def _limit(path: Path) -> float:
    try:
        text = path.read_text().strip()
    except OSError:
        return math.inf
    return math.inf if text == "max" else float(text)

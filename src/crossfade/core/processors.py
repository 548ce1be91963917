"""How many processors there are for this process, and keeping the thread pools of libraries within them."""

from __future__ import annotations

import math
import os
from pathlib import Path

THREADS_VARIABLE = "OMP_NUM_THREADS"
"""What OpenMP, OpenBLAS, MKL and PyTorch read when they are loaded."""
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def available_processors() -> int:
    """Return how many processors this process may use: of the machine, or of its container."""
    return max(1, min(len(os.sched_getaffinity(0)), _container_processors()))


def bound_threads(processes: int) -> int:
    """Divide the processors among processes, and tell libraries that are loaded from now on, here and in children.

    Somebody who has set `OMP_NUM_THREADS` is left alone.

    Args:
        processes: How many of them serve.

    Returns:
        Threads of each pool of each process, at least 1.
    """
    if not _bound():
        os.environ[THREADS_VARIABLE] = str(max(1, available_processors() // processes))
    return thread_bound()


def thread_bound() -> int:
    """Return how many threads a pool of this process may have."""
    return _bound() or available_processors()


def cpu_seconds(pid: int) -> float:
    """Return how much processor time another process has used; 0 when it has ended.

    Source: proc_pid_stat(5), "utime" and "stime".
    """
    try:
        after_name = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def _bound() -> int:
    first = os.environ.get(THREADS_VARIABLE, "").partition(",")[0].strip()  # further numbers are for nested regions
    return int(first) if first.isdecimal() else 0


def _container_processors() -> int:
    """Return the quota of the container in whole processors, rounded up."""
    try:
        quota, period = _QUOTA.read_text().split()
    except (OSError, ValueError):
        return os.cpu_count() or 1
    return os.cpu_count() or 1 if quota == "max" else math.ceil(int(quota) / int(period))

"""CPU time of `crossfade --help`, beside a Python that imports nothing."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.harness import Result

GOAL_SECONDS = 0.150
"""The command line must feel instant: under 150 ms of CPU."""


def child_cpu(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run() -> Iterator[Result]:
    helps = [child_cpu([sys.executable, "-m", "crossfade", "--help"]) for _ in range(11)]
    yield Result("help_cpu", statistics.median(helps), "s", goal=GOAL_SECONDS)
    bare = statistics.median(child_cpu([sys.executable, "-c", "pass"]) for _ in range(11))
    yield Result("help_cpu_beside_python", statistics.median(helps), "s", baseline=bare)

"""CPU time of commands that people wait for, beside a Python that imports nothing or only their libraries."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from benchmarks.harness import Result

GOAL_SECONDS = 0.150
"""The command line must feel instant: under 150 ms of CPU."""
GOAL_LIST = 1.5
"""What Crossfade adds to the libraries that a local command stands on."""
LIBRARIES = "import click, fastapi, httpx, numpy, pydantic_settings, sqlalchemy, structlog"
REPEATS = 11


def child_cpu(command: list[str], env: dict[str, str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compared(name: str, arguments: list[str], baseline: str, goal: float | None, env: dict[str, str]) -> Result:
    """Measure in turns, so that a machine that changes its speed changes both."""
    commands = ([sys.executable, "-m", "crossfade", *arguments], [sys.executable, "-c", baseline])
    pairs = [[child_cpu(command, env) for command in commands] for _ in range(REPEATS)]
    ours, bare = (statistics.median(times) for times in zip(*pairs, strict=True))
    return Result(name, ours, "s", baseline=bare, goal=goal)


def run() -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as home:
        env = os.environ | {"CROSSFADE_HOME": home}
        beside = compared("help_cpu_beside_python", ["--help"], "pass", None, env)
        yield Result("help_cpu", beside.value, "s", goal=GOAL_SECONDS)
        yield beside
        child_cpu([sys.executable, "-m", "crossfade", "models", "list"], env)  # the first makes the database
        yield compared("models_list_cpu", ["models", "list"], LIBRARIES, GOAL_LIST, env)

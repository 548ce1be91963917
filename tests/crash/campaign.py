"""Kill registry operations with SIGKILL at every system call that can change something, and look for damage.

Usage: python -m tests.crash.campaign [SCENARIO...]

A dry run under strace counts the calls of an operation; then the operation is run once per call and killed on entering
it. After each kill an oracle checks that every visible version is whole and verified, that earlier versions and the
audit chain are intact, that doing the operation again arrives where it should, and that garbage collection then keeps
it so. Everything is deterministic: a failure prints the scenario, the call and its number. Exits with 1 if there is
damage, and if the campaign proves less than it says: a point where nothing was killed, or too few points in all.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, Self

from tests.crash.scenarios import SCENARIOS

CALLS = (
    *("write", "pwrite64", "writev", "pwritev", "fsync", "fdatasync", "sync_file_range", "lseek"),
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat"),
    *("mkdir", "mkdirat", "rmdir", "truncate", "ftruncate", "fallocate", "open", "openat", "creat", "close"),
    *("fcntl", "flock", "chmod", "fchmod", "fchmodat", "fchmodat2", "utimensat"),
)
"""Calls that write, or decide who may; those that a machine does not have are passed over."""

PROCESSES = 2

LEAST_POINTS = 300
"""A whole campaign that strikes fewer has lost sight of what it should kill."""


class Point(NamedTuple):
    """Where an operation is killed: on entering the `number`-th call of this kind."""

    scenario: str
    call: str
    number: int
    sabotage: str = ""

    def __str__(self) -> str:
        return f"{self.scenario}: {self.call} number {self.number}"


class Outcome(NamedTuple):
    """What came of one point: whether the process was killed there, and what the oracle found, if anything."""

    point: Point
    killed: bool
    damage: str


class Zygote:
    """One process that prepares, operates and checks on request; see `zygote.py`."""

    def __init__(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
        environment |= {"OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            encoding="utf-8",
        )
        self._hear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def prepare(self, home: Path, scenario: str) -> None:
        """Make `home/registry` the registry that a scenario starts from."""
        (home / "registry").mkdir(parents=True)
        self._ask(do="prepare", home=str(home), scenario=scenario)
        self._expect_success(home)

    def check(self, home: Path, scenario: str) -> str:
        """Return what the oracle finds wrong."""
        self._ask(do="check", home=str(home), scenario=scenario)
        return "" if self._hear() == 0 else (home / "error").read_text(encoding="utf-8")

    def operate(self, home: Path, point: Point, *strace: str) -> bool:
        """Run the operation under strace, with these arguments; tell whether it was killed."""
        os.mkfifo(home / "go")
        self._ask(do="operate", home=str(home), scenario=point.scenario, sabotage=point.sabotage)
        command = ["strace", "-f", "-p", str(self._hear()), *strace]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, encoding="utf-8") as tracer:
            assert tracer.stderr is not None
            attached = tracer.stderr.readline()
            (home / "go").write_bytes(b"x")  # the child waits for it even when strace could not attach
            code = self._hear()
            tracer.stderr.read()
        if "attached" not in attached:
            raise RuntimeError(f"strace cannot attach: {attached.strip()}")
        if code == 1:
            raise RuntimeError((home / "error").read_text(encoding="utf-8"))
        return code != 0

    def _expect_success(self, home: Path) -> None:
        if self._hear() != 0:
            raise RuntimeError((home / "error").read_text(encoding="utf-8"))

    def _ask(self, **request: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def _hear(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the zygote died")
        return json.loads(line)


class Campaign:
    """Prepared registries in a folder, and a few zygotes that work on copies of them in parallel."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._zygotes: SimpleQueue[Zygote] = SimpleQueue()
        for _ in range(PROCESSES):
            self._zygotes.put(Zygote())

    def close(self) -> None:
        """End the zygotes."""
        for _ in range(PROCESSES):
            self._zygotes.get().__exit__()

    @contextmanager
    def _zygote(self) -> Iterator[Zygote]:
        zygote = self._zygotes.get()
        try:
            yield zygote
        finally:
            self._zygotes.put(zygote)

    @contextmanager
    def _copy(self, scenario: str) -> Iterator[Path]:
        home = Path(tempfile.mkdtemp(dir=self._folder))
        shutil.copytree(self._folder / scenario / "registry", home / "registry")
        yield home
        shutil.rmtree(home)

    def points(self, scenario: str, sabotage: str = "") -> list[Point]:
        """Count the calls of an undisturbed operation, and return a point for each."""
        with self._zygote() as zygote:
            if not (self._folder / scenario).exists():
                zygote.prepare(self._folder / scenario, scenario)
            with self._copy(scenario) as home:
                trace = home / "trace"
                point = Point(scenario, "", 0, sabotage)
                zygote.operate(home, point, "-e", f"trace={','.join('?' + call for call in CALLS)}", "-o", str(trace))
                made = Counter(re.findall(r"^(?:\d+ +)?(\w+)\(", trace.read_text(encoding="utf-8"), re.MULTILINE))
        return [Point(scenario, call, number, sabotage) for call in sorted(made) for number in range(1, made[call] + 1)]

    def strike(self, point: Point) -> Outcome:
        """Kill one operation at one point, and let the oracle look."""
        with self._zygote() as zygote, self._copy(point.scenario) as home:
            inject = f"inject={point.call}:signal=KILL:when={point.number}"
            killed = zygote.operate(home, point, "-e", f"trace={point.call}", "-e", inject, "-o", "/dev/null")
            return Outcome(point, killed, zygote.check(home, point.scenario))

    def strike_all(self, points: Sequence[Point]) -> Iterator[Outcome]:
        """Strike at every point, a few at a time, in order."""
        with ThreadPoolExecutor(PROCESSES) as pool:
            yield from pool.map(self.strike, points)


@contextmanager
def open_campaign() -> Iterator[Campaign]:
    """Open a campaign in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="crossfade-crash-") as folder:
        campaign = Campaign(Path(folder))
        try:
            yield campaign
        finally:
            campaign.close()


def problems_of(outcomes: Sequence[Outcome], *, least: int) -> list[str]:
    """Return why a campaign proves nothing, or proves damage; empty when it is a success."""
    problems = [f"{outcome.point}\n{outcome.damage}" for outcome in outcomes if outcome.damage]
    problems += [f"{outcome.point}: nothing was killed there" for outcome in outcomes if not outcome.killed]
    if len(outcomes) < least:
        problems.append(f"only {len(outcomes)} points were struck, at least {least} are expected")
    return problems


def main(names: Sequence[str]) -> int:
    """Run whole scenarios, print a summary line each and what failed, and return the exit code."""
    outcomes: list[Outcome] = []
    with open_campaign() as campaign:
        for name in names or SCENARIOS:
            start = time.monotonic()
            found = list(campaign.strike_all(campaign.points(name)))
            killed, damaged = sum(outcome.killed for outcome in found), sum(bool(outcome.damage) for outcome in found)
            seconds = time.monotonic() - start
            print(f"{name}: {len(found)} points, {killed} killed, {damaged} damaged, {seconds:.0f} s", flush=True)
            outcomes += found
    # who names scenarios wants these, however few points they have
    problems = problems_of(outcomes, least=1 if names else LEAST_POINTS)
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

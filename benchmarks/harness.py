"""What a benchmark reports, and the processes it measures.

Machines are noisy, so every figure comes with a baseline measured in the same run, and goals are about the ratio where
there is one. Nothing here fails a build.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Result:
    """One figure. `goal` is an upper bound of the ratio when there is a baseline, else of the value."""

    name: str
    value: float
    unit: str
    baseline: float | None = None
    goal: float | None = None

    @property
    def ratio(self) -> float | None:
        return self.value / self.baseline if self.baseline else None

    @property
    def met(self) -> bool | None:
        measured = self.ratio if self.baseline else self.value
        return None if self.goal is None or measured is None else measured <= self.goal

    def line(self) -> str:
        shown = {
            "name": self.name,
            "value": rounded(self.value),
            "unit": self.unit,
            "baseline": rounded(self.baseline),
            "ratio": rounded(self.ratio),
            "goal": self.goal,
            "met": self.met,
        }
        return json.dumps(shown)


def rounded(value: float | None) -> float | None:
    """Four digits, which is more than a measurement is good for."""
    return None if value is None else float(f"{value:.4g}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def family_of(pid: int) -> list[int]:
    """The process and all its live descendants, whichever of its threads started them."""
    children: list[str] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended meanwhile
            children += thread.read_text().split()
    return [pid, *(member for child in children for member in family_of(int(child)))]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its live descendants."""
    total = 0
    for member in family_of(pid):
        with suppress(OSError):  # it has ended meanwhile
            fields = _stat(member)
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def loop_seconds(pid: int) -> float:
    """CPU time of the first thread of a process, to the nanosecond: in a server, that of its event loop."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


def memory_bytes(pid: int) -> int:
    """Resident memory of a process and its live descendants; what several share counts once (PSS)."""
    total = 0
    for member in family_of(pid):
        with suppress(OSError):
            rollup = Path(f"/proc/{member}/smaps_rollup").read_text()
            total += int(rollup.split("\nPss:", 1)[1].split(maxsplit=1)[0]) * 1024
    return total


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third, the state, on."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()


@contextmanager
def server(
    command: list[str],
    url: str,
    *,
    env: dict[str, str] | None = None,
    python: str = sys.executable,
    log: Path = Path(os.devnull),
) -> Iterator[int]:
    """Run a server until the block ends; yields its pid once `url` answers 200. `log` gets what it prints."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [python, *command], env=os.environ | (env or {}), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_for(url, process)
        yield process.pid
    finally:
        _end(process)


@contextmanager
def static_server(workers: int = 1) -> Iterator[tuple[int, int]]:
    """Run the server that always answers the same; yields its port and pid."""
    port = free_port()
    command, env = ["-m", "benchmarks.static_app", str(port)], {"WEB_CONCURRENCY": str(workers)}
    with server(command, f"http://127.0.0.1:{port}/", env=env) as pid:
        yield port, pid


@contextmanager
def crossfade_server(home: Path, *options: str, **settings: str) -> Iterator[tuple[int, int]]:
    """Run `crossfade serve` on a home that has been filled before; yields its port and pid."""
    port = free_port()
    command = ["-m", "crossfade", "serve", "--port", str(port), *options]
    with server(command, f"http://127.0.0.1:{port}/readyz", env={"CROSSFADE_HOME": str(home)} | settings) as pid:
        yield port, pid


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server, and then whatever it leaves behind of the processes that it had."""
    family = {pid: started for pid in family_of(process.pid) if (started := _started_at(pid))}
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid, started in family.items():
        if _started_at(pid) == started:  # not another one that got the number since
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _started_at(pid: int) -> str:
    """When a process started, in ticks since the machine did; empty when there is none."""
    try:
        return _stat(pid)[19]
    except OSError:
        return ""


def wait_for(url: str, process: subprocess.Popen[bytes], timeout: float = 120) -> None:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise TimeoutError(url)

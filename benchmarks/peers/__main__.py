"""Build the environments, measure one after the other, and print JSON lines, then a table of each comparison.

Every server answers the same row over 32 connections; between its turns the static answer has its own, so that both
meet the same weather. Whoever cannot be installed, started or measured stands in the table with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.harness import free_port, memory_bytes, rounded, server, static_server
from benchmarks.load import http_request, run_load
from benchmarks.model import trained
from benchmarks.peers import assignments
from benchmarks.peers.contenders import CONTENDERS, STATIC, Contender
from benchmarks.peers.environments import python_of, version_of
from benchmarks.predict import CONNECTIONS, measure

CHECKED_ROWS = 20
"""Rows whose prediction every server has to get right before it is measured."""
PATIENCE_SECONDS = 60.0
WARM_UP_SECONDS = 2.0


@dataclass(frozen=True)
class Row:
    """What was measured of a server, medians of its rounds; `reason` is why there is nothing."""

    server: str
    cpu_us: float | None = None
    times_static: float | None = None
    per_second: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    memory_mib: float | None = None
    reason: str = ""

    def cells(self) -> str:
        if self.reason:
            return f"| {self.server} | not measured: {self.reason} | | | | |"
        shown = [self.server, f"{self.cpu_us:,.0f}", f"{self.times_static:.1f}", f"{self.per_second:,.0f}"]
        return "| " + " | ".join([*shown, f"{self.p50_ms:.1f} / {self.p99_ms:.1f}", f"{self.memory_mib:,.0f}"]) + " |"


HEAD = """| server | CPU us/request | x static | requests/s | p50 / p99 ms | memory MiB |
|---|---|---|---|---|---|"""


def ask(url: str, body: bytes) -> object:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
        return json.load(answer)


def check(contender: Contender, port: int) -> None:
    """Make sure that a server predicts what the model does. Its first answers may take their time.

    Raises:
        RuntimeError: It does not.
    """
    if contender.label is None:
        return
    model, x = trained()
    url = f"http://127.0.0.1:{port}{contender.path}"
    deadline = time.monotonic() + PATIENCE_SECONDS
    for row, expected in zip(x[:CHECKED_ROWS].tolist(), model.predict(x[:CHECKED_ROWS]).tolist(), strict=True):
        body = json.dumps(contender.body(row)).encode()
        while True:
            try:
                label = contender.label(ask(url, body))
                break
            except (urllib.error.URLError, OSError) as error:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"it does not answer ({error})") from error
                time.sleep(0.2)
        if label != expected:
            raise RuntimeError(f"it predicts {label!r} instead of {expected!r}")


def measured(contender: Contender, python: Path, static: tuple[int, int], rounds: int, seconds: float) -> Row:
    """Start a server, check it, and measure it in turns with the static answer, given as (port, pid)."""
    version = version_of(contender.package, python)
    row = trained()[1][0].tolist()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "server.log")
        command = ["-m", f"benchmarks.{contender.module}", str(port), folder, contender.mode]
        ready = f"http://127.0.0.1:{port}{contender.ready}"
        path = {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}  # some servers start their own programs
        try:
            with server(command, ready, env=path, python=str(python), log=log) as pid:
                check(contender, port)
                request = http_request(port, contender.path, json.dumps(contender.body(row)).encode())
                base = http_request(static[0], STATIC.path, json.dumps(STATIC.body(row)).encode())
                run_load(port, request, connections=CONNECTIONS, seconds=min(WARM_UP_SECONDS, seconds))
                ours, static_cpu = [], []
                for _ in range(rounds):
                    static_cpu.append(measure(*static, base, seconds=seconds)[0])
                    ours.append(measure(port, pid, request, seconds=seconds))
                memory = memory_bytes(pid)
        except (RuntimeError, TimeoutError) as error:
            said = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise RuntimeError(f"{error} ({said[-1].strip()})") from error
    cpu = statistics.median(cpu for cpu, _ in ours)
    loads = [load for _, load in ours]
    return Row(
        contender.title(version),
        rounded(cpu),
        rounded(cpu / statistics.median(static_cpu)),
        rounded(statistics.median(load.requests / load.seconds for load in loads)),
        rounded(statistics.median(load.quantile(0.50) for load in loads) * 1e3),
        rounded(statistics.median(load.quantile(0.99) for load in loads) * 1e3),
        rounded(memory / 2**20),
    )


def compare_servers(contenders: list[Contender], rounds: int, seconds: float) -> list[str]:
    """Measure servers, print a JSON line for each, and return their table."""
    rows = []
    with static_server() as static:
        for contender in [STATIC, *contenders]:
            try:
                row = measured(contender, python_of(contender.peer), static, rounds, seconds)
            except Exception as error:  # noqa: BLE001 - whatever it is, it stands in the table
                row = Row(contender.title(), reason=str(error).replace("|", "/"))
            rows.append(row)
            print(json.dumps(asdict(row)), flush=True)
    return [HEAD, *(row.cells() for row in rows)]


def compare_assignment(clients: list[assignments.Client], rounds: int) -> list[str]:
    """Measure libraries, print a JSON line for each, and return their table."""
    lines = list(assignments.compare([assignments.prepared(client) for client in clients], rounds))
    for line in lines:
        print(json.dumps(asdict(line)), flush=True)
    return [assignments.HEAD, *(line.cells() for line in lines)]


def main(names: list[str], rounds: int, seconds: float) -> None:
    before = os.getloadavg()[0]
    chosen = {"", *names}
    servers = [each for each in CONTENDERS if not names or each.peer in chosen]
    clients = [each for each in assignments.CLIENTS if not names or each.peer in chosen]
    tables = []
    if any(each.peer for each in servers):  # Crossfade alone is no comparison
        tables += ["", *compare_servers(servers, rounds, seconds)]
    if any(each.peer for each in clients):
        tables += ["", *compare_assignment(clients, rounds)]
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    busy = f"load average {before:.1f} before and {os.getloadavg()[0]:.1f} after"
    print(f"\n{datetime.now(UTC):%Y-%m-%d}, {machine}, {busy}")
    print(*tables, sep="\n")


if __name__ == "__main__":
    peers = sorted({each.peer for each in [*CONTENDERS, *assignments.CLIENTS] if each.peer})
    parser = argparse.ArgumentParser(prog="make peers", description="Compare model servers, and who assigns variants.")
    parser.add_argument("peers", nargs="*", metavar="PEER", help=", ".join(peers))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="per round")
    arguments = parser.parse_args()
    if unknown := set(arguments.peers) - set(peers):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(peers)}")
    main(arguments.peers, arguments.rounds, arguments.seconds)

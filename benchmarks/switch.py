"""Moving `champion` and rolling back with 4 worker processes: from the call to the last process answering with it.

A connection stays with the worker that accepted it, and the kernel tells which one that is: over one connection to each
worker somebody asks over and over. What is measured is the first answer with the new version by the last worker to give
one; a worker that goes back to the former version afterwards is an error.
"""

from __future__ import annotations

import http.client
import json
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

import crossfade
from benchmarks.harness import Result, family_of, free_port, server

WORKERS = 4
ROUNDS = 5
GOAL_MOVE_SECONDS = 5.0
"""Every process has to load, verify and warm the new version first."""
GOAL_ROLLBACK_SECONDS = 1.0
"""The previous version is still warm everywhere."""
PAUSE_SECONDS = 0.002
"""Between two requests to a worker: how exact the figures are, while the watching takes little of the machine."""
PATIENCE_SECONDS = 60.0


def two_models(random: np.random.Generator) -> tuple[np.ndarray, list[object]]:
    from sklearn.linear_model import LogisticRegression

    x = random.standard_normal((500, 30))
    return x, [LogisticRegression(C=c).fit(x, x[:, 0] + x[:, 1] > 0) for c in (1.0, 0.1)]


class Watcher(threading.Thread):
    """Asks one worker over and over, and remembers when each version began and ended to answer."""

    def __init__(self, connection: http.client.HTTPConnection, body: bytes) -> None:
        super().__init__(daemon=True)
        self.connection = connection
        self.body = body
        self.first_seen: dict[str, float] = {}
        self.last_seen: dict[str, float] = {}
        self.failure: Exception | None = None
        self.ending = threading.Event()

    def forget(self) -> None:
        self.first_seen, self.last_seen = {}, {}

    def run(self) -> None:
        try:
            while not self.ending.wait(PAUSE_SECONDS):
                version = ask(self.connection, self.body)
                self.last_seen[version] = time.perf_counter()
                self.first_seen.setdefault(version, self.last_seen[version])
        except Exception as error:  # noqa: BLE001 - told by whoever waits for this worker
            self.failure = error


def ask(connection: http.client.HTTPConnection, body: bytes) -> str:
    connection.request("POST", "/v2/models/lr/infer", body, {"Content-Type": "application/json"})
    return json.load(connection.getresponse())["model_version"]


def worker_of(connection: http.client.HTTPConnection, candidates: set[int]) -> int:
    """Return the pid, one of `candidates`, of the process at the other end of a connection."""
    near, far = (name[1] for name in (connection.sock.getsockname(), connection.sock.getpeername()))
    ends = re.compile(rf"^\s*\d+: \w+:{far:04X} \w+:{near:04X} (?:\S+\s+){{6}}(\d+)", re.MULTILINE)
    found = ends.search(Path("/proc/net/tcp").read_text())
    for pid in candidates if found else ():
        with suppress(OSError):
            if any(link.readlink().name == f"socket:[{found[1]}]" for link in Path(f"/proc/{pid}/fd").iterdir()):
                return pid
    raise RuntimeError(f"nobody has the other end of the connection from port {near}")


@contextmanager
def watching(port: int, workers: set[int], body: bytes) -> Iterator[list[Watcher]]:
    """Watch every worker, each over a connection of its own."""
    watchers: dict[int, Watcher] = {}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while set(watchers) != workers:
        if time.monotonic() > deadline:
            raise RuntimeError(f"no connection reached the workers {workers - set(watchers)}")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        ask(connection, body)
        pid = worker_of(connection, workers)
        if pid in watchers:
            connection.close()
        else:
            watchers[pid] = Watcher(connection, body)
    for watcher in watchers.values():
        watcher.start()
    try:
        yield list(watchers.values())
    finally:
        for watcher in watchers.values():
            watcher.ending.set()
            watcher.join()
            watcher.connection.close()


def seconds_to(version: str, change: Callable[[], object], watchers: list[Watcher]) -> float:
    """Return how long after the start of a change every worker answers with a version, and with nothing else."""
    for watcher in watchers:
        watcher.forget()
    started = time.perf_counter()
    change()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not all(version in watcher.first_seen for watcher in watchers):
        failures = [watcher.failure for watcher in watchers if watcher.failure]
        if failures or time.monotonic() > deadline:
            raise RuntimeError(f"not every worker answers with {version}") from (failures or [None])[0]
        time.sleep(0.01)
    time.sleep(0.3)  # long enough to see one that goes back
    for watcher in watchers:
        others = [seen for other, seen in watcher.last_seen.items() if other != version]
        if max(others, default=0.0) > watcher.first_seen[version]:
            raise RuntimeError(f"a worker went back from {version}")
    return max(watcher.first_seen[version] for watcher in watchers) - started


def run() -> Iterator[Result]:
    x, models = two_models(np.random.default_rng(7))
    tensor = {"name": "x", "shape": [1, 30], "datatype": "FP64", "data": x[0].tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    moves, rollbacks = [], []
    with tempfile.TemporaryDirectory() as folder:
        home, port = Path(folder, "home"), free_port()
        with crossfade.open_platform(crossfade.Settings(home=home)) as platform:
            switch = platform.switch
            platform.registry.register("lr", models[0], example=x, version="1.0.0")
            switch.move("lr", "champion", "1.0.0", reason="benchmark")
            command = ["-m", "crossfade", "serve", "--port", str(port), "--workers", str(WORKERS)]
            url = f"http://127.0.0.1:{port}/readyz"
            with server(command, url, env={"CROSSFADE_HOME": str(home)}) as pid:
                while len(live := platform.fleet.live()) < WORKERS:
                    time.sleep(0.1)
                workers = {process.pid for process in live} & set(family_of(pid))
                with watching(port, workers, body) as watchers:
                    for patch in range(1, ROUNDS + 1):
                        version, before = f"1.0.{patch}", f"1.0.{patch - 1}"
                        platform.registry.register(
                            "lr", models[patch % 2], example=x, version=version, tags={"round": version}
                        )
                        move = lambda to=version: switch.move("lr", "champion", to, reason="benchmark")  # noqa: E731
                        moves.append(seconds_to(version, move, watchers))
                        rollbacks.append(seconds_to(before, lambda: switch.rollback("lr"), watchers))
                        seconds_to(version, move, watchers)
    yield Result("alias_move_4_workers", statistics.median(moves), "s", goal=GOAL_MOVE_SECONDS)
    yield Result("rollback_4_workers", statistics.median(rollbacks), "s", goal=GOAL_ROLLBACK_SECONDS)

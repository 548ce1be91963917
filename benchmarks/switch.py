"""Moving `champion` and rolling back with 4 worker processes: from the call to the last process answering with it."""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import crossfade
from benchmarks.harness import Result, free_port, server

WORKERS = 4
ROUNDS = 5
GOAL_MOVE_SECONDS = 5.0
"""Every process has to load, verify and warm the new version first."""
GOAL_ROLLBACK_SECONDS = 1.0
"""The previous version is still warm everywhere."""


def two_models(random: np.random.Generator) -> tuple[np.ndarray, list[object]]:
    from sklearn.linear_model import LogisticRegression

    x = random.standard_normal((500, 30))
    return x, [LogisticRegression(C=c).fit(x, x[:, 0] + x[:, 1] > 0) for c in (1.0, 0.1)]


class Watcher(threading.Thread):
    """Asks over and over, on new connections, and remembers when which version answered last."""

    def __init__(self, port: int, body: bytes) -> None:
        super().__init__(daemon=True)
        self.request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v2/models/lr/infer", body, {"Content-Type": "application/json"}
        )
        self.last_seen: dict[str, float] = {}
        self.ending = threading.Event()

    def run(self) -> None:
        while not self.ending.is_set():
            with urllib.request.urlopen(self.request, timeout=10) as answer:
                version = json.load(answer)["model_version"]
            self.last_seen[version] = time.perf_counter()


def run() -> Iterator[Result]:
    random = np.random.default_rng(7)
    with tempfile.TemporaryDirectory() as folder:
        home, port = Path(folder, "home"), free_port()
        x, models = two_models(random)
        body = {"inputs": [{"name": "x", "shape": [1, 30], "datatype": "FP64", "data": x[0].tolist()}]}
        with crossfade.open_platform(crossfade.Settings(home=home)) as platform:
            platform.registry.register("lr", models[0], example=x, version="1.0.0")
            platform.switch.move("lr", "champion", "1.0.0", reason="benchmark")
            command = ["-m", "crossfade", "serve", "--port", str(port), "--workers", str(WORKERS)]
            with server(command, f"http://127.0.0.1:{port}/readyz", env={"CROSSFADE_HOME": str(home)}):
                while len(platform.fleet.live()) < WORKERS:
                    time.sleep(0.1)
                moves, rollbacks = [], []
                for patch in range(1, ROUNDS + 1):
                    version = f"1.0.{patch}"
                    platform.registry.register(
                        "lr", models[patch % 2], example=x, version=version, tags={"round": version}
                    )
                    watchers = [Watcher(port, json.dumps(body).encode()) for _ in range(4)]
                    for watcher in watchers:
                        watcher.start()
                    before = platform.registry.resolve("lr@champion").version
                    moves.append(
                        _time(lambda v=version: platform.switch.move("lr", "champion", v, reason="b"), watchers, before)
                    )
                    rollbacks.append(_time(lambda: platform.switch.rollback("lr", reason="b"), watchers, version))
                    platform.switch.move("lr", "champion", version, reason="forward again")
                    for watcher in watchers:
                        watcher.ending.set()
                        watcher.join()
    yield Result("alias_move_4_workers", statistics.median(moves), "s", goal=GOAL_MOVE_SECONDS)
    yield Result("rollback_4_workers", statistics.median(rollbacks), "s", goal=GOAL_ROLLBACK_SECONDS)


def _time(change, watchers: list[Watcher], former: str) -> float:
    """Seconds from the start of the change until the last answer by the former version."""
    time.sleep(0.3)
    started = time.perf_counter()
    change()
    time.sleep(0.3)
    return max(watcher.last_seen.get(former, started) for watcher in watchers) - started

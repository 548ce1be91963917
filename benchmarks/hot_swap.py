"""What requests notice of a new champion: their latency while the server loads it and moves, beside the calm between.

The server has one worker, which does everything: it loads, proves, moves and answers.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import crossfade
from benchmarks.harness import Result, crossfade_server
from benchmarks.latency import sound
from benchmarks.load import quantile, run_load, run_paced
from benchmarks.predict import infer_request, register_logistic_regression
from benchmarks.switch import two_models

SWAPS = 10
SHARE = 0.3
"""Of the rate at saturation: requests keep coming while the server has something else to do, and it can catch up."""
CALM_SECONDS = 1.5
"""Before each swap."""
AFTER_SECONDS = 0.5
"""So long after the move a request still counts as one that may have noticed: the former champion is being put away."""
GOAL_P99 = 1.5


class Mover(threading.Thread):
    """Moves `champion` from one version to the next, and remembers from when to when."""

    def __init__(self, url: str, versions: list[str]) -> None:
        super().__init__()
        self.url = url
        self.versions = versions
        self.moves: list[tuple[float, float]] = []

    def run(self) -> None:
        with crossfade.Client(self.url) as client:
            for version in self.versions:
                time.sleep(CALM_SECONDS)
                started = time.perf_counter()
                client.move_alias("lr", "champion", version, reason="benchmark")
                self.moves.append((started, time.perf_counter() + AFTER_SECONDS))


def register_versions(home: Path) -> list[str]:
    """Register what will become champion, one after the other."""
    x, models = two_models(np.random.default_rng(7))
    versions = [f"1.1.{number}" for number in range(SWAPS)]
    with crossfade.open_platform(crossfade.Settings(home=home)) as platform:
        for number, version in enumerate(versions):
            platform.registry.register("lr", models[number % 2], example=x, version=version, tags={"round": version})
    return versions


def run() -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as folder:
        row = register_logistic_regression(Path(folder))
        versions = register_versions(Path(folder))
        with crossfade_server(Path(folder)) as (port, _):
            request = infer_request(port, row)
            most = sound(run_load(port, request, seconds=2.0))
            mover = Mover(f"http://127.0.0.1:{port}", versions)
            mover.start()
            rate, seconds = SHARE * most.requests / most.seconds, SWAPS * (CALM_SECONDS + AFTER_SECONDS)
            load = sound(run_paced(port, request, rate=rate, seconds=seconds))
            mover.join()
    swapping, calm = [], []
    for due, latency in zip(load.due, load.latencies, strict=True):
        noticed = any(started <= due + latency and due <= ended for started, ended in mover.moves)
        (swapping if noticed else calm).append(latency * 1e3)
    yield Result("hot_swap_p99", quantile(swapping, 0.99), "ms", quantile(calm, 0.99), GOAL_P99)
    yield Result("hot_swap_worst", max(swapping), "ms", max(calm))

"""How long a prediction takes: at 60 % of what the server can bear, and with nobody else asking."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.harness import Result, crossfade_server
from benchmarks.load import Load, run_load, run_paced
from benchmarks.model import trained
from benchmarks.predict import infer_request, register_logistic_regression

ROUNDS = 5
SHARE = 0.6
"""Of the rate at saturation."""
GOAL_TAIL = 4.0
GOAL_OVERHEAD_MILLISECONDS = 0.2
BARE_CALLS = 5_000


def bare_milliseconds() -> float:
    """The median of the model's own `predict` over one row, in this process."""
    model, x = trained()
    times = []
    for _ in range(BARE_CALLS):
        started = time.perf_counter()
        model.predict(x[:1])
        times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1e3


def sound(load: Load) -> Load:
    if load.errors:
        raise RuntimeError(f"{load.errors} of {load.requests} requests failed")
    return load


def run() -> Iterator[Result]:
    paced, single, bare = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        row = register_logistic_regression(Path(folder))
        with crossfade_server(Path(folder)) as (port, _):
            request = infer_request(port, row)
            for _ in range(ROUNDS):  # taken in turn, so that all meet the same weather
                most = sound(run_load(port, request, seconds=2.0))
                paced.append(sound(run_paced(port, request, rate=SHARE * most.requests / most.seconds)))
                single.append(sound(run_load(port, request, connections=1, seconds=1.0)).quantile(0.50) * 1e3)
                bare.append(bare_milliseconds())
    p50, p99 = (statistics.median(load.quantile(q) for load in paced) * 1e3 for q in (0.50, 0.99))
    yield Result("p99_over_p50_at_60_percent", p99, "ms", p50, GOAL_TAIL)
    alone, call = statistics.median(single), statistics.median(bare)
    yield Result("p50_of_one_connection", alone, "ms", call)
    yield Result("overhead_of_one_connection", alone - call, "ms", goal=GOAL_OVERHEAD_MILLISECONDS)

"""How long a prediction takes: at 60 % of what the server can bear, and with nobody else asking.

A machine that is idle between requests answers them from cold caches, some after a pause of its own. What a static
answer at the same rate has for a tail says how much of it that is.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.harness import Result, crossfade_server, static_server
from benchmarks.load import Load, http_request, run_load, run_paced
from benchmarks.model import question, trained
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
    paced, static, single, bare = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        row = register_logistic_regression(Path(folder))
        with crossfade_server(Path(folder)) as (port, _), static_server() as (static_port, _):
            request, plain = (
                infer_request(port, row),
                http_request(static_port, "/", json.dumps(question(row)).encode()),
            )
            for _ in range(ROUNDS):  # taken in turn, so that all meet the same weather
                most = sound(run_load(port, request, seconds=2.0))
                rate = SHARE * most.requests / most.seconds
                paced.append(sound(run_paced(port, request, rate=rate)))
                static.append(sound(run_paced(static_port, plain, rate=rate)))
                single.append(sound(run_load(port, request, connections=1, seconds=1.0)).quantile(0.50) * 1e3)
                bare.append(bare_milliseconds())
    for name, loads, goal in (("at_60_percent", paced, GOAL_TAIL), ("of_static_at_that_rate", static, None)):
        p50, p99 = (statistics.median(load.quantile(q) for load in loads) * 1e3 for q in (0.50, 0.99))
        yield Result(f"p99_over_p50_{name}", p99, "ms", p50, goal)
    alone, call = statistics.median(single), statistics.median(bare)
    yield Result("p50_of_one_connection", alone, "ms", call)
    yield Result("overhead_of_one_connection", alone - call, "ms", goal=GOAL_OVERHEAD_MILLISECONDS)

"""CPU per prediction with two worker processes, beside one; of throughput, which shares the cores with the load.

And the same of a static answer: what the machine asks for when twice as many processes share its processors.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import Result, crossfade_server, static_server
from benchmarks.load import Load, http_request
from benchmarks.model import question
from benchmarks.predict import ROUNDS, infer_request, measure, register_logistic_regression

GOAL_CPU_RATIO = 1.1


def run() -> Iterator[Result]:
    one: list[tuple[float, Load]] = []
    two: list[tuple[float, Load]] = []
    static: tuple[list[float], list[float]] = [], []
    with tempfile.TemporaryDirectory() as folder:
        homes = [Path(folder, name) for name in ("one", "two")]
        for home in homes:
            row = register_logistic_regression(home)
        body = json.dumps(question(row)).encode()
        with (
            crossfade_server(homes[0]) as (one_port, one_pid),
            crossfade_server(homes[1], "--workers", "2") as (two_port, two_pid),
            static_server() as one_static,
            static_server(workers=2) as two_static,
        ):
            for _ in range(ROUNDS):  # taken in turn, so that both meet the same weather
                one.append(measure(one_port, one_pid, infer_request(one_port, row)))
                two.append(measure(two_port, two_pid, infer_request(two_port, row)))
                for turns, (port, pid) in zip(static, (one_static, two_static), strict=True):
                    turns.append(measure(port, pid, http_request(port, "/", body))[0])
    cpu, alone = (statistics.median(cpu for cpu, _ in turns) for turns in (two, one))
    yield Result("two_workers_cpu", cpu, "us", alone, GOAL_CPU_RATIO)
    alone, both = map(statistics.median, static)
    yield Result("two_workers_static_cpu", both, "us", alone)
    rate, alone = (statistics.median(load.requests / load.seconds for _, load in turns) for turns in (two, one))
    yield Result("two_workers_rate", rate, "1/s", alone)

"""CPU per prediction with two worker processes, beside one; of throughput, which shares the cores with the load."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import Result, crossfade_server
from benchmarks.load import Load
from benchmarks.predict import ROUNDS, infer_request, measure, register_logistic_regression

GOAL_CPU_RATIO = 1.1


def run() -> Iterator[Result]:
    one: list[tuple[float, Load]] = []
    two: list[tuple[float, Load]] = []
    with tempfile.TemporaryDirectory() as folder:
        homes = [Path(folder, name) for name in ("one", "two")]
        for home in homes:
            row = register_logistic_regression(home)
        with (
            crossfade_server(homes[0]) as (one_port, one_pid),
            crossfade_server(homes[1], "--workers", "2") as (two_port, two_pid),
        ):
            for _ in range(ROUNDS):  # taken in turn, so that both meet the same weather
                one.append(measure(one_port, one_pid, infer_request(one_port, row)))
                two.append(measure(two_port, two_pid, infer_request(two_port, row)))
    cpu, alone = (statistics.median(cpu for cpu, _ in turns) for turns in (two, one))
    yield Result("two_workers_cpu", cpu, "us", alone, GOAL_CPU_RATIO)
    rate, alone = (statistics.median(load.requests / load.seconds for _, load in turns) for turns in (two, one))
    yield Result("two_workers_rate", rate, "1/s", alone)

"""CPU per prediction of one row of 30 floats over 32 connections, beside a static answer by the same HTTP server."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import crossfade
from benchmarks.harness import Result, cpu_seconds, free_port, server
from benchmarks.load import Load, http_request, run_load
from benchmarks.model import trained

CONNECTIONS = 32
ROUNDS = 5
GOAL_CPU_RATIO = 3.0
GOAL_TAIL = 2.5
"""p99 / p50 at saturation."""


def register_logistic_regression(home: Path) -> list[float]:
    """Register `lr` over 30 floats as champion; returns one row."""
    model, x = trained()
    with crossfade.open_platform(crossfade.Settings(home=home)) as platform:
        version = platform.registry.register("lr", model, example=x)
        platform.switch.move("lr", "champion", version.version, reason="benchmark")
    return [float(value) for value in x[0]]


def measure(port: int, pid: int, request: bytes, seconds: float = 4.0) -> tuple[float, Load]:
    """CPU microseconds of the server per request, and the load's own figures."""
    before = cpu_seconds(pid)
    load = run_load(port, request, connections=CONNECTIONS, seconds=seconds)
    if load.errors:
        raise RuntimeError(f"{load.errors} of {load.requests} requests failed")
    return (cpu_seconds(pid) - before) / load.requests * 1e6, load


def run() -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as folder:
        row = register_logistic_regression(Path(folder, "home"))
        tensor = {"name": "x", "shape": [1, 30], "datatype": "FP64", "data": row}
        body = json.dumps({"inputs": [tensor]}).encode()
        static_port, port = free_port(), free_port()
        env = {"CROSSFADE_HOME": str(Path(folder, "home"))}
        ours: list[tuple[float, Load]] = []
        static: list[tuple[float, Load]] = []
        with (
            server(["-m", "benchmarks.static_app", str(static_port)], f"http://127.0.0.1:{static_port}/") as static_pid,
            server(
                ["-m", "crossfade", "serve", "--port", str(port)], f"http://127.0.0.1:{port}/readyz", env=env
            ) as pid,
        ):
            for _ in range(ROUNDS):  # taken in turn, so that both meet the same weather
                static.append(measure(static_port, static_pid, http_request(static_port, "/", body)))
                ours.append(measure(port, pid, http_request(port, "/v2/models/lr/infer", body)))
    baseline = statistics.median(cpu for cpu, _ in static)
    yield Result("predict_cpu", statistics.median(cpu for cpu, _ in ours), "us", baseline, GOAL_CPU_RATIO)
    p50 = statistics.median(load.quantile(0.50) for _, load in ours)
    p99 = statistics.median(load.quantile(0.99) for _, load in ours)
    yield Result("predict_p99_over_p50", p99 * 1e3, "ms", p50 * 1e3, GOAL_TAIL)
    rate = statistics.median(load.requests / load.seconds for _, load in ours)
    yield Result("predict_rate", rate, "1/s", statistics.median(load.requests / load.seconds for _, load in static))

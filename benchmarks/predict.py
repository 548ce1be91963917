"""CPU per prediction of one row of 30 floats over 32 connections, beside a static answer by the same HTTP server.

And beside a route of FastAPI with pydantic models that only predicts.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import crossfade
from benchmarks.harness import Result, cpu_seconds, crossfade_server, free_port, server, static_server
from benchmarks.load import Load, http_request, run_load
from benchmarks.model import question, trained

CONNECTIONS = 32
ROUNDS = 5
GOAL_CPU_RATIO = 3.0
GOAL_FASTAPI_RATIO = 1 / 3.5
GOAL_TAIL = 2.5
"""p99 / p50 at saturation."""


def register_logistic_regression(home: Path) -> list[float]:
    """Register `lr` over 30 floats as champion; returns one row."""
    model, x = trained()
    with crossfade.open_platform(crossfade.Settings(home=home)) as platform:
        version = platform.registry.register("lr", model, example=x)
        platform.switch.move("lr", "champion", version.version, reason="benchmark")
    return [float(value) for value in x[0]]


def infer_request(port: int, row: list[float]) -> bytes:
    """One row for the champion of `lr`, as HTTP."""
    return http_request(port, "/v2/models/lr/infer", json.dumps(question(row)).encode())


def measure(port: int, pid: int, *requests: bytes, seconds: float = 4.0) -> tuple[float, Load]:
    """CPU microseconds of the server per request, and the load's own figures."""
    before = cpu_seconds(pid)
    load = run_load(port, *requests, connections=CONNECTIONS, seconds=seconds)
    if load.errors:
        raise RuntimeError(f"{load.errors} of {load.requests} requests failed")
    return (cpu_seconds(pid) - before) / load.requests * 1e6, load


def run() -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as folder:
        row = register_logistic_regression(Path(folder))
        body = json.dumps(question(row)).encode()
        plain_port = free_port()
        ours: list[tuple[float, Load]] = []
        static: list[tuple[float, Load]] = []
        plain: list[float] = []
        with (
            static_server() as (static_port, static_pid),
            server(
                ["-m", "benchmarks.fastapi_app", str(plain_port)], f"http://127.0.0.1:{plain_port}/ready"
            ) as plain_pid,
            crossfade_server(Path(folder)) as (port, pid),
        ):
            for _ in range(ROUNDS):  # taken in turn, so that all meet the same weather
                static.append(measure(static_port, static_pid, http_request(static_port, "/", body)))
                plain.append(measure(plain_port, plain_pid, http_request(plain_port, "/predict", body))[0])
                ours.append(measure(port, pid, infer_request(port, row)))
    cpu = statistics.median(cpu for cpu, _ in ours)
    yield Result("predict_cpu", cpu, "us", statistics.median(cpu for cpu, _ in static), GOAL_CPU_RATIO)
    yield Result("predict_cpu_beside_fastapi", cpu, "us", statistics.median(plain), GOAL_FASTAPI_RATIO)
    p50 = statistics.median(load.quantile(0.50) for _, load in ours)
    p99 = statistics.median(load.quantile(0.99) for _, load in ours)
    yield Result("predict_p99_over_p50", p99 * 1e3, "ms", p50 * 1e3, GOAL_TAIL)
    rate = statistics.median(load.requests / load.seconds for _, load in ours)
    yield Result("predict_rate", rate, "1/s", statistics.median(load.requests / load.seconds for _, load in static))

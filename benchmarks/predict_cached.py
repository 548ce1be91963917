"""CPU per kept answer to one row of 30 floats over 32 connections, beside a static answer by the same HTTP server."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import Result, free_port, server
from benchmarks.load import http_request
from benchmarks.predict import ROUNDS, measure, register_logistic_regression

GOAL_CPU_RATIO = 2.0


def run() -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "home")
        tensor = {"name": "x", "shape": [1, 30], "datatype": "FP64", "data": register_logistic_regression(home)}
        body = json.dumps({"inputs": [tensor]}).encode()
        static_port, port = free_port(), free_port()
        env = {"CROSSFADE_HOME": str(home), "CROSSFADE_CACHE__MODE": "on"}
        kept: list[float] = []
        static: list[float] = []
        with (
            server(["-m", "benchmarks.static_app", str(static_port)], f"http://127.0.0.1:{static_port}/") as static_pid,
            server(
                ["-m", "crossfade", "serve", "--port", str(port)], f"http://127.0.0.1:{port}/readyz", env=env
            ) as pid,
        ):
            for _ in range(ROUNDS):  # taken in turn, so that both meet the same weather
                static.append(measure(static_port, static_pid, http_request(static_port, "/", body))[0])
                kept.append(measure(port, pid, http_request(port, "/v2/models/lr/infer", body))[0])
    yield Result("predict_cached_cpu", statistics.median(kept), "us", statistics.median(static), GOAL_CPU_RATIO)

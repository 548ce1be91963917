"""CPU per kept answer to one row of 30 floats over 32 connections, beside a static answer by the same HTTP server."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import Result, crossfade_server, static_server
from benchmarks.load import http_request
from benchmarks.model import question
from benchmarks.predict import ROUNDS, infer_request, measure, register_logistic_regression

GOAL_CPU_RATIO = 2.0


def run() -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as folder:
        row = register_logistic_regression(Path(folder))
        body = json.dumps(question(row)).encode()
        kept: list[float] = []
        static: list[float] = []
        with (
            static_server() as (static_port, static_pid),
            crossfade_server(Path(folder), CROSSFADE_CACHE__MODE="on") as (port, pid),
        ):
            for _ in range(ROUNDS):  # taken in turn, so that both meet the same weather
                static.append(measure(static_port, static_pid, http_request(static_port, "/", body))[0])
                kept.append(measure(port, pid, infer_request(port, row))[0])
    yield Result("predict_cached_cpu", statistics.median(kept), "us", statistics.median(static), GOAL_CPU_RATIO)

"""Models that do their worst beside one that does not: what its clients notice, and how soon they are given up."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx
import uvloop

from benchmarks.load import http_request
from crossfade.platform import Platform
from tests.control import write_onnx
from tests.serving.isolation import poison
from tests.stress.overload import Connection

MODELS = {
    "segfault": poison.Segfault,
    "abort": poison.Abort,
    "exit": poison.Exit,
    "polite-exit": poison.PoliteExit,
    "loop": poison.Loop,
    "deadlock": poison.DeadlockedThread,
    "fork-bomb": poison.ForkBomb,
    "thread-bomb": poison.ThreadBomb,
    "memory-bomb": poison.MemoryBomb,
    "file-leak": poison.FileLeak,
    "huge-output": poison.HugeOutput,
    "log-flood": poison.LogFlood,
}
ENDING = frozenset({"segfault", "abort", "exit", "loop", "deadlock"})
"""Their process ends, so that they have to be given up; the others are refused what they try, and go on."""
QUARANTINE_SECONDS = 60.0
PATIENCE_SECONDS = 75.0
REFUSALS = 8
"""So many failed requests of a model that goes on are enough."""
RATE = 100.0
PATH = "/v2/models/neighbour/infer"
BODY = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1.0,2.0]}]}'


@dataclass
class Poisoning:
    """What one model did to the other.

    Attributes:
        asked: Requests that made it do its worst.
        quarantined_seconds: How long it took until it was not served any more; None when it went on.
        p99_seconds: Of the neighbour meanwhile.
        calm_p99_seconds: Of the neighbour before.
    """

    model: str
    asked: int = 0
    quarantined_seconds: float | None = None
    neighbour_requests: int = 0
    p99_seconds: float = 0.0
    calm_p99_seconds: float = 0.0
    violations: list[str] = field(default_factory=list)


class Neighbour:
    """Asks the model that does nothing wrong, at a fixed rate, from a thread of its own; a context manager."""

    def __init__(self, port: int, rate: float = RATE) -> None:
        self.results: list[tuple[bytes, float]] = []
        self.sent = 0
        self._port = port
        self._rate = rate
        self._ending = False
        self._thread = threading.Thread(target=lambda: uvloop.run(self._run()))

    async def _run(self) -> None:
        loop, idle = asyncio.get_running_loop(), []
        request, start = http_request(self._port, PATH, BODY), loop.time()
        while not self._ending:
            if not idle:
                make = lambda: Connection(idle, self.results)  # noqa: E731
                idle.append((await loop.create_connection(make, "127.0.0.1", self._port))[1])
            idle.pop().send(request)
            self.sent += 1
            await asyncio.sleep(max(0.0, start + self.sent / self._rate - loop.time()))
        await asyncio.sleep(1.0)  # the last answers

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        self._thread.join()

    @property
    def p99_seconds(self) -> float:
        latencies = sorted(latency for _, latency in self.results)
        return latencies[int(0.99 * (len(latencies) - 1))]

    @property
    def failures(self) -> int:
        return self.sent - sum(status == b"200" for status, _ in self.results)


def prepare(platform: Platform, names: list[str]) -> None:
    """Register the neighbour, and the models that are up to something."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_onnx(Path(folder, "neighbour.onnx"), 3.0)
        platform.registry.register("neighbour", path, example=[[1.0, 2.0]], version="1.0.0")
    for name in names:
        platform.registry.register(name, MODELS[name](), example={"x": [1.0]}, version="1.0.0")
    for name in ("neighbour", *names):
        platform.switch.move(name, "champion", "1.0.0", reason="start")


def poison_neighbourhood(port: int, name: str, calm_p99_seconds: float) -> Poisoning:
    """Make a model do its worst until it is given up or has failed often enough."""
    outcome = Poisoning(name, calm_p99_seconds=round(calm_p99_seconds, 5))
    url = f"http://127.0.0.1:{port}/v2/models/{name}/infer"
    with Neighbour(port) as neighbour, httpx.Client(timeout=30) as client:
        started = time.monotonic()
        while time.monotonic() - started < PATIENCE_SECONDS:
            rows = [poison.BAD, float(outcome.asked)]  # never the same request again: that would be refused
            body = {"inputs": [{"name": "x", "shape": [2], "datatype": "FP64", "data": rows}]}
            answer = client.post(url, json=body)
            outcome.asked += 1
            if answer.status_code == 503 and "quarantined" in answer.text:
                outcome.quarantined_seconds = round(time.monotonic() - started, 2)
                break
            if name not in ENDING and outcome.asked >= REFUSALS:
                break
    outcome.neighbour_requests = neighbour.sent
    outcome.p99_seconds = round(neighbour.p99_seconds, 5)
    if neighbour.failures:
        outcome.violations.append(f"{neighbour.failures} requests of the neighbour failed")
    if name in ENDING and (outcome.quarantined_seconds or PATIENCE_SECONDS) > QUARANTINE_SECONDS:
        outcome.violations.append("it was not given up within a minute")
    return outcome


def calm(port: int, seconds: float) -> float:
    """Return the 99th percentile of the neighbour while nobody does anything wrong."""
    with Neighbour(port) as neighbour:
        time.sleep(seconds)
    return neighbour.p99_seconds

"""Models that do their worst beside one that does not: what its clients notice, and how soon they are given up."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from crossfade.platform import Platform
from tests.control import write_onnx
from tests.serving.isolation import poison
from tests.stress.steady import SteadyLoad

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


def neighbour(port: int) -> SteadyLoad:
    """Ask the model that does nothing wrong."""
    return SteadyLoad(port, PATH, lambda _: BODY, RATE)


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
    with neighbour(port) as load, httpx.Client(timeout=30) as client:
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
    outcome.neighbour_requests = load.sent
    outcome.p99_seconds = round(load.p99_seconds, 5)
    if load.failures:
        outcome.violations.append(f"{load.failures} requests of the neighbour failed")
    if name in ENDING and (outcome.quarantined_seconds or PATIENCE_SECONDS) > QUARANTINE_SECONDS:
        outcome.violations.append("it was not given up within a minute")
    return outcome


def calm(port: int, seconds: float) -> float:
    """Return the 99th percentile of the neighbour while nobody does anything wrong."""
    with neighbour(port) as load:
        time.sleep(seconds)
    return load.p99_seconds

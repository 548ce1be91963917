"""What replicas bring a model that computes, and what choosing one of them costs a request."""

from __future__ import annotations

import asyncio
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import numpy as np

import crossfade
from benchmarks.harness import Result
from crossfade.core.tensors import Signature, TensorSpec
from crossfade.registry.model import Model
from crossfade.releases.deployment import DeploymentSpec
from crossfade.serving.batching import Batcher
from crossfade.serving.counters import Counters
from crossfade.serving.replicas.lane import Question
from crossfade.serving.replicas.port import Usage
from crossfade.serving.replicas.replica_set import ReplicaSet
from crossfade.settings import ModelRules, RegistrySettings, ServingSettings
from crossfade.traffic.deployed import Deployed, ReplicaRange

SECONDS = 4.0
ROUNDS = 3
CLIENTS = 8
STEPS = 400_000
"""Of a loop in Python: some 20 ms."""
LEAST_SHARE = 0.8
"""Of what two processes gain over one on this machine in the same minute; the loop that feeds them takes some."""
REQUESTS = 4_000
WANTED = frozenset({"predict"})
SIGNATURE = Signature((TensorSpec("x", "FP64", (-1,)),), (TensorSpec("predict", "FP64", (-1,)),))


class Computing(Model):
    """Computes for some 20 ms, however many rows."""

    def predict(self, inputs):
        compute()
        return 2 * inputs["x"]

    def required_inputs(self):
        return SIGNATURE.inputs


class Waiting(Computing):
    """Waits as long, which two of them can do at once on any machine."""

    def predict(self, inputs):
        time.sleep(0.02)
        return 2 * inputs["x"]


def compute() -> int:
    total = 0
    for step in range(STEPS):
        total += step
    return total


class Idle:
    """A replica that does nothing, in no process: what is left is the way to it and back."""

    preprocess_seconds = 0.0
    given_up = ""

    def lost(self):
        return ""

    def start(self):
        pass

    restart = kill = close = start

    def predict(self, tensors, _wanted, _seconds=None):
        return {"predict": tensors["x"]}

    def end(self, _problem):
        pass

    def usage(self):
        return Usage()


class Idles:
    """Makes them."""

    size_bytes = 0

    def replica(self, _number):
        return Idle()

    def refusal(self, _tensors, _wanted):
        return None

    def close(self):
        pass


def run() -> Iterator[Result]:
    for model in (Waiting(), Computing()):
        name = type(model).__name__.lower()
        one, two = throughputs(model)
        yield Result(f"deployment_{name}_of_1", one, "1/s")
        yield Result(f"deployment_{name}_of_2", two, "1/s", one)
        possible = 2.0 if isinstance(model, Waiting) else statistics.median(possible_gain() for _ in range(ROUNDS))
        yield Result(f"deployment_{name}_gain", two / one, "", possible)
        missing = 1 - (two / one) / possible
        yield Result(f"deployment_{name}_gain_that_is_missing", missing, "", goal=1 - LEAST_SHARE)
    plain = statistics.median(way(0) for _ in range(ROUNDS))
    for count in (1, 2, 8):
        found = statistics.median(way(count) for _ in range(ROUNDS))
        yield Result(f"deployment_way_to_one_of_{count}", found, "us", plain)


def possible_gain() -> float:
    """What two processes that only compute get done, beside one."""
    return sum(bare(2)) / sum(bare(1))


def bare(count: int) -> list[int]:
    """How often so many processes compute in a second, each."""
    code = (
        "import os, time; from benchmarks.deployments import compute; os.nice(5); compute(); n = 0; "
        "until = time.monotonic() + 2\nwhile time.monotonic() < until: compute(); n += 1\nprint(n)"
    )
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(count)]
    return [int(process.communicate()[0]) for process in running]


def throughputs(model: Model) -> tuple[float, float]:
    """Requests a second of one replica and of two, in turn, so that both meet the same weather."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    rules = ServingSettings(max_batch_rows=1)
    with tempfile.TemporaryDirectory() as folder:
        trusting = RegistrySettings(allow_code_models=True)
        settings = crossfade.Settings(home=Path(folder), registry=trusting, serving=rules)
        with crossfade.open_platform(settings) as platform:
            platform.registry.register("m", model, version="1.0.0", example={"x": [1.0]})
            platform.registry.move_alias("m", "champion", "1.0.0")
        with crossfade.open_platform(settings, serve=True) as platform:
            assert platform.runtime is not None
            platform.runtime.await_ready(60)
            found: dict[int, list[float]] = {1: [], 2: []}
            for _ in range(ROUNDS):
                for count, rates in found.items():
                    deploy(platform, count)
                    rates.append(asyncio.run(rate(platform.runtime.slots.find("m", "1.0.0"))))
    return statistics.median(found[1]), statistics.median(found[2])


def deploy(platform: crossfade.platform.Platform, count: int) -> None:
    platform.deployments.deploy(DeploymentSpec("d", "m", replicas=ReplicaRange(count)))
    generation = platform.deployments.find("d").generation
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        slot = platform.runtime.slots.find("m", "1.0.0")
        if slot.replicas is not None and slot.terms.generation == generation and slot.replicas.width == count:
            return
        time.sleep(0.05)
    raise RuntimeError("the replicas never became ready")


async def rate(slot) -> float:
    """Requests a second of clients that ask again as soon as they are answered."""
    until = time.monotonic() + SECONDS
    x = np.ones(1)

    async def client() -> int:
        answered = 0
        while time.monotonic() < until:
            await slot.predict({"x": x}, WANTED)
            answered += 1
        return answered

    started = time.monotonic()
    answered = sum(await asyncio.gather(*(client() for _ in range(CLIENTS))))
    return answered / (time.monotonic() - started)


def way(count: int) -> float:
    """Microseconds of a request, one after the other, with so many replicas; 0 is a thread without any."""
    rules = ModelRules()
    batcher = Batcher(
        Idle().predict, SIGNATURE, rules, ref="m:1", inline=False, inline_seconds=1.0, counters=Counters()
    )
    replicas = None
    if count:
        terms = Deployed("d", 1, replicas=ReplicaRange(count))
        replicas = ReplicaSet(Idles(), Idle(), terms, lambda _: count, Question(lambda _: None), "m:1")
        replicas.attach(batcher)
        while replicas.width < count:
            time.sleep(0.01)

    async def ask() -> float:
        x = {"x": np.ones(1)}
        times = []
        for _ in range(REQUESTS):
            started = time.perf_counter()
            await batcher.submit(x, WANTED, math.inf)
            times.append(time.perf_counter() - started)
        return statistics.median(times) * 1e6

    try:
        return asyncio.run(ask())
    finally:
        batcher.close()
        if replicas is not None:
            replicas.close()

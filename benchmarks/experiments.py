"""What an experiment adds to a prediction: the same model, the same request, with and without one.

All models are the same version under other names, so both variants of an experiment are the same model too, and no
batch is divided: what is left is finding out who asks, deciding, the exposure, and saying so in the answer. That is CPU
of the event loop, measured while exposures are written to the disk and wait there for the database. Bringing them there
is work of other threads and of another measurement: all CPU of the server, until the last exposure is in the database.
Steps are measured in this process, each alone.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
import timeit
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

import crossfade
from benchmarks.harness import Result, cpu_seconds, crossfade_server, loop_seconds
from benchmarks.load import http_request, run_load
from benchmarks.model import question, trained
from benchmarks.predict import CONNECTIONS
from crossfade.core.identity import new_id
from crossfade.core.tensors import Signature, TensorSpec
from crossfade.experiments.spec import BanditSpec, ExperimentSpec, Variant
from crossfade.ledger.event_counts import EventCounts
from crossfade.ledger.feed import ExposureFeed
from crossfade.methods.bandits.contextual import Feature
from crossfade.methods.bandits.lin_ucb import LinUCB
from crossfade.serving.enrolment import Enroller
from crossfade.serving.holding import Prediction
from crossfade.serving.protocol.answers import encode_answer
from crossfade.serving.protocol.askers import asker_of_parameters
from crossfade.serving.protocol.oip import decode_request, peek_document
from crossfade.serving.slots import SlotTable
from crossfade.traffic.allocation.allocations import Allocations
from crossfade.traffic.allocation.segments import Segment
from crossfade.traffic.allocation.specs import AllocationSpec, LayerSpec, VariantSpec
from crossfade.traffic.routing import ExperimentRoute, Router, Traffic
from crossfade.web.calls import identity_parameters

ROUNDS = 5
SECONDS = 2.0
UNITS = 1000
GOAL_MICROSECONDS = {"split": 12.0, "layered": 12.0, "bandit": 20.0}
"""The last one is with the decision by context, whose own goal is 8."""
LARGE = 650_000
"""Numbers in a body of 10 MB or so."""
BOTH = (Variant("old", 0.5, "1.0.0"), Variant("new", 0.5, "1.0.0"))
CONTEXT: dict[str, str | int | float] = {"country": "DE", "age": 31, "hour": 17.5, "visits": 4}
COUNTRIES = {"country": {"$in": ["DE", "AT", "CH"]}}
HEADERS = {b"host": b"127.0.0.1:8000", b"content-type": b"application/json", b"content-length": b"782"}
NO_CONTEXT: dict[str, str | int | float] = {}


class Case(NamedTuple):
    """An experiment, and what its requests say besides who asks."""

    spec: ExperimentSpec
    context: dict[str, str | int | float]


def cases() -> dict[str, Case]:
    features = (Feature("age"), Feature("hour"), Feature("visits"))
    bandit = BanditSpec(LinUCB(features=features), reward="clicked", update_seconds=3600)
    segment = Segment(COUNTRIES)
    return {
        "split": Case(ExperimentSpec("split", BOTH, model="split"), NO_CONTEXT),
        "layered": Case(
            ExperimentSpec("layered", BOTH, model="layered", layer="checkout", share=0.9, segment=segment), CONTEXT
        ),
        "bandit": Case(ExperimentSpec("bandit", BOTH, model="bandit", bandit=bandit), CONTEXT),
    }


def prepare(home: Path) -> list[float]:
    """Register the model under the name of each case and as `plain`, and start the experiments; returns one row."""
    model, x = trained()
    with crossfade.open_platform(crossfade.Settings(home=home)) as platform:
        for name in ("plain", *cases()):
            version = platform.registry.register(name, model, example=x)
            platform.switch.move(name, "champion", version.version, reason="benchmark")
        platform.experiments.create_layer(LayerSpec("checkout", holdout=0.1))
        for case in cases().values():
            platform.experiments.create(case.spec)
            platform.experiments.start(case.spec.name)
    return [float(value) for value in x[0]]


def body_of(row: list[float], unit: str, context: dict[str, str | int | float]) -> bytes:
    return json.dumps(question(row) | {"parameters": {"unit_id": unit, **context}}).encode()


def wait_until_shipped(port: int) -> None:
    """Wait until the ledger has nothing left to do, so that it disturbs nobody else's turn."""
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            lines = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[0] != "#")
        counts = [lines.get(f'crossfade_events_{what}_total{{kind="exposure"}}') for what in ("acked", "shipped")]
        if counts[0] == counts[1]:
            return
        time.sleep(0.1)


def measure(seconds_of: Callable[[int], float], port: int, pid: int, requests: list[bytes], *, ships: bool) -> float:
    """CPU microseconds of a server per request."""
    before = seconds_of(pid)
    load = run_load(port, *requests, connections=CONNECTIONS, seconds=SECONDS)
    if load.errors:
        raise RuntimeError(f"{load.errors} of {load.requests} requests failed")
    if ships:
        wait_until_shipped(port)
    return (seconds_of(pid) - before) / load.requests * 1e6


def on_a_server(seconds_of: Callable[[int], float], *, ships: bool) -> dict[str, list[tuple[float, float]]]:
    """Return what each case costs, and the same requests to the model without an experiment, in turns."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in cases()}
    # a model that moves to a thread because the machine is busy would compare threads
    settings = {"CROSSFADE_SERVING__EXECUTION": "inline"}
    if not ships:
        settings["CROSSFADE_LEDGER__POLL_SECONDS"] = "3600"
    with tempfile.TemporaryDirectory() as folder:
        row = prepare(Path(folder))
        with crossfade_server(Path(folder), **settings) as (port, pid):
            for turn in range(-1, ROUNDS):
                for name, case in cases().items():
                    bodies = [body_of(row, f"user-{number}", case.context) for number in range(UNITS)]
                    plain, ours = (
                        measure(
                            seconds_of,
                            port,
                            pid,
                            [http_request(port, f"/v2/models/{model}/infer", body) for body in bodies],
                            ships=ships,
                        )
                        for model in ("plain", name)
                    )
                    if turn >= 0:  # the first one warms up
                        found[name].append((ours, plain))
    return found


def on_servers() -> Iterator[Result]:
    for name, rounds in on_a_server(loop_seconds, ships=False).items():
        ours, plain = map(statistics.median, zip(*rounds, strict=True))
        yield Result(f"experiments_{name}", ours, "us", plain)
        added = statistics.median(ours - plain for ours, plain in rounds)
        yield Result(f"experiments_{name}_added", added, "us", goal=GOAL_MICROSECONDS[name])
    for name, rounds in on_a_server(cpu_seconds, ships=True).items():
        ours, plain = map(statistics.median, zip(*rounds, strict=True))
        yield Result(f"experiments_{name}_until_shipped", ours, "us", plain)


# --- steps ---


def microseconds(call: Callable[[], object], number: int = 10_000) -> float:
    """The best of several rounds, in CPU time of this thread: what it costs when nobody else wants the processor."""
    return min(timeit.repeat(call, number=number, repeat=7, timer=time.thread_time)) / number * 1e6


def one_by_one() -> Iterator[Result]:
    both = (VariantSpec("old", 0.5), VariantSpec("new", 0.5))
    allocation = Allocations().place(AllocationSpec("split", both)).experiment("split")
    route = ExperimentRoute(allocation, model="split", versions={"old": "1.0.0", "new": "1.0.0"})
    router = Router(Traffic((), (route,)))
    parameters, with_context = {"unit_id": "user-1"}, {"unit_id": "user-1", **CONTEXT}
    asker = asker_of_parameters(parameters, HEADERS)
    assignment = router.route("split", asker)
    assert assignment is not None
    outputs = {"predict": np.array([1.0])}
    slot: Any = SimpleNamespace(name="split", version="1.0.0")
    enroller = Enroller(SlotTable(), lambda _: None)
    enrolment = enroller.enrol(assignment, asker)
    assert enrolment is not None
    exposures: list[Any] = []
    Enroller(SlotTable(), exposures.append).enrol(assignment, asker).answered(slot, {}, outputs, 0.001, False)
    feed = ExposureFeed(Path("nowhere"), EventCounts(), max_waiting=2**62)
    plain = Prediction("split", "1.0.0", outputs, "champion", False, 7)
    decided = Prediction("split", "1.0.0", outputs, "champion", False, 7, assignment.decision, enrolment.id)

    def encode(prediction: Prediction) -> bytes:
        said = identity_parameters(prediction)
        return encode_answer("split", "1.0.0", outputs, request_id=None, binary=frozenset(), parameters=said)[0]

    steps: dict[str, Callable[[], object]] = {
        "new_id": new_id,
        "who_asks": lambda: asker_of_parameters(parameters, HEADERS),
        "who_asks_with_context": lambda: asker_of_parameters(with_context, HEADERS),
        "route": lambda: router.route("split", asker),
        "enrol": lambda: enroller.enrol(assignment, asker),
        "exposure": lambda: enrolment.answered(slot, {}, outputs, 0.001, False),
        "take": lambda: feed.offer(exposures[0]),
    }
    for name, step in steps.items():
        yield Result(f"experiments_step_{name}", microseconds(step), "us")
    said = microseconds(lambda: encode(decided)) - microseconds(lambda: encode(plain))
    yield Result("experiments_step_saying_so", said, "us")
    yield Result("experiments_answer", len(encode(decided)), "bytes", len(encode(plain)))
    yield from large_body()


def large_body() -> Iterator[Result]:
    """Decoding a body of ten megabytes where it matters who asks, beside decoding it."""
    numbers = np.random.default_rng(1).random(LARGE).round(12).tolist()
    document = {"parameters": {"unit_id": "user-1"}} | question(numbers)
    body = json.dumps(document).encode()
    signature = Signature((TensorSpec("x", "FP64", (-1, LARGE)),), (TensorSpec("predict", "FP64", (-1,)),))

    def ask_and_decode() -> None:
        document = peek_document(body, None)
        decode_request(body, None, signature, 10, document)

    decode = microseconds(lambda: decode_request(body, None, signature, 10), number=3) / 1e3
    yield Result("experiments_who_asks_10_mb", microseconds(ask_and_decode, number=3) / 1e3, "ms", decode, 1.05)


def run() -> Iterator[Result]:
    yield from one_by_one()
    yield from on_servers()

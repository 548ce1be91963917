"""What safety costs: three checks of one small answer, alone, in the path of a prediction, and on a server.

The bare path is the same request to the same model without a policy. An emergency is timed from the call that begins it
until the last of several processes refuses.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import crossfade
from benchmarks.harness import Result, crossfade_server, loop_seconds
from benchmarks.load import http_request, run_load
from benchmarks.model import question, trained
from benchmarks.predict import CONNECTIONS
from crossfade.core.identity import ModelRef
from crossfade.core.tensors import DTYPES, Signature, TensorSpec
from crossfade.safety.checks import Bench, compile_check
from crossfade.safety.inspection import Inspector
from crossfade.safety.specs import (
    ChangeCheck,
    Check,
    ClassesCheck,
    Constant,
    DistributionCheck,
    ExpressionCheck,
    FiniteCheck,
    LastSafe,
    RangeCheck,
    RelationCheck,
    SafetyPolicySpec,
    checked,
)
from crossfade.serving.opening import OpenedVersion
from crossfade.serving.runtime import ServingRuntime
from crossfade.settings import Settings
from crossfade.traffic.snapshot import Aspired

ROUNDS = 4
SECONDS = 1.0
PROCESSES = 4
EMERGENCIES = 10
GOAL_MICROSECONDS = 3.0
GOAL_SECONDS = 1.0
SIGNATURE = Signature((TensorSpec("x", "FP64", (-1,)),), (TensorSpec("predict", "FP64", (-1,)),))
THREE: tuple[Check, ...] = (
    RangeCheck(name="range", output="predict", minimum=0, maximum=100),
    FiniteCheck(name="finite", output="predict"),
    RelationCheck(name="relation", left="predict", operator="<=", right="x", times=3),
)


def others() -> dict[str, Check]:
    sample = tuple(np.random.default_rng(1).normal(5, 1, 5000).tolist())
    usual = DistributionCheck(name="usual", output="predict", values=sample)
    (usual,) = checked(SafetyPolicySpec(model="m", checks=(usual,))).checks
    return {
        "change": ChangeCheck(name="change", output="predict", maximum=3),
        "classes": ClassesCheck(name="classes", output="predict", allowed=(5.0,)),
        "distribution": usual,
        "expression": ExpressionCheck(name="own", expression="0 <= predict <= 3 * x + 2 and is_finite(predict)"),
    }


def microseconds(call: Callable[[], object], number: int = 20_000) -> float:
    """The best of several rounds, in CPU time of this thread: what it costs when nobody else wants the processor."""
    return min(timeit.repeat(call, number=number, repeat=7, timer=time.thread_time)) / number * 1e6


def alone() -> Iterator[Result]:
    inputs, outputs = {"x": np.array([3.0])}, {"predict": np.array([5.0])}

    def cost(*checks: Check) -> float:
        inspector = Inspector([compile_check(check, Bench(SIGNATURE, memories={})) for check in checks])
        if not isinstance(checks[0], DistributionCheck):
            return microseconds(lambda: inspector.inspect(inputs, outputs, 1, "unit"))
        answers = itertools.cycle([{"predict": value} for value in np.random.default_rng(2).normal(5, 1, (5000, 1))])
        return microseconds(lambda: inspector.inspect(inputs, next(answers), 1, "unit"))

    yield Result("safety_three_checks", cost(*THREE), "us", goal=GOAL_MICROSECONDS)
    for name, check in others().items():
        yield Result(f"safety_{name}", cost(check), "us")
    many = Inspector([compile_check(check, Bench(SIGNATURE, memories={})) for check in THREE])
    rows = 10_000
    x, y = {"x": np.full(rows, 3.0)}, {"predict": np.full(rows, 5.0)}
    yield Result("safety_three_checks_of_10000_rows", microseconds(lambda: many.inspect(x, y, rows), 200), "us")


# --- in this process ---


def prepare(home: Path) -> list[float]:
    """Register the model as `plain`, `checked` and `replaced`; returns one row."""
    model, x = trained()
    with crossfade.open_platform(crossfade.Settings(home=home)) as platform:
        for name in ("plain", "checked", "replaced"):
            version = platform.registry.register(name, model, example=x)
            platform.switch.move(name, "champion", version.version, reason="benchmark")
        signature = platform.registry.manifest("plain@champion").signature
        output, share = signature.outputs[0].name, signature.outputs[-1].name
        good: tuple[Check, ...] = (
            FiniteCheck(name="finite", output=share),
            RangeCheck(name="range", output=share, column=0, minimum=0, maximum=1),
            RangeCheck(name="label", output=output, minimum=-1e9, maximum=1e9),
        )
        bad = (*good[:2], RangeCheck(name="label", output=output, minimum=1e9))
        safe = tuple(LastSafe() if number == 0 else Constant(outputs=constant(signature)) for number in range(2))
        platform.safety.put_policy(SafetyPolicySpec(model="checked", checks=good))
        platform.safety.put_policy(SafetyPolicySpec(model="replaced", checks=bad, fallback=safe))
    return [float(value) for value in x[0]]


def constant(signature: Signature) -> dict[str, object]:
    single = {spec.name: spec.datatype != "BOOL" and 0 for spec in signature.outputs}
    return single | {spec.name: [0.5] * spec.shape[1] for spec in signature.outputs if len(spec.shape) > 1}


def in_the_path(home: Path, row: list[float]) -> Iterator[Result]:
    """The prediction path without HTTP, and with a model that takes no time: what is left is the path itself."""
    with crossfade.open_platform(crossfade.Settings(home=home)) as platform:
        backend = platform.registry.backend

        def opener(name: str, wish: Aspired) -> OpenedVersion:
            found = backend.find_version(name, wish.version)
            assert found is not None
            manifest = backend.manifest(found)
            answer = {key: np.array([value]) for key, value in constant(manifest.signature).items()}
            return OpenedVersion(manifest, lambda _tensors, _wanted: answer, None, found.number)

        runtime = ServingRuntime(backend, platform.database, Settings(home=home), opener)
        runtime.start()
        runtime.await_ready(60)
        spec = platform.registry.manifest("plain@champion").signature.inputs[0]
        tensors = {spec.name: np.array([row]).astype(DTYPES[spec.datatype])}

        async def turn(name: str, number: int = 1000) -> float:
            ref, started = ModelRef.parse(name), time.thread_time()
            for _ in range(number):
                with await runtime.predictions.hold(ref) as held:
                    await held.predict(tensors)
            return (time.thread_time() - started) / number * 1e6

        async def turns() -> dict[str, float]:
            found: dict[str, list[float]] = {"plain": [], "checked": [], "replaced": []}
            for _ in range(ROUNDS):
                for name, seen in found.items():
                    seen.append(await turn(name))
            return {name: min(seen) for name, seen in found.items()}

        found = asyncio.run(turns())
        runtime.close()
    for name in ("checked", "replaced"):
        yield Result(f"safety_path_{name}", found[name], "us", found["plain"])
        yield Result(f"safety_path_{name}_added", found[name] - found["plain"], "us")


# --- on a server ---


def on_a_server(home: Path, row: list[float]) -> Iterator[Result]:
    found: dict[str, list[float]] = {"plain": [], "checked": [], "replaced": []}
    body = json.dumps(question(row)).encode()
    with crossfade_server(home, CROSSFADE_SERVING__EXECUTION="inline") as (port, pid):
        for round_ in range(-1, ROUNDS):
            for name, seen in found.items():
                before = loop_seconds(pid)
                request = http_request(port, f"/v2/models/{name}/infer", body)
                load = run_load(port, request, connections=CONNECTIONS, seconds=SECONDS)
                if load.errors:
                    raise RuntimeError(f"{load.errors} of {load.requests} requests failed")
                if round_ >= 0:
                    seen.append((loop_seconds(pid) - before) / load.requests * 1e6)
    plain = statistics.median(found["plain"])
    for name in ("checked", "replaced"):
        yield Result(f"safety_server_{name}", statistics.median(found[name]), "us", plain)


# --- emergencies ---


def emergencies(home: Path) -> Iterator[Result]:
    """From the call until the last process has it, through the database; and through the files of the machine."""
    with crossfade.open_platform(crossfade.Settings(home=home)) as platform:
        settings = Settings(home=home)
        runtimes = [ServingRuntime(platform.registry.backend, platform.database, settings) for _ in range(PROCESSES)]
        for runtime in runtimes:
            runtime.start()
        store = platform.safety

        def until(stopped: bool) -> float:
            started = time.monotonic()
            while any(bool(runtime.predictions.emergencies()) != stopped for runtime in runtimes):
                time.sleep(0.0005)
            return time.monotonic() - started

        from crossfade.safety.latch import Latch

        latch = Latch(home)
        through_database, through_files = [], []
        for _ in range(EMERGENCIES):
            store.begin_emergency("benchmark", wait=False)
            through_database.append(until(stopped=True))
            store.end_emergency("benchmark")
            until(stopped=False)
            latch.put("", "block", "benchmark", "benchmark")
            through_files.append(until(stopped=True))
            latch.remove("", "benchmark", "benchmark")
            until(stopped=False)
        for runtime in runtimes:
            runtime.close()
    yield Result(f"safety_emergency_{PROCESSES}_followers_worst", max(through_database), "s", goal=GOAL_SECONDS)
    yield Result(f"safety_emergency_local_{PROCESSES}_followers_worst", max(through_files), "s", goal=GOAL_SECONDS)


def run() -> Iterator[Result]:
    yield from alone()
    with tempfile.TemporaryDirectory() as folder:
        row = prepare(Path(folder))
        yield from in_the_path(Path(folder), row)
        yield from on_a_server(Path(folder), row)
        yield from emergencies(Path(folder))

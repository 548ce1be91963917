"""Served versions in processes of their own: who runs where, what neighbours in a batch notice, and what follows."""

import asyncio
import time

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from crossfade.core.identity import ModelRef
from crossfade.errors import (
    BatchRestsError,
    CrossfadeError,
    DeadlineExceededError,
    ModelCrashedError,
    NotServedError,
    RefusedInputError,
)
from crossfade.registry.registry import Registry
from crossfade.serving.holding import DEFAULT_TERMS, Terms
from crossfade.serving.isolation import host as hosts
from crossfade.serving.runtime import ServingRuntime
from crossfade.serving.slots import State
from crossfade.serving.waiting import Priority
from crossfade.settings import ModelRules, RegistrySettings, Settings
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.switch import AliasSwitch
from tests.serving import fakes
from tests.serving.isolation import poison
from tests.serving.isolation.poison import BAD
from tests.traffic.support import FAST, eventually

TRUSTING = RegistrySettings(allow_code_models=True)
FINE = {"x": np.array([1.0])}
EXAMPLE = {"x": [1.0]}


@pytest.fixture
def registry(registry):
    return Registry(registry.backend, TRUSTING)


@pytest.fixture
def serve(registry, tmp_path):
    started = []

    def serve(**changes):
        settings = Settings(home=tmp_path, registry=TRUSTING, serving=FAST.model_copy(update=changes))
        runtime = ServingRuntime(registry.backend, registry.backend.database, settings)
        started.append(runtime)
        runtime.start()
        runtime.await_ready(30)
        return runtime

    yield serve
    for runtime in started:
        runtime.close()


@pytest.fixture
def publish(registry):
    switch = AliasSwitch(registry, Fleet(registry.backend.database, FAST), FAST)

    def publish(model, version="1.0.0", *, name="m", example=EXAMPLE):
        registry.register(name, model, version=version, example=example)
        switch.move(name, "champion", version, reason="test")

    return publish


def poisonous(number):
    """Requests that end the process, each another one."""
    return {"x": np.array([BAD, float(number)])}


def ask(runtime, tensors=FINE, ref="m"):
    return asyncio.run(fakes.ask(runtime, ref, tensors))


class Sleepy(poison.Harmless):
    """Takes as many seconds as it is told."""

    def predict(self, inputs):
        time.sleep(float(inputs["x"].max()))
        return 2 * inputs["x"]


async def ask_under(runtime, terms, *values):
    with await runtime.predictions.hold(ModelRef.parse("m")) as held:
        return (await held.predict({"x": np.array(values)}, None, terms)).outputs["predict"].tolist()


def pid_of(runtime, name="m", version="1.0.0"):
    slot = runtime.slots.find(name, version)
    return None if slot.isolated is None else slot.isolated.pid


@pytest.mark.parametrize(
    ("model", "execution", "apart"),
    [
        (poison.Harmless(), "auto", True),
        (poison.Harmless(), "thread", False),
        (poison.Harmless(), "inline", False),
        (LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]), "auto", False),
        (LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]), "process", True),
    ],
)
def test_code_runs_apart_unless_the_rules_say_otherwise(serve, publish, model, execution, apart):
    publish(model, example=EXAMPLE if isinstance(model, poison.Harmless) else [[1.0]])
    runtime = serve(models={"m": ModelRules(execution=execution)})
    assert (pid_of(runtime) is not None) == apart
    name = runtime.slots.find("m", "1.0.0").signature.inputs[0].name
    value = np.array([1.0]) if isinstance(model, poison.Harmless) else np.array([[1.0]])
    assert ask(runtime, {name: value}).outputs["predict"].tolist() == pytest.approx([2.0])


def test_neighbours_in_a_batch_are_answered(serve, publish):
    publish(poison.Exit())
    runtime = serve()

    async def together():
        asks = [fakes.ask(runtime, "m", {"x": np.array([value])}) for value in (1.0, BAD, 3.0, 4.0)]
        return await asyncio.gather(*asks, return_exceptions=True)

    first, poisoned, *others = asyncio.run(together())
    assert isinstance(poisoned, ModelCrashedError)
    assert [answer.outputs["predict"].tolist() for answer in (first, *others)] == [[2.0], [6.0], [8.0]]


def test_the_same_deadly_request_is_refused_before_the_version_is_given_up(serve, publish):
    publish(poison.Exit())
    runtime = serve()
    outcomes = []
    for _ in range(4):
        with pytest.raises(CrossfadeError) as raised:
            ask(runtime, poisonous(0))
        outcomes.append(type(raised.value))
    assert outcomes == [ModelCrashedError, ModelCrashedError, RefusedInputError, RefusedInputError]
    assert ask(runtime).outputs["predict"].tolist() == [2.0]


def test_a_version_that_keeps_crashing_is_given_up_and_its_predecessor_answers(serve, publish, monkeypatch):
    monkeypatch.setattr(hosts, "_FIRST_PAUSE", 0.001)
    publish(poison.Harmless(), "1.0.0")
    publish(poison.Exit(), "1.0.1")
    runtime = serve()
    pid = pid_of(runtime, version="1.0.1")
    for number in range(hosts.CRASHES):
        with pytest.raises(ModelCrashedError):
            ask(runtime, poisonous(number))
    eventually(lambda: runtime.slots.find("m", "1.0.1").state is State.FAILED, 5)
    prediction = ask(runtime)
    assert (prediction.version, prediction.fallback) == ("1.0.0", True)
    assert "quarantined" in runtime.slots.explain("m", "1.0.1")
    with pytest.raises(NotServedError, match="quarantined"):
        ask(runtime, ref="m:1.0.1")
    eventually(lambda: runtime.slots.find("m", "1.0.1").size_bytes == 0, 5)
    assert pid is not None
    assert pid_of(runtime, version="1.0.1") is None


def test_the_deadline_of_a_request_decides_and_its_process_lives_on_for_a_moment(serve, publish):
    publish(Sleepy(), example={"x": [0.0]})
    runtime = serve(request_timeout_seconds=0.3)
    pid = pid_of(runtime)
    with pytest.raises(DeadlineExceededError, match="still running"):
        asyncio.run(ask_under(runtime, DEFAULT_TERMS, 0.8))
    longer = 0.3 + hosts.GRACE_SECONDS + 0.2
    assert asyncio.run(ask_under(runtime, Terms(timeout_seconds=20.0), longer)) == [2 * longer]
    assert pid_of(runtime) == pid


@pytest.mark.parametrize("wished", [30.0, 3600.0])
def test_no_client_holds_a_process_for_longer_than_the_settings_allow(serve, publish, wished):
    publish(Sleepy(), example={"x": [0.0]})
    runtime = serve(request_timeout_seconds=0.2, max_request_timeout_seconds=0.4)
    pid, began = pid_of(runtime), time.monotonic()
    with pytest.raises(DeadlineExceededError, match="still running"):
        asyncio.run(ask_under(runtime, Terms(timeout_seconds=wished), 20.0))
    assert time.monotonic() - began < 5
    eventually(lambda: pid_of(runtime) != pid, 10)


def test_a_batch_request_that_ends_the_process_is_forgiven_and_the_next_one_rests(serve, publish):
    publish(poison.Exit())
    runtime = serve()
    terms = Terms(timeout_seconds=20.0, priority=Priority.BATCH)
    with pytest.raises(ModelCrashedError):
        asyncio.run(ask_under(runtime, terms, BAD))
    with pytest.raises(BatchRestsError, match="takes no batch requests for a moment") as caught:
        asyncio.run(ask_under(runtime, terms, 1.0))
    assert caught.value.facts["retry_after_seconds"] >= 1
    assert ask(runtime).outputs["predict"].tolist() == [2.0]
    assert not runtime.slots.find("m", "1.0.0").isolated._crashes


def test_verifying_a_version_on_a_server_runs_its_code_apart(serve, publish, registry, tmp_path):
    publish(poison.Misbehaving("raise"))
    settings = Settings(home=tmp_path, registry=TRUSTING, serving=FAST)
    runtime = ServingRuntime(registry.backend, registry.backend.database, settings)
    try:
        with pytest.raises(CrossfadeError, match="ZeroDivisionError"):
            registry.verify("m:1.0.0", runtime.open_model)
    finally:
        runtime.close()
    assert registry.verify("m:1.0.0").golden_difference == 0.0


def test_metrics_tell_how_often_a_process_ended(serve, publish):
    publish(poison.Exit())
    runtime = serve()
    with pytest.raises(ModelCrashedError):
        ask(runtime, poisonous(1))
    line = b'crossfade_model_process_ends_total{model="m",reason="exit",version="1.0.0"} 1.0'
    assert line in runtime.predictions.metrics()

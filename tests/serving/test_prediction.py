"""From a reference to one answer of one version, and to the right refusal when there is none."""

import asyncio
import threading

import numpy as np
import pytest

from crossfade.core.identity import ModelRef
from crossfade.core.tensors import Signature
from crossfade.errors import (
    AliasNotFoundError,
    MalformedRequestError,
    ModelNotFoundError,
    NotServedError,
    PredictionError,
    SignatureMismatchError,
    VersionNotFoundError,
)
from tests.serving.fakes import SIGNATURE, Constant, ask, leased
from tests.traffic.support import eventually, move, publish_all, soon


@pytest.fixture
def runtime(registry, start):
    publish_all(registry, "m", "1.0.0", "1.0.1", "1.0.2")
    move(registry, "m", "1.0.0")
    move(registry, "m", "1.0.1")
    runtime = start()
    runtime.await_ready(10)
    eventually(lambda: runtime.slots.is_ready("m", "1.0.0"))
    return runtime


# --- answers ---


@pytest.mark.parametrize("ref", ["m", "m@champion", "m:1.0.1", "models:/m/2"])
async def test_every_spelling_reaches_its_version(runtime, ref):
    prediction = await ask(runtime, ref)
    assert (prediction.model, prediction.version) == ("m", "1.0.1")
    assert prediction.outputs["predict"].tolist() == [1.0, 1.0]
    assert prediction.alias == ModelRef.parse(ref).alias
    assert prediction.revision == runtime.follower.snapshot.revision
    assert not prediction.fallback


async def test_a_former_champion_is_served_by_its_version(runtime):
    assert (await ask(runtime, "m:1.0.0")).outputs["predict"].tolist() == [0.0, 0.0]


async def test_only_wanted_outputs_are_asked_of_the_model(runtime, registry, openings):
    prediction = await ask(runtime, "m", wanted=frozenset({"predict"}))
    assert set(prediction.outputs) == {"predict"}
    with pytest.raises(SignatureMismatchError, match="expected one of the outputs predict"):
        await ask(runtime, "m", wanted=frozenset({"predict", "predict_proba"}))


# --- refusals ---


@pytest.mark.parametrize(
    ("ref", "error", "message"),
    [
        ("other", ModelNotFoundError, "model `other` is not registered"),
        ("other:1.0.0", ModelNotFoundError, "model `other` is not registered"),
        ("m@other", AliasNotFoundError, "`m` has no alias `other`"),
        ("m:9.9.9", VersionNotFoundError, "`m:9.9.9` is not registered"),
        ("m:1.0.2", NotServedError, "`m:1.0.2` is not ready here: it is not loaded"),
        ("models:/m/3", NotServedError, "`models:/m/3` is not ready here: it is not loaded"),
        ("models:/m/9", VersionNotFoundError, "`models:/m/9` is not registered"),
        ("models:/m/production", MalformedRequestError, "`production` is no version: ask for one, or for an alias"),
        ("m/champion", MalformedRequestError, "`champion` is no version: ask for one, or for an alias"),
    ],
)
async def test_what_cannot_be_answered_is_refused_exactly(runtime, ref, error, message):
    with pytest.raises(error) as caught:
        await ask(runtime, ref)
    assert message in str(caught.value)


@pytest.mark.parametrize("ref", ["new:1.0.0", "models:/new/1"])
async def test_a_version_registered_a_moment_ago_is_not_called_unknown(registry, start, ref):
    runtime = start(snapshot_poll_seconds=3600)
    publish_all(registry, "new", "1.0.0")
    with pytest.raises(NotServedError, match=r"`new:1.0.0` is not ready here: it is not loaded"):
        await ask(runtime, ref)
    found = await runtime.predictions.find(ModelRef.parse("new:1.0.0"))
    assert (found.ready, found.problem) == (False, "it is not loaded")


async def test_a_flood_of_unknown_names_asks_the_registry_a_few_at_a_time(runtime, registry, monkeypatch):
    gate, asked = threading.Event(), []

    def find_version(name, version):
        asked.append(name)
        gate.wait(10)

    monkeypatch.setattr(registry.backend, "find_version", find_version)
    flood = [asyncio.create_task(ask(runtime, f"nobody-{number}:1.0.0")) for number in range(100)]
    await soon(lambda: sum(task.done() for task in flood) == 96)
    assert (await ask(runtime, "m")).version == "1.0.1"
    gate.set()
    answers = await asyncio.gather(*flood, return_exceptions=True)
    assert {type(answer) for answer in answers} == {ModelNotFoundError}
    assert len(asked) == 4
    with pytest.raises(ModelNotFoundError):
        await ask(runtime, "nobody:1.0.0")
    assert len(asked) == 5, "the places are free again"


async def test_while_the_registry_is_away_nobody_claims_to_know(runtime, database):
    database.away = True
    with pytest.raises(NotServedError):
        await ask(runtime, "m:9.9.9")
    assert (await ask(runtime, "m")).version == "1.0.1", "predictions need no database"


async def test_inputs_are_held_to_the_signature(runtime):
    with pytest.raises(SignatureMismatchError) as caught:
        await ask(runtime, "m", {"x": np.array(["a"], dtype=object)})
    assert caught.value.facts["ref"] == "m:1.0.1"
    assert runtime.slots.find("m", "1.0.1").leases == 0


async def test_a_failing_model_is_named(runtime, registry, openings, start):
    class Failing(Constant):
        def __call__(self, tensors, wanted):
            if (tensors["x"] == 13.0).any():
                raise PredictionError(ref="m:1.0.2", problem="unlucky")
            if (tensors["x"] == 14.0).any():
                raise ZeroDivisionError
            return super().__call__(tensors, wanted)

    openings.plans["1.0.2"] = Failing(2)
    move(registry, "m", "1.0.2")
    eventually(lambda: runtime.slots.is_ready("m", "1.0.2"))
    with pytest.raises(PredictionError, match="unlucky"):
        await ask(runtime, "m", {"x": np.array([13.0])})
    with pytest.raises(ZeroDivisionError):
        await ask(runtime, "m", {"x": np.array([14.0])})
    assert runtime.slots.find("m", "1.0.2").counters.errors == {"5xx": 2}, "both are failures of the version"


async def test_a_cancelled_request_lets_go_of_its_slot(runtime, openings, registry):
    model = Constant(2)
    openings.plans["1.0.2"] = model
    move(registry, "m", "1.0.2")
    eventually(lambda: runtime.slots.is_ready("m", "1.0.2"))
    slot = runtime.slots.find("m", "1.0.2")
    slot.batcher.inline = False
    model.gate.clear()
    task = asyncio.create_task(ask(runtime, "m"))
    await soon(lambda: slot.leases)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    model.gate.set()
    assert slot.leases == 0


# --- in another's stead ---


async def test_the_former_champion_answers_while_the_new_one_cannot(runtime, registry, openings):
    openings.plans["1.0.2"] = RuntimeError("broken")
    move(registry, "m", "1.0.2")
    eventually(lambda: (slot := runtime.slots.find("m", "1.0.2")) is not None and slot.problem)
    prediction = await ask(runtime, "m")
    assert (prediction.version, prediction.fallback, prediction.alias) == ("1.0.1", True, "champion")
    assert (await runtime.predictions.find(ModelRef.parse("m"))).version == "1.0.1"
    assert runtime.predictions.unready() == ["m:1.0.2: RuntimeError: broken"]
    with pytest.raises(NotServedError, match="RuntimeError: broken"):
        await ask(runtime, "m:1.0.2")
    metrics = runtime.predictions.metrics().decode()
    assert 'crossfade_fallbacks_total{model="m",version="1.0.1"} 1.0' in metrics


async def test_without_a_former_version_there_is_no_answer(registry, start, openings):
    publish_all(registry, "m", "1.0.0")
    openings.plans["1.0.0"] = RuntimeError("broken")
    move(registry, "m", "1.0.0")
    runtime = start()
    with pytest.raises(NotServedError, match=r"`m:1.0.0` is not ready here: RuntimeError: broken"):
        runtime.await_ready(0.3)
    with pytest.raises(NotServedError):
        await ask(runtime, "m")


# --- what is there ---


async def test_signatures_and_versions_are_told(runtime, registry, openings):
    found = await runtime.predictions.find(ModelRef.parse("m"))
    assert (found.version, found.flavor, found.signature, found.ready) == ("1.0.1", "onnx", SIGNATURE, True)
    assert found.aliases == ("champion",)
    openings.plans["1.0.2"] = RuntimeError("broken")
    move(registry, "m", "1.0.2", "challenger")
    eventually(lambda: (slot := runtime.slots.find("m", "1.0.2")) is not None and slot.problem)
    assert [(v.version, v.ready, v.problem, v.aliases) for v in runtime.predictions.served()] == [
        ("1.0.0", True, "", ()),
        ("1.0.1", True, "", ("champion",)),
        ("1.0.2", False, "RuntimeError: broken", ("challenger",)),
    ]
    assert runtime.predictions.unready() == [], "only champions decide"
    found = await runtime.predictions.find(ModelRef.parse("m@challenger"))
    assert (found.version, found.ready, found.problem) == ("1.0.2", False, "RuntimeError: broken")
    with pytest.raises(MalformedRequestError, match="`7x` is no version"):
        await runtime.predictions.find(ModelRef.parse("models:/m/7x"))
    with pytest.raises(MalformedRequestError, match="or for an alias, such as `m@challenger`"):
        await runtime.predictions.find(ModelRef.parse("m/challenger"))


async def test_what_is_wished_for_is_listed_before_it_is_there(registry, start, openings):
    publish_all(registry, "m", "1.0.0", "1.0.1")
    first = Constant(0)
    gate = first.gate
    gate.clear()

    def wait():
        gate.wait(10)
        return first

    openings.plans["1.0.0"] = wait
    move(registry, "m", "1.0.1", "challenger")
    move(registry, "m", "1.0.0")
    runtime = start()
    eventually(lambda: runtime.slots.find("m", "1.0.0") is not None)
    listed = {v.version: v.problem for v in runtime.predictions.served()}
    assert listed == {"1.0.0": "it is loading", "1.0.1": "it is not loaded"}
    assert runtime.predictions.served()[0].signature == Signature((), ())
    assert runtime.predictions.unready() == ["m:1.0.0: it is loading"]
    gate.set()
    runtime.await_ready(10)


async def test_finding_nothing_is_an_error(runtime):
    for ref, error in (("m:9.9.9", VersionNotFoundError), ("x", ModelNotFoundError), ("m@x", AliasNotFoundError)):
        with pytest.raises(error):
            await runtime.predictions.find(ModelRef.parse(ref))


def test_draining_makes_a_process_unready_and_nothing_else(runtime):
    runtime.predictions.begin_draining()
    assert runtime.predictions.unready() == ["this process is shutting down"]
    assert asyncio.run(ask(runtime, "m")).version == "1.0.1"


# --- loading and unloading on request ---


async def test_a_model_is_unloaded_and_loaded_again(runtime, registry):
    await runtime.predictions.set_loaded("m", loaded=False)
    assert runtime.slots.all() == {}
    with pytest.raises(NotServedError, match="somebody asked not to serve it"):
        await ask(runtime, "m")
    assert runtime.predictions.unready() == []
    found = await runtime.predictions.find(ModelRef.parse("m"))
    assert (found.ready, found.problem) == (False, "somebody asked not to serve it")
    await runtime.predictions.set_loaded("m", loaded=True)
    assert (await ask(runtime, "m")).version == "1.0.1"
    with pytest.raises(ModelNotFoundError):
        await runtime.predictions.set_loaded("other", loaded=True)


async def test_a_model_that_cannot_be_loaded_again_says_why(runtime, registry, openings):
    await runtime.predictions.set_loaded("m", loaded=False)
    openings.plans["1.0.1"] = RuntimeError("broken")
    with pytest.raises(NotServedError, match=r"`m:1.0.1` is not ready here: RuntimeError: broken"):
        await runtime.predictions.set_loaded("m", loaded=True)


async def test_unloading_waits_for_requests_but_not_for_ever(registry, start):
    publish_all(registry, "m", "1.0.0")
    move(registry, "m", "1.0.0")
    runtime = start(ready_timeout_seconds=0.2)
    runtime.await_ready(10)
    with leased(runtime.slots, "m", "1.0.0"), pytest.raises(NotServedError, match=r"it took too long: m:1.0.0"):
        await runtime.predictions.set_loaded("m", loaded=False)
    await runtime.predictions.set_loaded("m", loaded=False)
    assert runtime.slots.all() == {}

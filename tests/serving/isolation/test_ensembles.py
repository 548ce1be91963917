"""Served ensembles with members of code: the end of a member's process is what its policy says, and no more."""

import asyncio

import numpy as np
import pytest

from crossfade.errors import CrossfadeError, ModelCrashedError
from crossfade.registry.ensembles.document import EnsembleSpec, Member
from crossfade.registry.registry import Registry
from crossfade.serving.isolation import ensembles
from crossfade.serving.isolation import host as hosts
from crossfade.serving.runtime import ServingRuntime
from crossfade.serving.slots import State
from crossfade.settings import ModelRules, RegistrySettings, Settings
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.switch import AliasSwitch
from tests.serving import fakes
from tests.serving.isolation import poison
from tests.serving.isolation.poison import BAD
from tests.traffic.support import FAST, eventually

TRUSTING = RegistrySettings(allow_code_models=True)


class Steady(poison.Harmless):
    """Answers every row with ten times its value."""

    def predict(self, inputs):
        return 10 * inputs["x"]


@pytest.fixture
def serve(registry, tmp_path, monkeypatch):
    """Serves an ensemble of `steady` and `deadly`, which ends its process when a row is BAD."""
    monkeypatch.setattr(hosts, "_FIRST_PAUSE", 0.001)
    registry = Registry(registry.backend, TRUSTING)
    started = []

    def serve(spec, **changes):
        registry.register("steady", Steady(), version="1.0.0", example={"x": [1.0]})
        registry.register("deadly", poison.Abort(), version="1.0.0", example={"x": [1.0]})
        registry.register_ensemble("m", spec, version="1.0.0")
        AliasSwitch(registry, Fleet(registry.backend.database, FAST), FAST).move(
            "m", "champion", "1.0.0", reason="test"
        )
        settings = Settings(home=tmp_path, registry=TRUSTING, serving=FAST.model_copy(update=changes))
        runtime = ServingRuntime(registry.backend, registry.backend.database, settings)
        started.append(runtime)
        runtime.start()
        runtime.await_ready(30)
        return runtime

    yield serve
    for runtime in started:
        runtime.close()


def ask(runtime, *values):
    return asyncio.run(fakes.ask(runtime, "m", {"x": np.array(values)})).outputs["predict"].tolist()


def member(ref, **policy):
    return Member(f"{ref}:1.0.0", **policy)


@pytest.mark.parametrize(
    ("spec", "bad", "outcome"),
    [
        (EnsembleSpec("average", (member("steady"), member("deadly", on_failure="drop"))), 10 * BAD, "dropped"),
        (
            EnsembleSpec("average", (member("steady"), member("deadly", on_failure="substitute", constant=0.0))),
            5 * BAD,
            "substituted",
        ),
        (EnsembleSpec("first", (member("deadly"), member("steady"))), 10 * BAD, "passed"),
    ],
    ids=["drop", "constant", "first"],
)
def test_a_member_whose_process_ends_is_one_failed_member(serve, spec, bad, outcome):
    runtime = serve(spec)
    fine = ask(runtime, 1.0)
    for number in range(hosts.CRASHES):
        assert ask(runtime, BAD, float(number))[0] == bad
    assert ask(runtime, BAD) == [bad], "also while it is left alone"
    slot = runtime.slots.find("m", "1.0.0")
    assert slot.state is State.READY
    assert slot.isolated.given_up == ""
    assert slot.isolated.ends["signal"] >= hosts.CRASHES
    assert slot.counters.member_rows["deadly:1.0.0", "answered"] >= len(fine)
    line = (
        f'crossfade_ensemble_member_rows_total{{member="deadly:1.0.0",model="m",outcome="{outcome}",version="1.0.0"}}'
    )
    assert line in runtime.predictions.metrics().decode()


def test_a_member_that_was_left_alone_is_tried_again(serve, monkeypatch):
    monkeypatch.setattr(ensembles, "REST_SECONDS", 0.0)
    runtime = serve(EnsembleSpec("average", (member("steady"), member("deadly", on_failure="drop"))))
    for number in range(hosts.CRASHES):
        ask(runtime, BAD, float(number))
    assert ask(runtime, 1.0) == [6.0]


def test_a_member_that_the_ensemble_needs_takes_it_along(serve):
    runtime = serve(EnsembleSpec("average", (member("steady"), member("deadly"))))
    for number in range(hosts.CRASHES):
        with pytest.raises(ModelCrashedError, match=r"`deadly:1\.0\.0`"):
            ask(runtime, BAD, float(number))
    eventually(lambda: runtime.slots.find("m", "1.0.0").state is State.FAILED, 5)
    assert "a member is not served: it is quarantined" in runtime.slots.explain("m", "1.0.0")


def test_in_one_process_members_end_together_and_rows_are_counted_all_the_same(serve):
    spec = EnsembleSpec("first", (member("deadly"), member("steady")))
    runtime = serve(spec, models={"m": ModelRules(execution="process")})
    assert ask(runtime, 1.0, 2.0) == [2.0, 4.0]
    assert runtime.slots.find("m", "1.0.0").counters.member_rows == {("deadly:1.0.0", "answered"): 2}
    with pytest.raises(CrossfadeError):
        ask(runtime, BAD)

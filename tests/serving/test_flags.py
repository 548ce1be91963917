"""Experiments as flags: asking for one exposes the unit, asking for all of them exposes nobody."""

import pytest

from crossfade.experiments.spec import BanditSpec, ExperimentSpec, Variant
from crossfade.methods.bandits.contextual import Feature
from crossfade.methods.bandits.lin_ts import LinTS
from crossfade.traffic.allocation.evaluation import Flag, FlagFailure
from crossfade.traffic.allocation.segments import Segment
from crossfade.traffic.allocation.specs import LayerSpec
from tests.experiments.life import plan
from tests.serving.experimenting import UNITS

BUTTON = ExperimentSpec("button", (Variant("grey", 0.5, value={"color": "grey"}), Variant("green", 0.5)))


@pytest.fixture
def flags(trial):
    """Makes a process with these experiments; returns what is exposed and a function that asks for a flag."""

    def make(*specs):
        made = trial(*specs)
        service = made.runtime.flags
        return made, lambda key="button", unit="u-1", **context: service.evaluate(key, context | _key(unit))

    return make


def _key(unit):
    return {} if unit is None else {"targetingKey": unit}


def test_asking_for_a_flag_exposes_the_unit(flags):
    trial, ask = flags(BUTTON)
    flag, decision = ask()
    (exposure,) = trial.exposures
    assert (exposure.id, exposure.unit, exposure.experiment) == (decision, "u-1", "button")
    assert (exposure.variant, exposure.propensity, exposure.revision) == (flag.variant, 0.5, 1)
    assert (exposure.model, exposure.version, exposure.score, exposure.error) == ("", "", None, False)
    assert flag.value == ({"color": "grey"} if flag.variant == "grey" else "green")
    assert (flag.key, flag.reason) == ("button", "SPLIT")
    assert {ask(unit=unit)[0].variant for unit in UNITS} == {"grey", "green"}
    assert ask()[0].variant == flag.variant


def test_asking_for_all_exposes_nobody(flags):
    trial, ask = flags(BUTTON, plan("late", dimensions=("carrier",)))
    found = trial.runtime.flags.evaluate_all({"targetingKey": "u-1"})
    assert sorted(flag.key for flag in found) == ["button", "late"]
    assert trial.exposures == []
    assert {flag.key: flag.variant for flag in found} == {key: ask(key)[0].variant for key in ("button", "late")}


@pytest.mark.parametrize(
    ("key", "unit", "context", "code"),
    [
        ("nobody", "u", {}, "FLAG_NOT_FOUND"),
        ("", "u", {}, "FLAG_NOT_FOUND"),
        ("button", None, {}, "TARGETING_KEY_MISSING"),
        ("button", "", {}, "TARGETING_KEY_MISSING"),
        ("button", 7, {}, "INVALID_CONTEXT"),
        ("button", ["u"], {}, "INVALID_CONTEXT"),
        ("button", "a\0b", {}, "INVALID_CONTEXT"),
        ("button", "x" * 513, {}, "INVALID_CONTEXT"),
        ("session", "u", {}, "TARGETING_KEY_MISSING"),
        ("session", "u", {"session": {}}, "TARGETING_KEY_MISSING"),
    ],
)
def test_what_cannot_be_evaluated_says_why_and_exposes_nobody(flags, key, unit, context, code):
    trial, ask = flags(BUTTON)
    trial.store.create_layer(LayerSpec("web", unit="session"))
    trial.begin(plan("session", model="", layer="web"))
    failure, decision = ask(key, unit, **context)
    assert isinstance(failure, FlagFailure)
    assert (failure.key, failure.error_code, decision) == (key, code, "")
    assert trial.exposures == []


def test_who_does_not_take_part_gets_the_fallback_and_is_not_exposed(flags):
    trial, ask = flags(plan("none", model="", coverage=0.0), plan("only", model="", segment=Segment({"a": 1})))
    trial.store.pause("none")
    trial.runtime.follower.refresh()
    assert [ask("none")[0].reason, ask("only")[0].reason, ask("only", a=1)[0].reason] == [
        "DISABLED",
        "DEFAULT",
        "SPLIT",
    ]
    assert [exposure.experiment for exposure in trial.exposures] == ["only"]


def test_a_flag_of_an_experiment_that_has_ended_says_so(flags):
    trial, ask = flags(BUTTON)
    trial.store.stop("button", reason="enough")
    trial.runtime.follower.refresh()
    failure, decision = ask()
    assert (failure.error_code, failure.error_details) == ("FLAG_NOT_FOUND", "experiment `button` is over")
    assert decision == ""
    assert trial.runtime.flags.evaluate_all({"targetingKey": "u-1"}) == []
    assert trial.exposures == []


def test_units_of_layers_and_of_single_requests(flags):
    trial, ask = flags(plan("drawn", model="", sticky=False))
    trial.store.create_layer(LayerSpec("web", unit="session"))
    trial.begin(plan("session", model="", layer="web"))
    ask("session", session="s-1")
    assert trial.exposures[-1].unit == "s-1"
    assert {ask("drawn")[0].variant for _ in range(40)} == {"old", "new"}
    assert len({exposure.unit for exposure in trial.exposures}) == 41


def test_a_bandit_that_looks_at_the_context_does_so_for_flags_too(flags):
    policy = LinTS(features=(Feature("age"),), floor=0.1)
    bandit = BanditSpec(policy, "click", maturity_seconds=0.0, update_seconds=1.0)
    variants = (Variant("old", 0.5, "1.0.0"), Variant("new", 0.5, "1.0.1"))
    trial, ask = flags(ExperimentSpec("learns", variants, model="m", bandit=bandit))
    flag, _ = ask("learns", age=0.5)
    (exposure,) = trial.exposures
    assert isinstance(flag, Flag)
    assert exposure.context == {"age": 0.5}
    assert (exposure.variant, exposure.propensity) == (flag.variant, flag.metadata["propensity"])
    assert "the policy gives" in flag.metadata["words"]
    (same,) = trial.runtime.flags.evaluate_all({"targetingKey": "u-1", "age": 0.5})
    assert (same.variant, same.metadata["propensity"]) == (flag.variant, exposure.propensity)
    assert ask("learns", age="old")[0].error_code == "INVALID_CONTEXT"
    assert len(trial.exposures) == 1

"""Rules compiled for one moment: who is looked at, what is off, what is stopped, and what is remembered."""

from datetime import timedelta

import numpy as np
import pytest

from crossfade.safety.guards import Guard, Guards
from crossfade.safety.rules import Emergency, Override, Rules, SafetyPolicy
from crossfade.safety.specs import (
    ChangeCheck,
    Constant,
    FiniteCheck,
    LastSafe,
    OtherVersion,
    RangeCheck,
    Refuse,
    SafetyPolicySpec,
)
from tests.safety.support import WIDE, rows_of
from tests.traffic.support import Clock

NOW = Clock().now
HIGH = RangeCheck(name="high", output="predict", maximum=10)
CALM = ChangeCheck(name="calm", output="predict", maximum=1)


class Version:
    """What a guard has to know of a version."""

    signature = WIDE

    def __init__(self, version="1.0.0"):
        self.version = version
        self.digest = f"digest of {version}"


def policy(*checks, model="m", number=1, **options):
    spec = SafetyPolicySpec(model=model, checks=checks or (HIGH,), **options)
    return SafetyPolicy(spec, number, NOW, "ann")


def override(check="", version="", model="m", seconds=60.0, **options):
    return Override("id", model, check, version, "why", NOW + timedelta(seconds=seconds), NOW, "ann", **options)


def emergency(model="", mode="block"):
    return Emergency(model, mode, "why", NOW, "ann")


def guards(*policies, overrides=(), emergencies=(), at=NOW, former=None):
    return Guards(Rules(policies, tuple(overrides), tuple(emergencies)), at, former)


def checks_of(guard, version="1.0.0"):
    """Return the names of checks that an awful answer violates."""
    found = guard.inspector(Version(version)).inspect(*rows_of(1, predict=[1e9]), 1, "unit")
    return () if found is None else found.checks


# --- who is looked at ---


def test_without_rules_there_is_nothing():
    assert not guards()
    assert guards().find("m") is None
    assert guards().said() == ""


def test_only_models_with_a_policy_are_looked_at():
    found = guards(policy())
    assert found
    assert checks_of(found.find("m")) == ("high",)
    assert found.find("other") is None


def test_an_inspector_is_compiled_once_for_each_version():
    guard = guards(policy()).find("m")
    assert guard.inspector(Version()) is guard.inspector(Version())
    assert guard.inspector(Version("1.0.0")) is not guard.inspector(Version("2.0.0"))
    assert guard.shadow_inspector(Version()) is guard.shadow_inspector(Version())


def test_a_process_that_has_seen_many_versions_forgets_them():
    guard = guards(policy()).find("m")
    for number in range(200):
        guard.inspector(Version(f"1.0.{number}"))
    assert len(guard._inspectors) <= 64


# --- overrides ---


@pytest.mark.parametrize(
    ("made", "version", "left"),
    [
        (override("high"), "1.0.0", ("finite",)),
        (override(), "1.0.0", ()),
        (override("high", "1.0.0"), "1.0.0", ("finite",)),
        (override("high", "1.0.0"), "2.0.0", ("high", "finite")),
        (override("", "2.0.0"), "2.0.0", ()),
        (override("other"), "1.0.0", ("high", "finite")),
        (override("high", model="other"), "1.0.0", ("high", "finite")),
        (override("high", seconds=0), "1.0.0", ("high", "finite")),
        (override("high", ended_at=NOW), "1.0.0", ("high", "finite")),
    ],
)
def test_an_override_turns_off_what_it_names(made, version, left):
    finite = FiniteCheck(name="finite")
    guard = guards(policy(HIGH, finite), overrides=[made]).find("m")
    inspector = guard.inspector(Version(version))
    found = inspector.inspect(*rows_of(1, predict=[np.inf]), 1)
    assert (() if found is None else found.checks) == left
    assert {*inspector.overridden} == {"high", "finite"} - {*left}


def test_the_next_expiry_is_known():
    found = guards(policy(), overrides=[override("high", seconds=60), override("calm", seconds=30)])
    assert found.due_at == NOW + timedelta(seconds=30)
    assert guards(policy()).due_at is None
    later = guards(policy(), overrides=[override("high", seconds=60)], at=NOW + timedelta(seconds=60))
    assert later.due_at is None
    assert checks_of(later.find("m")) == ("high",)


# --- emergencies ---


def test_an_emergency_of_everything_is_one_of_each_model():
    found = guards(policy(), emergencies=[emergency()])
    for model in ("m", "anything"):
        guard = found.find(model)
        assert guard.emergency.mode == "block"
        assert guard.closed


def test_an_emergency_of_one_model_leaves_the_others():
    found = guards(emergencies=[emergency("m")])
    assert found.find("m").closed
    assert found.find("other") is None


@pytest.mark.parametrize(
    ("modes", "strictest"),
    [
        ({"": "fall_back", "m": "block"}, "block"),
        ({"": "block", "m": "fall_back"}, "block"),
        ({"": "fall_back", "m": "fall_back"}, "fall_back"),
    ],
)
def test_of_several_the_strictest_counts(modes, strictest):
    fallback = (Constant(outputs={"predict": 1}),)
    found = guards(policy(fallback=fallback), emergencies=[emergency(*item) for item in modes.items()])
    assert found.find("m").emergency.mode == strictest
    assert found.find("m").closed is (strictest == "block")


def test_the_same_model_stopped_twice_is_as_strict_as_the_stricter():
    for pair in (("block", "fall_back"), ("fall_back", "block")):
        assert guards(emergencies=[emergency("m", mode) for mode in pair]).find("m").emergency.mode == "block"


@pytest.mark.parametrize(
    ("fallback", "closed"),
    [
        ((), True),
        ((Refuse(),), True),
        ((Refuse(), Constant(outputs={"predict": 1})), True),
        ((Constant(outputs={"predict": 1}),), False),
        ((LastSafe(), Refuse()), False),
        ((OtherVersion(version="1.0.0"),), False),
    ],
)
def test_who_has_nothing_to_fall_back_to_is_closed(fallback, closed):
    found = guards(policy(fallback=fallback), emergencies=[emergency("m", "fall_back")])
    assert found.find("m").closed is closed


def test_what_is_said_in_a_header():
    found = guards(policy(), emergencies=[emergency("m"), emergency("", "fall_back"), emergency("a", "fall_back")])
    assert found.said() == "everything=fall_back, m=block, a=fall_back"
    assert found.said("m") == "everything=fall_back, m=block"
    assert found.said("other") == "everything=fall_back"
    assert len(found.emergencies()) == 3
    many = guards(emergencies=[emergency(f"m{number}") for number in range(1000)])
    assert len(many.said()) < 1000


# --- what is remembered ---


def jump(guard, number):
    found = guard.inspector(Version()).inspect(*rows_of(1, predict=[number]), 1, "a")
    return found is not None


def test_memories_outlive_changes_of_other_rules():
    first = guards(policy(CALM))
    assert not jump(first.find("m"), 1.0)
    first.find("m").memory.safe.keep("a", {"predict": np.ones(1)}, 1)
    second = guards(
        policy(CALM), policy(model="other"), overrides=[override("x")], emergencies=[emergency("b")], former=first
    )
    assert jump(second.find("m"), 5.0)
    assert second.find("m").memory.safe.find(LastSafe(), "a") is not None


def test_a_changed_policy_starts_anew():
    """An answer that was safe by other rules may be unsafe by these."""
    first = guards(policy(CALM))
    jump(first.find("m"), 1.0)
    first.find("m").memory.safe.keep("a", {"predict": np.ones(1)}, 1)
    second = guards(policy(CALM, HIGH), former=first)
    assert not jump(second.find("m"), 5.0)
    assert second.find("m").memory.safe.find(LastSafe(), "a") is None


def test_whose_policy_was_removed_and_put_again_starts_anew():
    first = guards(policy(CALM))
    jump(first.find("m"), 1.0)
    assert not jump(guards(policy(CALM), former=guards(former=first)).find("m"), 5.0)


# --- what a request has to bring ---


@pytest.mark.parametrize(
    ("checks", "fallback", "asks"),
    [
        ((HIGH,), (), False),
        ((CALM,), (), True),
        ((ChangeCheck(name="c", output="predict", maximum=1, by="host"),), (), False),
        ((HIGH,), (LastSafe(),), True),
        ((HIGH,), (Constant(outputs={"predict": 1}),), False),
    ],
)
def test_whether_it_matters_who_asks(checks, fallback, asks):
    assert guards(policy(*checks, fallback=fallback)).find("m").asks_unit is asks


def test_constants_are_made_once_and_may_not_fit():
    fits, odd = Constant(outputs={"predict": 1}), Constant(outputs={"predict": "one"})
    guard = guards(policy(fallback=(fits, odd))).find("m")
    assert guard.constant(fits, Version())["predict"].tolist() == [1.0]
    assert guard.constant(fits, Version()) is guard.constant(fits, Version())
    assert guard.constant(odd, Version()) is None


def test_a_guard_without_a_policy_looks_at_nothing():
    guard = Guard("m")
    assert checks_of(guard) == ()
    assert not guard.asks_unit
    assert not guard.closed

"""A policy is read strictly, and what could not mean anything is refused before anybody depends on it."""

import math

import msgspec
import numpy as np
import pytest

from crossfade.errors import InvalidNameError, InvalidSafetyPolicyError
from crossfade.methods.drift.stability import ReferenceSample
from crossfade.safety.levels import Level
from crossfade.safety.specs import (
    MAX_CHECKS,
    ChangeCheck,
    ClassesCheck,
    Constant,
    DistributionCheck,
    ExpressionCheck,
    FiniteCheck,
    LastSafe,
    OtherVersion,
    RangeCheck,
    Refuse,
    RelationCheck,
    SafetyPolicySpec,
    checked,
)

WHOLE = """
{"model": "capacity",
 "checks": [
  {"kind": "finite", "name": "finite"},
  {"kind": "range", "name": "possible", "output": "predict", "minimum": 1, "maximum": 100, "level": "critical"},
  {"kind": "relation", "name": "more", "left": "predict", "operator": "<=", "right": "workers", "times": 4, "plus": 2},
  {"kind": "change", "name": "calm", "output": "predict", "maximum": 5, "per_seconds": 60, "level": "warning"},
  {"kind": "distribution", "name": "usual", "output": "predict", "reference":
      {"edges": [5, 10], "shares": [0.2, 0.5, 0.3], "size": 1000}, "window": 500},
  {"kind": "classes", "name": "known", "output": "label", "allowed": ["up", "down"]},
  {"kind": "expression", "name": "own", "expression": "predict <= 2 * inputs['queue depth']"}],
 "fallback": [
  {"kind": "last_safe", "per": "unit", "max_age_seconds": 60}, {"kind": "version", "version": "1.0.0"},
  {"kind": "constant", "outputs": {"predict": 10}}, {"kind": "refuse"}],
 "latch": "fall_back"}
"""
FINITE = FiniteCheck(name="finite")


def policy(*checks, **options):
    return SafetyPolicySpec(**({"model": "m", "checks": checks or (FINITE,)} | options))


def refused(*checks, **options):
    with pytest.raises(InvalidSafetyPolicyError) as caught:
        checked(policy(*checks, **options))
    return caught.value.message


def test_a_whole_policy_is_read():
    spec = checked(msgspec.json.decode(WHOLE, type=SafetyPolicySpec))
    kinds = [type(check) for check in spec.checks]
    assert kinds == [
        FiniteCheck,
        RangeCheck,
        RelationCheck,
        ChangeCheck,
        DistributionCheck,
        ClassesCheck,
        ExpressionCheck,
    ]
    assert [type(step) for step in spec.fallback] == [LastSafe, OtherVersion, Constant, Refuse]
    assert spec.checks[1].level is Level.CRITICAL
    assert spec.checks[0].level is Level.UNSAFE
    assert spec.latch == "fall_back"


def test_a_policy_survives_being_written_down():
    spec = checked(msgspec.json.decode(WHOLE, type=SafetyPolicySpec))
    again = msgspec.json.decode(msgspec.json.encode(spec), type=SafetyPolicySpec)
    assert again == spec
    assert checked(again) == spec, "what was checked once is not changed by being checked again"


@pytest.mark.parametrize(
    "change",
    [
        {"unknown": 1},
        {"latch": "stop"},
        {"checks": [{"kind": "eval", "name": "x"}]},
        {"checks": [{"kind": "finite"}]},
        {"checks": [{"kind": "finite", "name": "x", "more": 1}]},
        {"checks": [{"kind": "finite", "name": "x", "level": "fatal"}]},
        {"checks": [{"name": "x"}]},
        {"fallback": [{"kind": "guess"}]},
        {"fallback": [{"kind": "version"}]},
        {"checks": [{"kind": "relation", "name": "x", "left": "a", "operator": "~", "right": 1}]},
    ],
)
def test_what_is_not_known_is_refused(change):
    document = msgspec.json.decode(WHOLE) | change
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(document, SafetyPolicySpec)


# --- names, and how many ---


def test_a_policy_has_checks_and_not_too_many():
    assert "1 to 50 checks" in refused(checks=())
    many = tuple(FiniteCheck(name=f"c{number}") for number in range(MAX_CHECKS + 1))
    assert "1 to 50 checks" in refused(*many)
    assert len(checked(policy(*many[:-1])).checks) == MAX_CHECKS


def test_names_are_slugs_and_unique():
    assert "two checks have the same name" in refused(FINITE, RangeCheck(name="finite", output="y", minimum=0))
    for name in ("", "Über", "a b", "x" * 65, "../x"):
        assert "check" in refused(FiniteCheck(name=name))


def test_the_model_has_a_name_that_a_model_can_have():
    with pytest.raises(InvalidNameError):
        checked(policy(model="No Such Name"))


def test_a_violation_is_not_safe():
    assert "no level `safe`" in refused(FiniteCheck(name="x", level=Level.SAFE))


@pytest.mark.parametrize("units", [0, -1, 1_000_001])
def test_memory_is_bounded(units):
    assert "max_units" in refused(max_units=units)


# --- one kind after the other ---


@pytest.mark.parametrize(
    "bounds",
    [
        {},
        {"minimum": math.nan},
        {"maximum": math.inf},
        {"minimum": 2, "maximum": 1},
    ],
)
def test_a_range_has_bounds(bounds):
    assert "a finite `minimum`" in refused(RangeCheck(name="r", output="y", **bounds))


def test_a_range_of_one_point_and_of_one_side():
    checked(policy(RangeCheck(name="r", output="y", minimum=1, maximum=1), RangeCheck(name="s", output="y", maximum=1)))


def test_a_column_is_not_negative():
    assert "column" in refused(RangeCheck(name="r", output="y", minimum=0, column=-1))


@pytest.mark.parametrize("odd", [{"times": math.nan}, {"plus": math.inf}, {"right": math.nan}])
def test_numbers_of_a_relation_are_finite(odd):
    given = {"name": "r", "left": "a", "operator": "<", "right": "b"} | odd
    assert "finite" in refused(RelationCheck(**given))


@pytest.mark.parametrize(
    "odd",
    [{"maximum": -1}, {"maximum": math.nan}, {"per_seconds": 0}, {"per_seconds": math.inf}, {"forget_seconds": 0}],
)
def test_numbers_of_a_change_mean_something(odd):
    assert "finite" in refused(ChangeCheck(**({"name": "c", "output": "y", "maximum": 1} | odd)))


def test_classes_are_some():
    assert "allows 1 to" in refused(ClassesCheck(name="c", output="y", allowed=()))
    assert "allows 1 to" in refused(ClassesCheck(name="c", output="y", allowed=tuple(range(10_001))))


@pytest.mark.parametrize("expression", ["__import__('os')", "x.y > 0", "[x for x in y]", "9 ** 9 ** 9 > x", "(" * 300])
def test_hostile_expressions_never_become_a_policy(expression):
    assert "expression" in refused(ExpressionCheck(name="e", expression=expression))


# --- distributions ---


def distribution(**options):
    return DistributionCheck(**({"name": "d", "output": "y"} | options))


def test_a_sample_becomes_a_reference_that_does_not_change():
    sample = tuple(np.random.default_rng(1).normal(size=5000).tolist())
    (check,) = checked(policy(distribution(values=sample))).checks
    assert check.values == ()
    assert check.reference.size == 5000
    assert len(check.reference.shares) == 10
    assert len(msgspec.json.encode(check)) < 1000, "the sample does not travel with every snapshot"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "either `values` or a `reference`"),
        (
            {"values": (1.0,) * 200, "reference": ReferenceSample((0.0,), (0.5, 0.5))},
            "either `values` or a `reference`",
        ),
        ({"values": (1.0,) * 99}, "at least 100 finite values"),
        ({"values": (1.0,) * 99 + (math.nan,)}, "finite"),
        ({"values": tuple(map(float, range(1000))), "bins": 1}, "`bins` 2 to"),
        ({"values": tuple(map(float, range(1000))), "window": 10}, "`window` is 20 to"),
        ({"values": tuple(map(float, range(1000))), "window": 10**9}, "`window` is 20 to"),
        ({"values": tuple(map(float, range(1000))), "threshold": 0}, "`threshold` is more than 0"),
        ({"values": tuple(map(float, range(1000))), "threshold": math.nan}, "`threshold` is more than 0"),
        ({"values": tuple(map(float, range(1000))), "threshold": 0.01}, "passed by chance"),
        ({"values": tuple(map(float, range(1000))), "window": 40}, "passed by chance"),
        ({"values": (1.0,) * 100_001}, "at most 100000 values"),
        ({"reference": ReferenceSample((1.0, 0.0), (0.2, 0.2, 0.6))}, "edges ascend"),
        ({"reference": ReferenceSample(tuple(map(float, range(100))), (1.0,) + (0.0,) * 100)}, "at most 100 bins"),
        ({"reference": ReferenceSample((0.0,), (0.5, 0.5)), "column": -1}, "a column not negative"),
    ],
)
def test_a_distribution_that_cannot_be_judged_is_refused(options, problem):
    assert problem in refused(distribution(**options))


# --- fallbacks ---


@pytest.mark.parametrize("version", ["", "latest", "v1.0.0", "1.0", "champion"])
def test_a_fallback_to_a_version_is_exact(version):
    assert "no semantic version" in refused(fallback=(OtherVersion(version=version),))


@pytest.mark.parametrize("age", [0, -1, math.nan, math.inf])
def test_the_age_of_an_answer_is_a_time(age):
    assert "max_age_seconds" in refused(fallback=(LastSafe(max_age_seconds=age),))


def test_a_constant_says_something():
    assert "has outputs" in refused(fallback=(Constant(outputs={}),))
    checked(policy(fallback=(Constant(outputs={"y": [1, 2]}),)))


# --- levels ---


def test_levels_have_an_order():
    assert sorted(Level, key=lambda level: level.rank) == [Level.SAFE, Level.WARNING, Level.UNSAFE, Level.CRITICAL]
    assert [level for level in Level if level.withheld] == [Level.UNSAFE, Level.CRITICAL]

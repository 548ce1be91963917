"""Every kind of check, compiled, says what a slow and obvious reading of it says."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.tensors import Signature, TensorSpec
from crossfade.safety.checks import Bench, compile_check
from crossfade.safety.levels import Level
from crossfade.safety.specs import (
    ChangeCheck,
    ClassesCheck,
    DistributionCheck,
    ExpressionCheck,
    FiniteCheck,
    RangeCheck,
    RelationCheck,
    SafetyPolicySpec,
    checked,
)
from tests.safety import slow
from tests.safety.support import WIDE, Seconds, judged, rows_of

NUMBERS = st.one_of(
    st.sampled_from((0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 1e308, 5e-324)), st.floats(-100, 100)
)
BOUNDS = st.one_of(st.none(), st.floats(-50, 50))


def lists(of, size):
    return st.lists(of, min_size=size, max_size=size)


# --- finite ---


@given(lists(NUMBERS, 4))
def test_finite_of_one_output(values):
    found = judged(FiniteCheck(name="f", output="predict"), *rows_of(4, predict=values))
    assert found == [not math.isfinite(value) for value in values]


@given(lists(NUMBERS, 3), lists(lists(NUMBERS, 2), 3))
def test_finite_of_every_output(values, shares):
    found = judged(FiniteCheck(name="f"), *rows_of(3, predict=values, predict_proba=shares))
    finite = [all(map(math.isfinite, (value, *row))) for value, row in zip(values, shares, strict=True)]
    assert found == [not fine for fine in finite]


@pytest.mark.parametrize("width", [1, 32, 33, 5000])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_finite_of_rows_of_any_width(width, bad):
    good, worse = np.zeros((2, width)), np.zeros((2, width))
    worse[1, -1] = bad
    for values, expected in ((good, [False, False]), (worse, [False, True])):
        inputs, outputs = rows_of(2)
        outputs["free"] = values
        assert judged(FiniteCheck(name="f", output="free"), inputs, outputs) == expected


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, np.uint64, np.bool_])
def test_finite_of_any_kind_of_number(dtype):
    name = {2: "FP16", 4: "FP32", 8: "UINT64", 1: "INT8"}[np.dtype(dtype).itemsize] if dtype is not np.bool_ else "BOOL"
    signature = Signature((), (TensorSpec("y", name, (-1,)),))
    compiled = compile_check(FiniteCheck(name="f"), Bench(signature))
    outputs = {"y": np.array([1], dtype=dtype)}
    assert not compiled.judge.one({}, outputs, "")
    assert not compiled.judge.many({}, outputs, "").any()


# --- range ---


@given(lists(NUMBERS, 4), BOUNDS, st.floats(-50, 50))
def test_ranges(values, low, high):
    if low is not None and low > high:
        low, high = high, low
    check = RangeCheck(name="r", output="predict", minimum=low, maximum=high)
    expected = [slow.out_of_range(value, -math.inf if low is None else low, high) for value in values]
    assert judged(check, *rows_of(4, predict=values)) == expected


@given(lists(lists(NUMBERS, 2), 3))
def test_ranges_of_every_column_or_of_one(shares):
    rows = rows_of(3, predict_proba=shares)
    whole = judged(RangeCheck(name="r", output="predict_proba", minimum=0, maximum=1), *rows)
    assert whole == [slow.out_of_range(row, 0, 1) for row in shares]
    last = judged(RangeCheck(name="r", output="predict_proba", column=1, minimum=0, maximum=1), *rows)
    assert last == [slow.out_of_range(row[1], 0, 1) for row in shares]


def test_ranges_of_wide_rows():
    inputs, outputs = rows_of(3)
    outputs["free"] = np.zeros((3, 100))
    outputs["free"][1, 50] = 7
    outputs["free"][2, 99] = math.nan
    check = RangeCheck(name="r", output="free", minimum=0, maximum=1)
    assert judged(check, inputs, outputs) == [False, True, True]


def test_the_bounds_belong_to_the_range():
    check = RangeCheck(name="r", output="predict", minimum=1, maximum=2)
    assert judged(check, *rows_of(4, predict=[1.0, 2.0, np.nextafter(1, 0), np.nextafter(2, 3)])) == [
        False,
        False,
        True,
        True,
    ]


def test_ranges_of_whole_numbers_and_of_truth():
    assert judged(RangeCheck(name="r", output="count", maximum=5), *rows_of(2, count=[5, 6])) == [False, True]
    wide = RangeCheck(name="r", output="count", maximum=float(2**53))
    assert judged(wide, *rows_of(1, count=[2**62])) == [True]
    assert judged(RangeCheck(name="r", output="approved", maximum=0), *rows_of(2, approved=[False, True])) == [
        False,
        True,
    ]


# --- classes ---


@given(lists(st.sampled_from(["low", "high", "", "LOW"]), 4))
def test_classes_of_text(values):
    found = judged(ClassesCheck(name="c", output="label", allowed=("low", "high")), *rows_of(4, label=values))
    assert found == [value not in {"low", "high"} for value in values]


def test_classes_of_numbers_and_truth():
    assert judged(ClassesCheck(name="c", output="count", allowed=(1, 2)), *rows_of(3, count=[1, 2, 3])) == [
        False,
        False,
        True,
    ]
    found = judged(ClassesCheck(name="c", output="predict", allowed=(1.5,)), *rows_of(2, predict=[1.5, math.nan]))
    assert found == [False, True]
    assert judged(ClassesCheck(name="c", output="approved", allowed=(False,)), *rows_of(2, approved=[False, True])) == [
        False,
        True,
    ]


def test_a_missing_class_is_none_of_those_allowed():
    inputs, outputs = rows_of(1)
    outputs["label"] = np.array([None], dtype=object)
    assert judged(ClassesCheck(name="c", output="label", allowed=("low",)), inputs, outputs) == [True]


# --- change ---


def change(**options):
    return ChangeCheck(**({"name": "c", "output": "predict", "maximum": 2.0} | options))


UNITS = st.sampled_from(["a", "b", ""])
STEPS = st.sampled_from([0.0, 1.0, 2.5, 5.0, -4.0, math.nan, math.inf])
PAUSES = st.sampled_from([0.0, 1.0, 30.0, 4000.0])


@given(
    st.lists(st.tuples(UNITS, STEPS, PAUSES), max_size=12),
    st.sampled_from([None, 1.0, 60.0]),
    st.sampled_from([0.0, 2.0]),
)
def test_changes_are_what_all_former_answers_say(given_steps, per_seconds, maximum):
    check, clock = change(per_seconds=per_seconds, maximum=maximum), Seconds()
    compiled = compile_check(check, Bench(WIDE, memories={}, clock=clock))
    found, seen = [], []
    for unit, number, pause in given_steps:
        clock.now += pause
        found.append(compiled.judge.one(*rows_of(1, predict=[number]), unit))
        seen.append((unit, number, clock.now))
    assert found == slow.jumps(check, seen)


def test_a_second_wrong_answer_is_found_too():
    compiled = compile_check(change(), Bench(WIDE, memories={}))
    found = [compiled.judge.one(*rows_of(1, predict=[number]), "a") for number in (1.0, 50.0, 50.0, 2.0, 4.0, 7.0)]
    assert found == [False, True, True, False, False, True]


def test_a_rate_allows_more_with_time():
    clock = Seconds()
    compiled = compile_check(change(per_seconds=10.0), Bench(WIDE, memories={}, clock=clock))
    ask = lambda number: compiled.judge.one(*rows_of(1, predict=[number]), "a")  # noqa: E731
    assert not ask(0.0)
    clock.now += 10
    assert not ask(2.0)
    clock.now += 10
    assert ask(10.0)
    clock.now += 30
    assert not ask(10.0), "40 seconds after the last good answer, 8 are allowed"


def test_a_unit_that_was_long_silent_starts_anew():
    clock = Seconds()
    compiled = compile_check(change(forget_seconds=60.0), Bench(WIDE, memories={}, clock=clock))
    assert not compiled.judge.one(*rows_of(1, predict=[0.0]), "a")
    clock.now += 61
    assert not compiled.judge.one(*rows_of(1, predict=[1000.0]), "a")


def test_many_rows_are_about_the_unit_of_the_request_or_of_an_input():
    assert judged(change(), *rows_of(4, predict=[0.0, 1.0, 9.0, 2.0]), unit="a") == [False, False, True, False]
    assert judged(change(), *rows_of(4, predict=[0.0, 1.0, 9.0, 2.0])) == [False] * 4
    hosts = rows_of(4, predict=[0.0, 9.0, 1.0, 8.0], host=["a", "b", "a", "b"])
    assert judged(change(by="host"), *hosts) == [False] * 4
    numbers = rows_of(3, predict=[0.0, 9.0, 9.0], x=[7.0, 7.0, 8.0])
    assert judged(change(by="x"), *numbers) == [False, True, False]


def test_memory_is_bounded():
    memories = {}
    compiled = compile_check(change(), Bench(WIDE, units=10, memories=memories))
    for number in range(1000):
        compiled.judge.one(*rows_of(1), f"unit-{number}")
    (kept,) = memories.values()
    assert len(kept._recent._kept) == 10


def test_versions_share_what_is_known_of_units():
    memories = {}
    for version, expected in (("1.0.0", False), ("2.0.0", True)):
        compiled = compile_check(change(), Bench(WIDE, version, memories=memories))
        assert compiled.judge.one(*rows_of(1, predict=[0.0 if version == "1.0.0" else 10.0]), "a") is expected


# --- distribution ---


def distribution(**options):
    sample = tuple(np.random.default_rng(1).normal(size=4000).tolist())
    given_options = {"name": "d", "output": "predict", "values": sample, "window": 200} | options
    spec = SafetyPolicySpec(model="m", checks=(DistributionCheck(**given_options),))
    return checked(spec).checks[0]


def feed(compiled, values, size=1):
    found = []
    for start in range(0, len(values), size):
        rows = rows_of(min(size, len(values) - start), predict=values[start : start + size])
        judge = compiled.judge.one if size == 1 else compiled.judge.many
        found.append(bool(judge(*rows, "")))
    return found


@pytest.mark.parametrize("size", [1, 50])
def test_a_shift_is_found_and_forgotten(size):
    random = np.random.default_rng(2)
    compiled = compile_check(distribution(), Bench(WIDE, memories={}))
    assert not any(feed(compiled, random.normal(size=2000), size))
    assert feed(compiled, random.normal(3, 1, size=200), size)[-1]
    assert not feed(compiled, random.normal(size=400), size)[-1]


def test_each_version_has_its_own_window():
    memories = {}
    shifted = compile_check(distribution(), Bench(WIDE, "1.0.0", memories=memories))
    other = compile_check(distribution(), Bench(WIDE, "2.0.0", memories=memories))
    assert feed(shifted, [9.0] * 250)[-1]
    assert not any(feed(other, [9.0] * 100))
    again = compile_check(distribution(), Bench(WIDE, "1.0.0", memories=memories))
    assert feed(again, [0.0])[-1], "what was seen is kept when rules are compiled anew"


def test_a_column_of_several():
    check = distribution(output="predict_proba", column=1, values=tuple(np.linspace(0, 1, 1000)))
    compiled = compile_check(check, Bench(WIDE, memories={}))
    for _ in range(250):
        found = compiled.judge.one(*rows_of(1, predict_proba=[[0.0, 0.99]]), "")
    assert found


def test_nan_and_huge_answers_do_not_break_a_window():
    compiled = compile_check(distribution(), Bench(WIDE, memories={}))
    feed(compiled, [math.nan, math.inf, -math.inf, 1e308] * 10)
    assert not compiled.judge.one(*rows_of(1, predict=[math.nan]), "")
    compiled.judge.many(*rows_of(100_000), "")
    assert compiled.judge.one(*rows_of(1), "")


# --- what cannot be asked ---


@pytest.mark.parametrize(
    ("check", "problem"),
    [
        (FiniteCheck(name="c", output="other"), "other"),
        (RangeCheck(name="c", output="other", minimum=0), "other"),
        (RangeCheck(name="c", output="label", minimum=0), "`label` is no number"),
        (RangeCheck(name="c", output="predict_proba", column=2, minimum=0), "has no column 2"),
        (RangeCheck(name="c", output="free", column=0, minimum=0), "has no column 0"),
        (RelationCheck(name="c", left="predict", operator="<", right="other"), "`other` is none of the inputs"),
        (RelationCheck(name="c", left="label", operator="<", right="predict"), "a text is compared with a number"),
        (ChangeCheck(name="c", output="label", maximum=1), "no single number"),
        (ChangeCheck(name="c", output="predict_proba", maximum=1), "no single number"),
        (ChangeCheck(name="c", output="predict", maximum=1, by="other"), "no input `other`"),
        (ClassesCheck(name="c", output="predict_proba", allowed=(1,)), "no single value"),
        (ClassesCheck(name="c", output="raw", allowed=("a",)), "no single value"),
        (DistributionCheck(name="c", output="predict"), "has no reference"),
        (DistributionCheck(name="c", output="label"), "no number in column 0"),
        (DistributionCheck(name="c", output="predict", column=1), "no number in column 1"),
        (ExpressionCheck(name="c", expression="other > 0"), "`other`"),
    ],
)
def test_what_cannot_be_asked_of_a_version_is_violated(check, problem):
    compiled = compile_check(check, Bench(WIDE))
    assert problem in compiled.problem
    assert compiled.judge.one(*rows_of(1), "") is True
    assert compiled.judge.many(*rows_of(5), "") is True
    assert compiled.level is Level.UNSAFE


def test_a_version_without_numbers_cannot_be_finite():
    only_text = Signature((), (TensorSpec("label", "BYTES", (-1,)),))
    assert "no output of numbers" in compile_check(FiniteCheck(name="c"), Bench(only_text)).problem


def test_what_a_check_looks_at_is_known():
    looks = {
        FiniteCheck(name="c", output="predict"): {"predict"},
        RangeCheck(name="c", output="predict_proba", minimum=0): {"predict_proba"},
        RelationCheck(name="c", left="predict", operator="<", right="count"): {"predict", "count"},
        ClassesCheck(name="c", output="label", allowed=("a",)): {"label"},
        ExpressionCheck(name="c", expression="x > 0"): set(),
    }
    for check, outputs in looks.items():
        assert compile_check(check, Bench(WIDE)).judge.outputs == outputs

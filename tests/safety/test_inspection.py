"""An inspector asks all checks, counts rows, remembers an example, and never raises."""

import math

import numpy as np
import pytest

from crossfade.safety.inspection import MAX_EXAMPLE, Inspector
from crossfade.safety.levels import Level
from crossfade.safety.specs import (
    ChangeCheck,
    ClassesCheck,
    DistributionCheck,
    ExpressionCheck,
    FiniteCheck,
    RangeCheck,
)
from tests.safety.support import inspector, rows_of

HIGH = RangeCheck(name="high", output="predict", maximum=10)
ODD = ExpressionCheck(name="odd", expression="predict % 2 == 0", level=Level.WARNING)
AWFUL = RangeCheck(name="awful", output="predict", maximum=1000, level=Level.CRITICAL)


def test_a_safe_answer_says_nothing():
    assert inspector(HIGH, AWFUL).inspect(*rows_of(1), 1) is None
    assert inspector(HIGH, AWFUL).inspect(*rows_of(7), 7) is None


@pytest.mark.parametrize(
    ("value", "level", "checks", "withheld"),
    [
        (2.0, None, (), None),
        (3.0, Level.WARNING, ("odd",), None),
        (12.0, Level.UNSAFE, ("high",), [True]),
        (13.0, Level.UNSAFE, ("high", "odd"), [True]),
        (1e6, Level.CRITICAL, ("high", "awful"), [True]),
        (math.nan, Level.CRITICAL, ("high", "odd", "awful"), [True]),
    ],
)
def test_of_several_findings_the_worst_counts(value, level, checks, withheld):
    found = inspector(HIGH, ODD, AWFUL).inspect(*rows_of(1, predict=[value]), 1)
    if level is None:
        assert found is None
        return
    assert found.level is level
    assert found.checks == checks
    assert (None if found.withheld is None else found.withheld.tolist()) == withheld


def test_of_many_rows_each_is_judged():
    found = inspector(HIGH, ODD, AWFUL).inspect(*rows_of(5, predict=[2.0, 3.0, 20.0, 2000.0, 4.0]), 5)
    assert found.level is Level.CRITICAL
    assert found.withheld.tolist() == [False, False, True, True, False]
    assert [(item.check, item.rows, item.example) for item in found.found] == [
        ("high", 2, "predict=20.0"),
        ("odd", 1, "predict=3.0"),
        ("awful", 1, "predict=2000.0"),
    ]


def test_no_rows_are_safe_whatever_is_asked():
    asked = inspector(HIGH, AWFUL, ClassesCheck(name="c", output="label", allowed=("never",)))
    assert asked.inspect(*rows_of(0), 0) is None
    impossible = inspector(RangeCheck(name="r", output="nowhere", minimum=0))
    assert impossible.inspect(*rows_of(0), 0) is None


def test_what_cannot_be_asked_is_violated_and_says_why():
    asked = inspector(RangeCheck(name="r", output="nowhere", minimum=0))
    assert "nowhere" in asked.problems["r"]
    for rows in (1, 3):
        found = asked.inspect(*rows_of(rows), rows)
        assert found.withheld.tolist() == [True] * rows
        assert "nowhere" in found.found[0].example


@pytest.mark.parametrize(
    "damage",
    [
        lambda outputs: outputs.pop("predict"),
        lambda outputs: outputs.update(predict=np.zeros(0)),
        lambda outputs: outputs.update(predict=np.zeros((0, 3))),
        lambda outputs: outputs.update(predict=np.array(["x"], dtype=object)),
        lambda outputs: outputs.update(predict=np.array([None], dtype=object)),
        lambda outputs: outputs.update(predict=np.array([1 + 2j])),
    ],
)
@pytest.mark.parametrize("rows", [1, 2])
def test_an_answer_that_is_damaged_is_not_safe(damage, rows):
    inputs, outputs = rows_of(rows)
    damage(outputs)
    found = inspector(HIGH).inspect(inputs, outputs, rows)
    assert found is not None
    assert found.level is Level.UNSAFE
    assert found.withheld.tolist() == [True] * rows


def test_an_answer_with_too_few_rows_is_not_safe():
    inputs, outputs = rows_of(3)
    outputs["predict"] = np.zeros(2)
    assert inspector(HIGH).inspect(inputs, outputs, 3).withheld.tolist() == [True] * 3


def test_a_huge_answer_is_judged_at_once():
    inputs, outputs = rows_of(200_000)
    outputs["predict"][123_456] = 99.0
    found = inspector(HIGH, FiniteCheck(name="f")).inspect(inputs, outputs, 200_000)
    assert np.flatnonzero(found.withheld).tolist() == [123_456]
    assert found.found[0].rows == 1


def test_an_example_is_short_whatever_was_answered():
    inputs, outputs = rows_of(1, label=["x" * 10_000])
    found = inspector(ClassesCheck(name="c", output="label", allowed=("low",))).inspect(inputs, outputs, 1)
    assert len(found.found[0].example) == MAX_EXAMPLE
    inputs, outputs = rows_of(1)
    outputs["free"] = np.full((1, 5000), math.nan)
    found = inspector(FiniteCheck(name="f", output="free")).inspect(inputs, outputs, 1)
    assert len(found.found[0].example) <= MAX_EXAMPLE


def test_an_example_holds_no_inputs():
    inputs, outputs = rows_of(1, x=[123456.0], predict=[0.0])
    found = inspector(ExpressionCheck(name="e", expression="predict > x")).inspect(inputs, outputs, 1)
    assert found.found[0].example == "predict=0.0"


def test_what_shadows_answer_changes_no_memory_of_units():
    calm = ChangeCheck(name="calm", output="predict", maximum=1)
    real = inspector(calm, HIGH)
    shadow = real.without_memory()
    assert real.inspect(*rows_of(1, predict=[1.0]), 1, "a") is None
    assert shadow.inspect(*rows_of(1, predict=[9.0]), 1, "a") is None
    assert real.inspect(*rows_of(1, predict=[1.5]), 1, "a") is None
    assert shadow.inspect(*rows_of(1, predict=[99.0]), 1, "a").checks == ("high",)


def test_every_output_that_is_looked_at_is_known():
    usual = DistributionCheck(name="usual", output="count")
    asked = inspector(HIGH, ExpressionCheck(name="e", expression="predict_proba[0] > x"), usual)
    assert asked.outputs == {"predict", "predict_proba"}, "what cannot be asked looks at nothing"
    assert Inspector(()).outputs == frozenset()
    assert Inspector(()).inspect(*rows_of(1), 1) is None


def test_overridden_checks_are_named():
    assert Inspector((), ("calm", "high")).overridden == ("calm", "high")

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.registry.comparison import ComparisonReport, EvaluationChange, ParameterChange, evaluation_change
from tests.registry.toy import Linear


def test_a_report_holds_every_difference(registry):
    one, two = Linear((1.0,)), Linear((1.0, 2.0))
    registry.register(
        "churn",
        one,
        signature=one.signature(),
        evaluation={"auc": 0.8, "old": 1.0, "zero": 0.0},
        parameters={"depth": 3, "same": [1]},
    )
    registry.register(
        "churn",
        two,
        signature=two.signature(),
        evaluation={"auc": 0.9, "new": 2.0, "zero": 1.0},
        parameters={"depth": 4, "same": [1], "fresh": None},
    )
    report = registry.compare("churn:1.0.0", "churn:2.0.0")
    auc, new, old, zero = report.evaluation
    assert (auc.name, auc.a, auc.b) == ("auc", 0.8, 0.9)
    assert auc.difference == pytest.approx(0.1)
    assert auc.percent == pytest.approx(12.5)
    assert new == EvaluationChange("new", None, 2.0)
    assert old == EvaluationChange("old", 1.0, None)
    assert zero == EvaluationChange("zero", 0.0, 1.0, 1.0, None)
    assert report.signature.required == "major"
    assert report.parameters == (ParameterChange("depth", 3, 4),)
    assert report.size_difference_bytes == report.b.size_bytes - report.a.size_bytes
    assert msgspec.json.decode(msgspec.json.encode(report), type=ComparisonReport) == report


def test_a_version_does_not_differ_from_itself(registry):
    registry.register("churn", Linear((1.0,)), signature=Linear((1.0,)).signature(), evaluation={"auc": 0.8})
    report = registry.compare("churn:1.0.0", "churn:1.0.0")
    assert report.evaluation == (EvaluationChange("auc", 0.8, 0.8, 0.0, 0.0),)
    assert (report.signature.required, report.parameters, report.size_difference_bytes) == ("patch", (), 0)


def test_a_fall_of_a_negative_number_is_negative():
    assert evaluation_change("loss", -2.0, -3.0).percent == -50.0


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(finite, finite)
def test_differences_are_finite_or_absent(a, b):
    change = evaluation_change("x", a, b)
    msgspec.json.encode(change)
    for value in (change.difference, change.percent):
        assert value is None or abs(value) <= 1.8e308
    if change.difference is not None and change.percent is not None:
        assert (change.percent >= 0) == (change.difference >= 0)

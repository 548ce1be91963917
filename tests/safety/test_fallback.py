"""What is given instead: constants that fit, safe answers that are new, and rows put in their places."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.tensors import Signature, TensorSpec
from crossfade.safety.fallback import SafeAnswers, constant_row, filled
from crossfade.safety.specs import LastSafe
from tests.safety.support import WIDE, Seconds

UNIT, MODEL = LastSafe(max_age_seconds=60), LastSafe(per="model", max_age_seconds=60)


def answer(*numbers):
    return {"predict": np.array(numbers, dtype=np.float64)}


# --- constants ---


@pytest.mark.parametrize(
    ("output", "value", "expected"),
    [
        ("predict", 3, [3.0]),
        ("predict", -2.5, [-2.5]),
        ("count", 3, [3]),
        ("count", 3.0, [3]),
        ("label", "low", ["low"]),
        ("approved", True, [True]),
        ("predict_proba", [0.1, 0.9], [[0.1, 0.9]]),
        ("free", [1, 2, 3], [[1.0, 2.0, 3.0]]),
        ("free", [], [[]]),
    ],
)
def test_a_constant_becomes_one_row(output, value, expected):
    row = constant_row({output: value}, WIDE)[output]
    assert row.tolist() == expected
    assert len(row) == 1


@pytest.mark.parametrize(
    ("output", "value"),
    [
        ("predict", "3"),
        ("predict", None),
        ("predict", True),
        ("predict", [1, 2]),
        ("predict", {}),
        ("count", 2.5),
        ("count", 2**63),
        ("count", "1"),
        ("label", 3),
        ("label", ["low"]),
        ("approved", 1),
        ("predict_proba", 0.5),
        ("predict_proba", [0.5]),
        ("predict_proba", [0.5, 0.25, 0.25]),
        ("predict_proba", [[0.5, 0.5]]),
        ("predict_proba", [0.5, "x"]),
        ("free", [[1], [2, 3]]),
    ],
)
def test_a_constant_that_does_not_fit_is_none(output, value):
    with pytest.raises(ValueError, match=f"the constant for `{output}`"):
        constant_row({output: value}, WIDE)


def test_constants_for_outputs_that_a_version_lacks_are_left_out():
    small = Signature((), (TensorSpec("predict", "FP64", (-1,)),))
    assert set(constant_row({"predict": 1, "label": "low"}, small)) == {"predict"}


# --- rows in their places ---


@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_only_withheld_rows_are_replaced(withheld):
    outputs = answer(*range(len(withheld)))
    before = outputs["predict"].copy()
    given_rows = filled(outputs, ["predict"], answer(-1.0), np.array(withheld))
    assert given_rows["predict"].tolist() == [-1.0 if bad else float(at) for at, bad in enumerate(withheld)]
    assert outputs["predict"].tolist() == before.tolist(), "others may be looking at the answer"


def test_rows_of_text_and_of_several_columns():
    outputs = {"label": np.array(["a", "b"], dtype=object), "shares": np.zeros((2, 3))}
    instead = {"label": np.array(["safe"], dtype=object), "shares": np.ones((1, 3))}
    found = filled(outputs, ["label", "shares"], instead, np.array([False, True]))
    assert found["label"].tolist() == ["a", "safe"]
    assert found["shares"].tolist() == [[0.0] * 3, [1.0] * 3]


def test_without_an_answer_every_row_is_the_same():
    found = filled(None, ["predict"], answer(7.0), np.ones(3, dtype=bool))
    assert found["predict"].tolist() == [7.0] * 3
    assert filled(None, ["predict"], answer(7.0), np.ones(0, dtype=bool))["predict"].shape == (0,)


def test_a_row_that_lacks_an_output_or_does_not_fit_is_of_no_use():
    outputs = {"predict": np.zeros(2), "shares": np.zeros((2, 3))}
    assert filled(outputs, ["predict", "shares"], answer(1.0), np.array([True, False])) is None
    wrong = {"predict": np.ones(1), "shares": np.ones((1, 4))}
    assert filled(outputs, ["predict", "shares"], wrong, np.array([True, False])) is None


def test_an_answer_of_another_length_is_replaced_as_a_whole():
    found = filled({"predict": np.zeros(1)}, ["predict"], answer(7.0), np.array([True, True, True]))
    assert found["predict"].tolist() == [7.0] * 3


# --- the last safe answer ---


def test_each_unit_has_its_own():
    kept = SafeAnswers(10)
    kept.keep("a", answer(1.0), 1)
    kept.keep("b", answer(2.0), 1)
    assert kept.find(UNIT, "a")["predict"].tolist() == [1.0]
    assert kept.find(UNIT, "b")["predict"].tolist() == [2.0]
    assert kept.find(UNIT, "c") is None
    assert kept.find(UNIT, "") is None
    assert kept.find(MODEL, "c")["predict"].tolist() == [2.0]


def test_an_answer_to_nobody_in_particular_is_the_models():
    kept = SafeAnswers(10)
    kept.keep("", answer(3.0), 1)
    assert kept.find(UNIT, "a") is None
    assert kept.find(MODEL, "a")["predict"].tolist() == [3.0]


def test_of_many_rows_the_last_is_kept_and_the_others_are_let_go():
    kept = SafeAnswers(10)
    outputs = answer(*range(1000))
    kept.keep("a", outputs, 1000)
    found = kept.find(UNIT, "a")["predict"]
    assert found.tolist() == [999.0]
    assert found.base is None


def test_an_old_answer_is_not_given():
    clock = Seconds()
    kept = SafeAnswers(10, clock)
    kept.keep("a", answer(1.0), 1)
    clock.now += 60
    assert kept.find(UNIT, "a") is not None
    clock.now += 1
    assert kept.find(UNIT, "a") is None
    assert kept.find(MODEL, "a") is None


def test_units_are_forgotten_when_there_are_too_many():
    kept = SafeAnswers(3)
    for number in range(100):
        kept.keep(f"unit-{number}", answer(number), 1)
    assert len(kept._recent._kept) == 4, "three units, and the model"
    assert kept.find(UNIT, "unit-99") is not None
    assert kept.find(UNIT, "unit-0") is None
    assert kept.find(MODEL, "") is not None, "the model's own is never pushed out"

"""Compiled expressions say what a slow reading of the same tree says, for one row and for many."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crossfade.safety import arithmetic
from crossfade.safety.expressions import compile_expression
from crossfade.safety.specs import ExpressionCheck, RelationCheck
from tests.safety import slow
from tests.safety.support import WIDE, judged, rows_of

EDGES = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 3.0, 100.0, -2.5, 1e308, -1e308, 5e-324, math.inf, -math.inf, math.nan)
NUMBERS = st.one_of(st.sampled_from(EDGES), st.floats(-1e6, 1e6))
SMALL = st.sampled_from((0.0, 1.0, -1.0, 0.5, 2.0, 4.0, math.inf, math.nan, 9.0))

number_leaves = st.one_of(
    st.sampled_from(
        ["predict", "x", "count", "predict_proba[0]", "predict_proba[1]", "grid[2]", "inputs['dep delay']", "1", "0"]
    ),
    st.sampled_from(["-2.5", "1e308", "0.5", "sum(predict_proba)", "max(grid)", "min(predict_proba)", "mean(grid)"]),
)


def _joined(inner):
    return st.one_of(
        st.tuples(inner, st.sampled_from([" + ", " - ", " * ", " / ", " % "]), inner).map(
            lambda it: f"({''.join(it)})"
        ),
        st.tuples(st.sampled_from(["abs", "sqrt"]), inner).map(lambda it: f"{it[0]}({it[1]})"),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda it: f"{it[0]}({it[1]}, {it[2]})"),
        inner.map(lambda it: f"(-{it})"),
        st.tuples(inner, st.sampled_from([2, 0.5, -1, 3])).map(lambda it: f"({it[0]} ** {it[1]})"),
    )


numbers = st.recursive(number_leaves, _joined, max_leaves=5)
truths = st.recursive(
    st.one_of(
        st.tuples(numbers, st.sampled_from([" < ", " <= ", " > ", " >= ", " == ", " != "]), numbers).map("".join),
        st.tuples(numbers, st.sampled_from([" < ", " <= "]), numbers, st.sampled_from([" < ", " >= "]), numbers).map(
            "".join
        ),
        st.tuples(st.sampled_from(["is_finite", "is_missing"]), numbers).map(lambda it: f"{it[0]}({it[1]})"),
        st.sampled_from(
            [
                "approved",
                "urgent == False",
                "label == 'low'",
                "label in ('low', 'high')",
                "label not in ('low',)",
                "host != 'a'",
                "predict in (1, 2, 0.5)",
                "label != host",
            ]
        ),
    ),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" and ", " or "]), inner).map(lambda it: f"({''.join(it)})"),
        inner.map(lambda it: f"(not ({it}))"),
    ),
    max_leaves=4,
)


@st.composite
def answers(draw, rows=3):
    pick = lambda strategy, size=rows: draw(st.lists(strategy, min_size=size, max_size=size))  # noqa: E731
    return rows_of(
        rows,
        predict=pick(NUMBERS),
        x=pick(NUMBERS),
        count=pick(st.integers(-(2**53), 2**53)),
        predict_proba=[pick(SMALL, 2) for _ in range(rows)],
        grid=[pick(SMALL, 3) for _ in range(rows)],
        **{"dep delay": pick(SMALL)},
        label=pick(st.sampled_from(["low", "high", "", "ü"])),
        host=pick(st.sampled_from(["a", "low"])),
        approved=pick(st.booleans()),
        urgent=pick(st.booleans()),
    )


@settings(max_examples=300)
@given(truths, answers())
@example("predict ** 0.5 >= 0", rows_of(3, predict=[-1.0, -math.inf, math.nan]))
@example("predict ** -1 > 0", rows_of(3, predict=[0.0, -0.0, math.inf]))
@example("predict / x == predict / x", rows_of(3, predict=[1.0, 0.0, -1.0], x=[0.0, 0.0, -0.0]))
@example("predict % x >= 0", rows_of(3, predict=[5.0, -5.0, math.inf], x=[0.0, math.inf, 2.0]))
@example("predict * x < 0", rows_of(3, predict=[1e308, -1e308, 0.0], x=[1e308, 1e308, math.inf]))
@example("max(predict, x) > 0", rows_of(3, predict=[math.nan, 1.0, 1.0], x=[1.0, math.nan, 0.0]))
def test_compiled_is_what_a_slow_reading_says(expression, given_rows):
    inputs, outputs = given_rows
    expected = [not slow.evaluate(expression, inputs, outputs, row) for row in range(len(outputs["predict"]))]
    assert judged(ExpressionCheck(name="e", expression=expression), inputs, outputs) == expected


@pytest.mark.parametrize("function", ["exp", "log"])
@pytest.mark.parametrize("number", EDGES)
def test_transcendental_functions_do_not_raise(function, number):
    inputs, outputs = rows_of(1, predict=[number])
    expression = f"{function}(predict) > 0.5"
    compiled = compile_expression(expression, WIDE)
    assert compiled.one(inputs, outputs) == slow.evaluate(expression, inputs, outputs, 0)
    with np.errstate(all="ignore"):
        assert compiled.many(inputs, outputs).tolist() == [slow.evaluate(expression, inputs, outputs, 0)]


@given(NUMBERS, NUMBERS)
def test_single_numbers_are_calculated_as_arrays_are(a, b):
    with np.errstate(all="ignore"):
        for ours, theirs in (
            (arithmetic.divide, np.true_divide),
            (arithmetic.modulo, np.remainder),
        ):
            expected = float(theirs(np.float64(a), np.float64(b)))
            assert ours(a, b) == expected or (math.isnan(ours(a, b)) and math.isnan(expected))
        expected = float(np.sqrt(np.float64(a)))
        assert arithmetic.square_root(a) == expected or math.isnan(expected)


def test_extremes_of_nothing_are_missing():
    assert math.isnan(arithmetic.smallest([]))
    assert math.isnan(arithmetic.largest([]))
    assert math.isnan(arithmetic.average([]))
    assert arithmetic.total([]) == 0.0


def test_text_that_looks_like_a_number_is_none():
    inputs, outputs = rows_of(2, label=["1", "nan"])
    assert judged(ExpressionCheck(name="e", expression="label == '1'"), inputs, outputs) == [False, True]


def test_text_may_be_missing():
    inputs, outputs = rows_of(2)
    outputs["label"] = np.array([None, "low"], dtype=object)
    assert judged(ExpressionCheck(name="e", expression="label in ('low',)"), inputs, outputs) == [True, False]


def test_an_output_hides_an_input_of_the_same_name_unless_it_is_asked_for():
    from crossfade.core.tensors import Signature, TensorSpec

    both = Signature((TensorSpec("y", "FP64", (-1,)),), (TensorSpec("y", "FP64", (-1,)),))
    inputs, outputs = {"y": np.array([1.0])}, {"y": np.array([2.0])}
    assert compile_expression("y == 2", both).one(inputs, outputs)
    assert compile_expression("inputs['y'] == 1 and outputs['y'] == 2", both).one(inputs, outputs)


def test_what_an_expression_looks_at_is_known():
    found = compile_expression("predict > x and max(predict_proba[1], count) < grid[0]", WIDE)
    assert found.outputs == {"predict", "predict_proba", "count"}
    assert found.inputs == {"x", "grid"}


def test_a_constant_condition_holds_for_every_row():
    assert judged(ExpressionCheck(name="e", expression="1 < 2"), *rows_of(3)) == [False] * 3
    assert judged(ExpressionCheck(name="e", expression="True and not True"), *rows_of(3)) == [True] * 3


def test_no_rows_are_no_violation():
    for expression in ("predict > 5", "max(predict_proba) > 5", "label in ('x',)", "sum(grid) > 5"):
        compiled = compile_expression(expression, WIDE)
        assert not np.any(np.logical_not(compiled.many(*rows_of(0))))


OPERATORS = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])


@given(OPERATORS, answers(), st.sampled_from([1.0, -2.0, 0.5]), st.sampled_from([0.0, 3.0, -1e308]))
def test_relations_are_expressions(operator, given_rows, times, plus):
    inputs, outputs = given_rows
    check = RelationCheck(name="r", left="predict", operator=operator, right="x", times=times, plus=plus)
    stated = f"predict {operator} x * {times!r} + {plus!r}"
    expected = [not slow.evaluate(stated, inputs, outputs, row) for row in range(3)]
    assert judged(check, inputs, outputs) == expected


def test_relations_to_a_number_and_of_odd_names():
    inputs, outputs = rows_of(2, predict=[1.0, 3.0])
    assert judged(RelationCheck(name="r", left="predict", operator="<", right=2.0), inputs, outputs) == [False, True]
    odd = RelationCheck(name="r", left="predict", operator=">", right="dep delay", plus=1.5)
    assert judged(odd, inputs, outputs) == [True, False]

"""The language says little: what is hostile, too long or meaningless is refused when it is declared."""

import builtins
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.errors import InvalidSafetyPolicyError
from crossfade.safety.expressions import compile_expression
from crossfade.safety.language import MAX_CHARACTERS, MAX_PARTS, OF_ONE, OF_SEVERAL, columns_of, parse
from tests.safety.support import WIDE, rows_of

GOOD = (
    "predict > 0",
    "0 <= predict <= 100",
    "predict <= 3 * x + 2",
    "not approved",
    "approved or predict < 1.5e3",
    "label in ('low', 'high')",
    "label not in ['never']",
    "label == 'low' and count >= 1",
    "predict_proba[1] >= 0.5",
    "sum(predict_proba) <= 1.0001",
    "max(predict_proba) == max(predict_proba[0], predict_proba[1])",
    "inputs['dep delay'] < 60",
    'outputs["predict"] == predict',
    "abs(predict - x) / max(x, 1) < 0.5",
    "is_finite(predict)",
    "is_missing(x) or predict > x",
    "predict ** 2 < 100",
    "predict ** -0.5 < 100",
    "-predict < +1",
    "sqrt(abs(x)) < 3 and log(predict) < 5 and exp(predict) > 0",
    "grid[2] % 2 == 0",
    "urgent == True",
    "mean(grid) < 1",
    "   predict > 0\n",
)

HOSTILE = (
    # attributes, and all that can be reached through them
    "().__class__.__bases__[0].__subclasses__()",
    "predict.__class__",
    "inputs.__class__",
    "x.real > 0",
    # names and calls that are not of this language
    "__import__('os').system('true')",
    "open('/etc/passwd')",
    "eval('1')",
    "exec('1')",
    "getattr(predict, 'shape')",
    "globals()",
    "print(predict)",
    "abs(-1, key=2)",
    "abs(*inputs)",
    "max(**inputs)",
    "(lambda: 1)()",
    "abs",
    # whatever loops, assigns, or holds something
    "[x for x in inputs]",
    "{x for x in inputs}",
    "{x: 1 for x in inputs}",
    "sum(x for x in grid)",
    "all([predict > 0])",
    "(y := predict) > 0",
    "lambda: predict",
    "{'a': predict}",
    "{predict}",
    "f'{predict}'",
    "predict if x > 0 else x",
    "await predict",
    "yield predict",
    "*predict, x",
    "predict; x",
    "import os",
    "x = 1",
    # what would take long, or much memory
    "9 ** 9 ** 9 ** 9 > predict",
    "2 ** 100 > predict",
    "predict ** x > 0",
    "predict ** 1e308 > 0",
    "'a' * 1000000000 == label",
    "predict << 100000000",
    "10 ** -9 < predict",
    f"{'9' * 400} > predict",
    "predict // 0",
    "predict @ x",
    "predict & 1",
    "~count > 0",
    # slices, and indexes that are none
    "predict_proba[0:1]",
    "predict_proba[-1] > 0",
    "predict_proba[x] > 0",
    "predict_proba[True] > 0",
    "predict_proba[0.0] > 0",
    "predict_proba[0, 1] > 0",
    "inputs[0] > 0",
    # constants that mean nothing here
    "predict == None",
    "predict == 1j",
    "label == b'low'",
    "predict == ...",
    "predict is 1",
    "predict is not None",
    "",
    "   ",
    "#",
    "\x00",
    "predict > 0 #" + "\udcff",
)


@pytest.mark.parametrize("expression", GOOD)
def test_what_is_allowed_states_a_condition(expression):
    compiled = compile_expression(expression, WIDE)
    inputs, outputs = rows_of(1)
    assert compiled.one(inputs, outputs) in {True, False}


@pytest.mark.parametrize("expression", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_hostile_or_meaningless_is_refused(expression):
    with pytest.raises(InvalidSafetyPolicyError):
        compile_expression(expression, WIDE)


@pytest.mark.parametrize("name", [name for name in dir(builtins) if name not in {*OF_ONE, *OF_SEVERAL}])
def test_no_builtin_is_there(name):
    with pytest.raises(InvalidSafetyPolicyError):
        compile_expression(f"{name}(predict) > 0", WIDE)
    with pytest.raises(InvalidSafetyPolicyError):
        compile_expression(f"{name} > 0", WIDE)


DEEP = (
    "(" * 5000 + "predict" + ")" * 5000,
    "-" * 900 + "predict > 0",
    "not " * 240 + "approved",
    "abs(" * 100 + "predict" + ")" * 100 + " > 0",
    "predict" + "[0]" * 300 + " > 0",
    "[" * 400 + "]" * 400,
)


@pytest.mark.parametrize("expression", DEEP, ids=range(len(DEEP)))
def test_deep_nesting_is_refused_and_not_followed(expression):
    with pytest.raises(InvalidSafetyPolicyError):
        parse(expression)


def test_limits_are_limits():
    flat = " and ".join(["approved"] * 60)
    assert compile_expression(flat, WIDE).one(*rows_of(1)) is False
    with pytest.raises(InvalidSafetyPolicyError, match="more than 200 parts"):
        parse(f"max({', '.join(['x'] * (MAX_PARTS // 2))}) > 0")
    with pytest.raises(InvalidSafetyPolicyError, match="characters"):
        parse("approved or " + " " * MAX_CHARACTERS + "approved")


def test_a_long_chain_of_signs_is_too_deep():
    with pytest.raises(InvalidSafetyPolicyError, match="deeper"):
        parse("predict" + " + predict" * 40 + " > 0")


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("predict", "it states no condition"),
        ("predict + 1", "it states no condition"),
        ("label", "it states no condition"),
        ("other > 0", "`other` is none of the inputs or outputs"),
        ("inputs['other'] > 0", "`other` is none of the inputs"),
        ("outputs['x'] > 0", "`x` is none of the outputs"),
        ("label > 'a'", "only numbers are less or more"),
        ("approved > urgent", "only numbers are less or more"),
        ("label == 1", "a text is compared with a number"),
        ("approved == 1", "a condition is compared with a number"),
        ("predict_proba > 0", "a row of numbers is compared with a number"),
        ("predict_proba in ()", "the list after `in` holds something else than a row of numbers"),
        ("predict_proba == predict_proba", "a row of numbers is compared with a row of numbers"),
        ("label + 'x' == 'lowx'", "there is a text where a number belongs"),
        ("predict and approved", "there is a number where a condition belongs"),
        ("not predict", "there is a number where a condition belongs"),
        ("abs(label) > 0", "there is a text where a number belongs"),
        ("sum(predict) > 0", "there is a number where a row of numbers belongs"),
        ("max(predict_proba, 1) > 0", "there is a row of numbers where a number belongs"),
        ("predict_proba[2] > 0", "has no column 2"),
        ("predict[1] > 0", "has no column 1"),
        ("free[0] > 0", "has no column 0"),
        ("predict_proba[0][0] > 0", "a column is asked of an input or output"),
        ("raw == 'a'", "no number and no text"),
        ("label in 'low'", "a list in brackets belongs after `in`"),
        ("label in ('low', 1)", "something else than a text"),
        ("predict in (1, x)", "something else than a number"),
        ("predict in (1, True)", "something else than a number"),
        ("0 < predict in (1, 2)", "`in` stands alone"),
        ("(1, 2)", "a list stands only after `in`"),
        ("abs() > 0", "`abs` got 0 values"),
        ("abs(1, 2) > 0", "`abs` got 2 values"),
        ("predict ** 9 > 0", "an exponent is a number from -8 to 8"),
        ("label['x'] == 'a'", "only `inputs` and `outputs` are asked by name"),
    ],
)
def test_the_refusal_says_what_is_wrong(expression, problem):
    with pytest.raises(InvalidSafetyPolicyError) as caught:
        compile_expression(expression, WIDE)
    assert problem in caught.value.message
    assert expression[:40] in caught.value.message


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(InvalidSafetyPolicyError):
        compile_expression(text, WIDE)


ATOMS = st.sampled_from(
    ["predict", "x", "label", "approved", "1", "-1", "1e400", "'a'", "True", "()", "[1]", "predict_proba", "__class__"]
)


@given(
    st.recursive(
        ATOMS,
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from("+-*/%<>.,"), inner).map("".join),
            st.tuples(inner, st.sampled_from([" and ", " or ", " in ", " == ", "**"]), inner).map("".join),
            inner.map("({})".format),
            inner.map("abs({})".format),
            inner.map("{}[0]".format),
            inner.map("not {}".format),
        ),
        max_leaves=15,
    )
)
def test_whatever_is_accepted_judges_every_row_without_raising(expression):
    try:
        compiled = compile_expression(expression, WIDE)
    except InvalidSafetyPolicyError:
        return
    inputs, outputs = rows_of(1)
    assert compiled.one(inputs, outputs) in {True, False}
    compiled.many(*rows_of(5))


def test_columns_of_tensors():
    widths = {spec.name: columns_of(spec) for spec in WIDE.outputs}
    assert widths["predict"] == 1
    assert widths["predict_proba"] == 2
    assert widths["free"] is None

"""Conditions mean what others' implementations say, and no context makes them fail."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.traffic.allocation.conditions import OPERATORS, compile_condition
from tests.traffic.allocation.support import cases

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def holds(condition, context, groups=None):
    return compile_condition(condition, groups or {})(context)


def test_every_case_from_outside():
    document = cases("targeting/growthbook_conditions.json")
    wrong = []
    for name, condition, context, expected, *groups in document["cases"]:
        if holds(condition, context, *groups) is not expected:
            wrong.append(name)
    assert len(document["cases"]) > 100
    assert wrong == []


@pytest.mark.parametrize(
    ("condition", "context", "expected"),
    [
        ({}, {}, True),
        ({"n": 1}, {"n": True}, False),
        ({"n": True}, {"n": 1}, False),
        ({"n": 1}, {"n": 1.0}, True),
        ({"n": 1}, {"n": "1"}, False),
        ({"n": "1"}, {"n": 1}, False),
        ({"n": None}, {}, True),
        ({"n": 0}, {}, False),
        ({"n": [1, {"a": True}]}, {"n": [1, {"a": True}]}, True),
        ({"n": [1, {"a": True}]}, {"n": [1, {"a": 1}]}, False),
        ({"n": {"a": 1, "b": 2}}, {"n": {"b": 2, "a": 1}}, True),
        ({"n": {"$in": [1, "a"]}}, {"n": True}, False),
        ({"n": {"$in": [True]}}, {"n": 1}, False),
        ({"n": {"$in": [True]}}, {"n": [1, True]}, True),
        ({"n": {"$in": [None]}}, {}, True),
        ({"n": {"$in": ["a"]}}, {"n": {"a": 1}}, False),
        ({"n": {"$in": ["a"]}}, {"n": [["a"], {"a": 1}]}, False),
        ({"n": {"$nin": ["a"]}}, {}, True),
        ({"n": {"$ini": ["Straße", 5]}}, {"n": "STRAßE"}, True),
        ({"n": {"$ini": ["Straße", 5]}}, {"n": 5}, True),
        ({"n": {"$gt": 5}}, {"n": "six"}, False),
        ({"n": {"$lt": 5}}, {"n": "six"}, False),
        ({"n": {"$gt": 5}}, {"n": [6]}, False),
        ({"n": {"$gt": -1}}, {}, True),
        ({"n": {"$gte": 5}}, {"n": math.nan}, False),
        ({"n": {"$gt": "b"}}, {"n": "c"}, True),
        ({"n": {"$gt": "b"}}, {"n": 7}, False),
        ({"n": {"$exists": True}}, {"n": False}, True),
        ({"n": {"$size": 2}}, {"n": "ab"}, False),
        ({"n": {"$all": [{"$gt": 1}, {"$lt": 9}]}}, {"n": [0, 5]}, True),
        ({"n": {"$all": [{"$gt": 7}]}}, {"n": [0, 5]}, False),
        ({"n": {"$elemMatch": 5}}, {"n": [5]}, False),
        ({"n": {"$elemMatch": {"$eq": 1}}}, {"n": [1] * 256}, True),
        ({"n": {"$elemMatch": {"$eq": 1}}}, {"n": [1] * 257}, False),
        ({"n": {"$all": [1]}}, {"n": [1] * 257}, False),
        ({"n": {"$all": 1}}, {"n": [1]}, False),
        ({"n": {"$type": "object"}}, {"n": object()}, False),
        ({"n": {"$in": [1]}}, {"n": [0] * 10_000 + [1]}, True),
        ({"n": {"$regex": "a"}}, {"n": 5}, False),
        ({"n": {"$regex": "a"}}, {"n": "a" * 257}, False),
        ({"n": {"$regex": "a"}}, {"n": "a" * 256}, True),
        ({"n": {"$veq": "2.0.0"}}, {"n": 2}, False),
        ({"n": {"$vgt": "1.0.0"}}, {"n": None}, False),
        ({"n": {"$type": "number"}}, {"n": True}, False),
        ({"n": {"$type": "boolean"}}, {"n": True}, True),
        ({"n": {"$type": "null"}}, {}, True),
        ({"n": {"$frobnicate": 1}}, {"n": 1}, False),
        ({"n": {"$not": {"$gt": 5}}}, {"n": 4}, True),
        ({"$nor": [{"a": 1}]}, {"a": 2}, True),
        ({"a.b.c": 1}, {"a": {"b": {"c": 1}}}, True),
        ({"a.b.c": 1}, {"a": {"b": [1]}}, False),
        ({"a.b": 1}, {"a.b": 1}, False),
        ({"a": {"$gt": 1, "$lt": 5, "$ne": 3}}, {"a": 2}, True),
        ({"a": {"$gt": 1, "$lt": 5, "$ne": 3}}, {"a": 3}, False),
        ({"n": {"$inGroup": "beta"}}, {"n": "x"}, False),
        ({"n": {"$notInGroup": "beta"}}, {"n": "x"}, True),
    ],
)
def test_what_conditions_mean(condition, context, expected):
    assert holds(condition, context) is expected


def test_groups_are_looked_up_once():
    assert holds({"id": {"$inGroup": "beta"}}, {"id": ["x", "u2"]}, {"beta": ("u1", "u2")})
    assert not holds({"id": {"$notInGroup": "beta"}}, {"id": "u1"}, {"beta": ("u1", "u2")})


OPERANDS = {
    "$exists": True,
    "$size": {"$gt": 1},
    "$elemMatch": {"a": 1},
    "$not": {"$gt": 1},
    "$in": ["a", 1, None],
    "$nin": ["a", 1, True],
    "$ini": ["A"],
    "$nini": ["A"],
    "$all": ["a", {"$gt": 1}],
    "$alli": ["A"],
    "$regex": "^a",
    "$regexi": "^a",
    "$type": "number",
    "$inGroup": "g",
    "$notInGroup": "g",
    "$veq": "1.0.0",
    "$vgt": "1.0.0-rc.1",
}


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(OPERATORS)), JSON)
def test_no_json_makes_a_condition_fail(operator, value):
    condition = {"a.b": {operator: OPERANDS.get(operator, 1)}}
    assert holds(condition, {"a": {"b": value}}, {"g": ("x", 1)}) in {True, False}
    assert holds(condition, value, {"g": ("x",)}) in {True, False}


@settings(max_examples=200, deadline=None)
@given(JSON.filter(lambda value: "nan" not in repr(value)))
def test_whatever_is_there_equals_itself(value):
    assert holds({"a": {"$eq": value}}, {"a": value})
    assert not holds({"a": {"$ne": value}}, {"a": value})


def test_a_compiled_condition_keeps_nothing_of_the_context():
    test = compile_condition({"n": {"$in": [1, 2]}}, {})
    assert [test({"n": n}) for n in (1, 5, 2, 5)] == [True, False, True, False]

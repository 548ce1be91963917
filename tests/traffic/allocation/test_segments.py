"""A segment that cannot mean anything, or costs too much, is refused, with the place and the problem."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.errors import InvalidSegmentError
from crossfade.traffic.allocation.segments import MAX_CLAUSES, MAX_DEPTH, MAX_TEXT, MAX_VALUES, Segment
from tests.traffic.allocation.support import cases


def refusal(condition, groups=None):
    with pytest.raises(InvalidSegmentError) as refused:
        Segment(condition, groups or {}).check()
    assert len(refused.value.message) < 400
    assert refused.value.hint.startswith("try it: `crossfade experiments assign")
    return refused.value


def nested(depth, innermost):
    for _ in range(depth):
        innermost = {"$not": innermost}
    return innermost


def test_all_cases_from_outside_but_those_without_a_meaning_are_accepted():
    refused = []
    for name, condition, _, _, *groups in cases("targeting/growthbook_conditions.json")["cases"]:
        try:
            Segment(condition, *groups).check()
        except InvalidSegmentError:
            refused.append(name)
    assert refused == [
        "$nin - not array",
        "$ini - not array",
        "$regex invalid - pass",
        "$inGroup fails for unknown group id",
    ]


@pytest.mark.parametrize(
    ("condition", "path", "problem"),
    [
        ({"country": {"$inn": ["DE"]}}, "country.$inn", "did you mean `$in`"),
        ({"$an": [{"a": 1}]}, "$an", "did you mean `$and`"),
        ({"$and": {"a": 1}}, "$and", "a list of conditions"),
        ({"$or": [5]}, "$or[0]", "a condition is an object"),
        ({"$or": [{"a": {"$in": 5}}]}, "$or[0].a.$in", "takes a list"),
        ({"$not": []}, "$not", "a condition is an object"),
        ({"a": {"$gt": 1, "b": 2}}, "a", "mixes"),
        ({"a": {"$gt": None}}, "a.$gt", "a number or a text"),
        ({"a": {"$gt": True}}, "a.$gt", "a number or a text"),
        ({"a": {"$gt": math.nan}}, "a.$gt", "finite"),
        ({"a": math.inf}, "a", "finite"),
        ({"a": {"$in": [math.nan]}}, "a.$in", "a list holds"),
        ({"a": {"$in": [["x"]]}}, "a.$in", "a list holds"),
        ({"a": {"$vgt": 2}}, "a.$vgt", "a version"),
        ({"a": {"$exists": "yes"}}, "a.$exists", "true or false"),
        ({"a": {"$type": "text"}}, "a.$type", "null, boolean"),
        ({"a": {"$type": []}}, "a.$type", "null, boolean"),
        ({"a": {"$inGroup": "beta"}}, "a.$inGroup", "name of a group"),
        ({"a": {"$inGroup": ["x"]}}, "a.$inGroup", "name of a group"),
        ({"a": {"$regex": "(a+)+$"}}, "a.$regex", "more steps"),
        ({"a": {"$elemMatch": {"$regex": ".*x"}}}, "a.$elemMatch.$regex", "more steps"),
        ({"a": {"$all": [{"$regex": ".*x"}]}}, "a.$all[0].$regex", "more steps"),
        (
            {"a": {"$elemMatch": {"b": {"$elemMatch": {"$regex": "x"}}}}},
            "a.$elemMatch.b.$elemMatch.$regex",
            "more steps",
        ),
        ({"$or": [{"a": {"$regex": f".*{n}"}} for n in range(3)]}, "$or[1].a.$regex", "more steps"),
        ({"a": {"$regexi": 5}}, "a.$regexi", "regular expression"),
        ({"a": {"$size": {"$bigger": 3}}}, "a.$size.$bigger", "no operator"),
        ({"a": {"$elemMatch": 5}}, "a.$elemMatch", "a condition is an object"),
        ({"a": {"$elemMatch": {"b": {"$x": 1}}}}, "a.$elemMatch.b.$x", "no operator"),
        ({"a": {"$elemMatch": {"$x": 1}}}, "a.$elemMatch.$x", "no operator"),
        ({"a": {"$all": [{"$x": 1}]}}, "a.$all[0].$x", "no operator"),
        ({"a": {"$all": 7}}, "a.$all", "takes a list"),
        ({"a": {"$not": {"$x": 1}}}, "a.$not.$x", "no operator"),
        ({"": 1}, "the condition", "an attribute has a name"),
        ({"a": "x" * (MAX_TEXT + 1)}, "a", "characters"),
        ({"a": {1, 2}}, "a", "no JSON"),
        ({"a": b"x"}, "a", "no JSON"),
        ({"a": (1, 2)}, "a", "no JSON, but a tuple"),
        ({"a": {"$in": ("x",)}}, "a.$in", "takes a list"),
    ],
)
def test_what_is_refused_and_where(condition, path, problem):
    error = refusal(condition)
    assert error.facts["path"] == path
    assert problem in error.facts["problem"]


@pytest.mark.parametrize(
    "condition",
    [
        nested(MAX_DEPTH, {"a": 1}),
        nested(5_000, {"a": 1}),
        {"$and": [{"a": n} for n in range(MAX_CLAUSES + 1)]},
        {f"a{n}": 1 for n in range(MAX_CLAUSES + 1)},
        {"a": {"$in": list(range(MAX_VALUES + 1))}},
        {"a": {"$in": ["x" * (MAX_TEXT + 1)]}},
        {"a": {"$all": list(range(MAX_CLAUSES + 1))}},
        {"a": list(range(MAX_VALUES + 1))},
        {"a": {"$eq": [[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]}},
        {"x" * (MAX_TEXT + 1): 1},
        {"a": {"$elemMatch": {"a": {"$elemMatch": nested(MAX_DEPTH, {"b": 1})}}}},
        {"a": {"$size": {"$not": {"$not": {"$not": {"$not": nested(MAX_DEPTH, {"$gt": 1})}}}}}},
    ],
    ids=range(12),
)
def test_hostile_sizes_are_refused(condition):
    refusal(condition)


def test_what_is_as_large_as_possible_is_accepted_and_compiled():
    Segment(nested(MAX_DEPTH - 3, {"a": 1})).check()
    wide = Segment({"$or": [{"country": {"$in": [f"c{n}-{m}" for m in range(100)]}} for n in range(100)]})
    wide.check()
    assert wide.compile()({"country": "c99-99"})
    assert not wide.compile()({"country": "c100-0"})


def test_patterns_for_the_items_of_arrays_are_accepted_when_they_are_simple():
    Segment({"a": {"$elemMatch": {"name": {"$regex": "^ping"}}}, "b": {"$elemMatch": {"$regex": "ping"}}}).check()


def test_groups_are_checked_too():
    assert "groups.beta" in refusal({}, {"beta": ([],)}).facts["path"]
    assert "10001 values" in refusal({}, {"beta": tuple(range(MAX_VALUES + 1))}).message
    assert "1001 groups" in refusal({}, {f"g{n}": () for n in range(1001)}).message
    Segment({"id": {"$inGroup": "beta"}}, {"beta": ("u1", 2, None, True)}).check()


DOCUMENT = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["(a+)+", "^a$"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["$and", "$or", "$not", "$in", "$gt", "$elemMatch", "$all", "$regex", "$size", "a", "a.b", ""]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=15,
)


@settings(max_examples=500, deadline=None)
@given(st.dictionaries(st.sampled_from(["$and", "$or", "$nor", "$not", "a", "a.b"]), DOCUMENT, max_size=3), DOCUMENT)
def test_what_is_accepted_can_be_compiled_and_asked_anything(condition, context):
    segment = Segment(condition)
    try:
        segment.check()
    except InvalidSegmentError:
        return
    assert segment.compile()(context) in {True, False}

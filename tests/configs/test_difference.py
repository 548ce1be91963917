"""What differs is a JSON Patch that makes one document of the other, held to another implementation of RFC 6902."""

import copy

import jsonpatch
import orjson
import pytest
from hypothesis import given, settings

from crossfade.configs.difference import Difference, differences
from tests.configs.test_document import DOCUMENTS, VALUES


def applied(before, found):
    operations = [{"op": each.op, "path": each.path, "value": each.value} for each in found]
    return jsonpatch.apply_patch(copy.deepcopy(before), operations)


def canonical(value):
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


@settings(max_examples=40)
@given(DOCUMENTS, DOCUMENTS)
def test_applying_what_differs_makes_the_other(before, after):
    assert canonical(applied(before, differences(before, after))) == canonical(after)


@settings(max_examples=40)
@given(DOCUMENTS)
def test_nothing_differs_from_itself(document):
    assert differences(document, copy.deepcopy(document)) == ()


@settings(max_examples=40)
@given(VALUES, VALUES)
def test_values_inside_of_arrays(before, after):
    one, other = {"a": [1, before, 2]}, {"a": [1, after, 2]}
    assert canonical(applied(one, differences(one, other))) == canonical(other)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({"a": 1}, {"a": 2}, ["/a: 1 -> 2"]),
        ({"a": 1}, {"a": 1.0}, ["/a: 1 -> 1.0"]),
        ({"a": 1}, {"a": True}, ["/a: 1 -> true"]),
        ({"a": None}, {}, ["/a: null is gone"]),
        ({}, {"a": None}, ["/a: null is new"]),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, ["/a/c: 2 is new"]),
        ({"a": [1, 2, 3]}, {"a": [1, 3]}, ["/a/1: 2 is gone"]),
        ({"a": [1, 3]}, {"a": [1, 2, 3]}, ["/a/1: 2 is new"]),
        ({"a": [{"x": 1}, {"x": 2}]}, {"a": [{"x": 1}, {"x": 3}]}, ["/a/1/x: 2 -> 3"]),
        ({"a": {}}, {"a": []}, ["/a: {} -> []"]),
        ({"a/b": 1}, {"a/b": 2}, ["/a~1b: 1 -> 2"]),
    ],
)
def test_people_read_it(before, after, words):
    assert [each.words for each in differences(before, after)] == words


def test_long_values_are_cut():
    assert Difference("add", "/a", "x" * 1000).words == f'/a: "{"x" * 56}... is new'


def test_long_arrays_are_compared_place_by_place():
    before, after = {"a": list(range(3000))}, {"a": [-1, *range(1, 3001)]}
    found = differences(before, after)
    assert [each.words for each in found] == ["/a/0: 0 -> -1", "/a/3000: 3000 is new"]
    assert applied(before, found) == after

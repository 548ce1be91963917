"""Rules between the values of a document; whatever cannot be compared breaks them, and nothing raises."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.configs.rules import ConfigRule
from crossfade.errors import InvalidConfigError
from tests.configs.test_document import DOCUMENTS

ORDER = ConfigRule("order", {"retries.min": {"$lte": {"$field": "retries.max"}}}, message="min is above max")


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"retries": {"min": 1, "max": 2}}, ""),
        ({"retries": {"min": 2, "max": 2}}, ""),
        ({"retries": {"min": 3, "max": 2}}, "min is above max"),
        ({"retries": {"min": 3}}, "min is above max: there is no `retries.max` to compare with"),
        ({}, "min is above max: there is no `retries.max` to compare with"),
        ({"retries": {"min": 1, "max": [2]}}, "min is above max: "),
        ({"retries": {"min": 1, "max": None}}, "min is above max"),
        ({"retries": {"min": {}, "max": 5}}, "min is above max"),
    ],
)
def test_a_field_compared_with_a_field(document, problem):
    assert ORDER.problem(document).startswith(problem)
    assert bool(ORDER.problem(document)) == bool(problem)


def test_when_says_for_which_documents_it_is_a_rule():
    rule = ConfigRule("tls", {"port": 443}, when={"scheme": "https"})
    assert rule.problem({"scheme": "http", "port": 80}) == ""
    assert rule.problem({"scheme": "https", "port": 443}) == ""
    assert rule.problem({"scheme": "https", "port": 80}) == "the rule `tls` does not hold"


@pytest.mark.parametrize(
    ("then", "holds", "breaks"),
    [
        ({"mode": {"$field": "default"}}, {"mode": "a", "default": "a"}, {"mode": "a", "default": "b"}),
        ({"mode": {"$in": {"$field": "modes"}}}, {"mode": "a", "modes": ["a"]}, {"mode": "c", "modes": ["a"]}),
        ({"$or": [{"a": {"$exists": True}}, {"b": {"$gt": {"$field": "c"}}}]}, {"b": 2, "c": 1}, {"b": 1, "c": 1}),
        ({"hosts": {"$size": {"$field": "replicas"}}}, {"hosts": [1, 2], "replicas": 2}, {"hosts": [], "replicas": 2}),
        ({"a": {"$ne": {"$field": "b"}, "$gt": 0}}, {"a": 1, "b": 2}, {"a": 1, "b": 1}),
    ],
)
def test_fields_stand_where_constants_do(then, holds, breaks):
    rule = ConfigRule("r", then)
    rule.check("limits")
    assert rule.problem(holds) == ""
    assert rule.problem(breaks)


@pytest.mark.parametrize(
    "rule",
    [
        ConfigRule("", {"a": 1}),
        ConfigRule("x" * 65, {"a": 1}),
        ConfigRule("r", {}),
        ConfigRule("r", {"a": {"$greater": 1}}),
        ConfigRule("r", {"a": {"$regex": "(a+)+$"}}),
        ConfigRule("r", {"a": 1}, when={"$or": 5}),
    ],
    ids=range(6),
)
def test_what_is_no_rule_is_refused(rule):
    with pytest.raises(InvalidConfigError):
        rule.check("limits")


def test_a_pattern_from_a_document_cannot_take_forever():
    rule = ConfigRule("r", {"name": {"$regex": {"$field": "pattern"}}})
    rule.check("limits")
    assert rule.problem({"name": "aaa", "pattern": "^a+$"}) == ""
    assert rule.problem({"name": "a" * 40 + "!", "pattern": "(a+)+$"})


@settings(max_examples=40)
@given(DOCUMENTS, st.sampled_from(["$lte", "$in", "$eq", "$regex", "$all", "$elemMatch", "$not", "$size", "$vgt"]))
def test_no_document_makes_a_rule_raise(document, operator):
    document = {"b": 1} | document
    assert isinstance(ConfigRule("r", {"a": {operator: {"$field": "b"}}}).problem(document), str)

"""Schemas are checked by a process of their own, which no schema outlives, and nothing is fetched from anywhere."""

import pytest

from crossfade.configs import checking
from crossfade.configs.checking import MAX_PROBLEMS, check_in_child, find
from crossfade.configs.document import document_of
from crossfade.configs.spec import ConfigSpec
from crossfade.core.child import Limits
from crossfade.errors import InvalidConfigError, MalformedRequestError
from tests.configs.support import SCHEMA


def explosive(depth):
    """A schema of a few kilobytes whose check takes 2 ** depth steps."""
    both = {f"s{n}": {"allOf": [{"$ref": f"#/$defs/s{n + 1}"}] * 2} for n in range(depth)}
    return {"$defs": both | {f"s{depth}": {"type": "object"}}, "$ref": "#/$defs/s0"}


def test_a_child_finds_what_a_call_finds():
    document = document_of({"max": 5, "model": "churn"}, "d")
    spec = ConfigSpec(SCHEMA)
    found = check_in_child("limits", spec, document)
    assert found == find(SCHEMA, document.value)
    assert [(each.path, each.kind, each.target) for each in found.references] == [("/model", "model", "churn")]
    bad = document_of({"max": "five"}, "d")
    assert check_in_child("limits", spec, bad).problems[0].problem == '"five" is not of type "integer"'


def test_a_schema_that_takes_forever_is_refused(monkeypatch):
    monkeypatch.setattr(checking, "LIMITS", Limits(memory_bytes=2**29, cpu_seconds=1, idle_seconds=15.0))
    with pytest.raises(InvalidConfigError, match="too much time or memory"):
        check_in_child("limits", ConfigSpec(explosive(50)), document_of({}, "d"))


def test_a_schema_that_is_none_is_refused():
    with pytest.raises(InvalidConfigError, match="its schema is none"):
        check_in_child("limits", ConfigSpec({"type": "objekt"}), None)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"properties": {"child": {"$ref": "#"}}},
        {"$dynamicRef": "#"},
        {"pattern": "(a+)+$"},
        {"pattern": "^(a|a)*b"},
        {"format": "regex"},
        {"format": "nobody-knows"},
        {"contentEncoding": "base64"},
        {"$id": "https://example.org/x", "$ref": "#"},
        {"unevaluatedProperties": True, "dependentSchemas": {"a": {"required": ["b"]}}},
    ],
    ids=range(11),
)
def test_odd_schemas_end(schema):
    find(schema, {"a": "a" * 60 + "!", "b": 1, "child": {"child": {}}})


def test_patterns_take_linear_time():
    assert find({"properties": {"a": {"pattern": "^(a+)+$"}}}, {"a": "a" * 5000 + "!"}).problems
    for pattern in ("(?=a)b", "(a)\\1", "a{1000}{1000}{1000}", "("):
        with pytest.raises(MalformedRequestError, match="its schema is none"):
            find({"properties": {"a": {"pattern": pattern}}}, {})


@pytest.mark.parametrize("target", ["http://127.0.0.1:9/x", "file:///etc/passwd", "other.json", "json-schema:///x"])
def test_nothing_is_fetched(target):
    with pytest.raises(MalformedRequestError):
        find({"$ref": target}, {})


def test_no_more_problems_than_anybody_reads():
    found = find({"additionalProperties": {"type": "string"}}, {f"k{number}": number for number in range(1000)})
    assert len(found.problems) == MAX_PROBLEMS
    long = find({"enum": ["x" * 5000]}, {"a": 1})
    assert len(long.problems[0].problem) <= 300


def test_references_are_those_of_the_parts_that_hold():
    either = [{"type": "string", "x-crossfade-ref": "alias"}, {"type": "number", "x-crossfade-ref": "model"}]
    schema = {
        "properties": {
            "x": {"anyOf": either},
            "list": {"items": {"x-crossfade-ref": "config"}},
            "a/b": {"$ref": "#/$defs/m"},
        },
        "$defs": {"m": {"x-crossfade-ref": "model"}},
    }
    found = find(schema, {"x": "churn@champion", "list": ["one", 2, "one"], "a/b": "churn"})
    assert {(each.path, each.kind, each.target) for each in found.references} == {
        ("/x", "alias", "churn@champion"),
        ("/list/0", "config", "one"),
        ("/list/2", "config", "one"),
        ("/a~1b", "model", "churn"),
    }
    with pytest.raises(MalformedRequestError, match="references"):
        find(schema, {"list": ["x"] * 10_001})


def test_paths_of_problems_are_pointers():
    (problem,) = find({"properties": {"a/b~": {"items": {"type": "string"}}}}, {"a/b~": ["x", 1]}).problems
    assert problem.path == "/a~1b~0/1"

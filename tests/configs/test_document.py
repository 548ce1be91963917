"""Documents: they say what their bytes say, and whatever two readers could understand differently is refused."""

import json
import math

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.configs.document import MAX_BYTES, MAX_DEPTH, document_of, look_up, pointer, read_document
from crossfade.core.hashing import sha256
from crossfade.errors import InvalidConfigError
from tests.configs.support import nested

NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)
DOCUMENTS = st.dictionaries(st.text(max_size=5), VALUES, max_size=5)


def refused(content):
    with pytest.raises(InvalidConfigError) as caught:
        read_document(content, "limits")
    assert caught.value.facts["name"] == "limits"
    return caught.value.facts["problem"]


@settings(max_examples=40)
@given(DOCUMENTS)
def test_a_document_says_what_was_written_whatever_its_order_and_spaces(value):
    read = read_document(json.dumps(value, indent=3), "d")
    shuffled = read_document(json.dumps(dict(reversed(value.items()))), "d")
    assert read.value == value
    assert read == shuffled == document_of(value, "d")
    assert read.digest == sha256(read.text.encode())
    assert read_document(read.text, "d") == read, "canonical text is its own canonical text"


def test_equal_numbers_of_other_types_are_other_documents():
    texts = {read_document(f'{{"a": {number}}}', "d").text for number in ("1", "1.0", "true", '"1"')}
    assert len(texts) == 4


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "it is no JSON"),
        ("{", "it is no JSON"),
        (b"\xff\xfe", "it is no JSON"),
        ("[]", "a document is a JSON object"),
        ("1", "a document is a JSON object"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ('{"a": [-Infinity]}', "-Infinity is no JSON number"),
        ('{"a": {"b": 1e999}}', "at `/a/b`: the number is beyond"),
        ('{"a": 9223372036854775808}', "at `/a`: the number is beyond"),
        ('{"a": ' + "9" * 5000 + "}", "it is no JSON"),
        ('{"a": 1, "b": {"c": 1, "c": 1}}', "it has the key `c` twice in one object"),
        ('{"a": "\\ud800"}', "half of a surrogate pair"),
        ('{"\\udfff": 1}', "half of a surrogate pair"),
        (nested(MAX_DEPTH + 1), "deeper than 64 levels"),
        (nested(100_000), "deeper than 64 levels"),
        ('{"a": "' + "x" * MAX_BYTES + '"}', "1048576 are possible"),
        ('{"a": [' + ",".join("0" * 250_000) + "]}", "more than 200000 values"),
    ],
    ids=range(17),
)
def test_hostile_text_is_refused_with_its_place(content, problem):
    assert problem in refused(content)


def test_what_just_fits_is_taken():
    deepest = read_document(nested(MAX_DEPTH), "d")
    largest = read_document('{"a":"' + "x" * (MAX_BYTES - 8) + '"}', "d")
    assert len(largest.text) == MAX_BYTES
    assert read_document('{"a": -9223372036854775808}', "d").value == {"a": -(2**63)}
    assert deepest.value["a"]["a"]


@pytest.mark.parametrize("value", [math.nan, math.inf, 2**64, object(), {1: 2}, {"a": {2, 3}}, b"x"])
def test_python_values_that_json_does_not_have_are_refused(value):
    with pytest.raises(InvalidConfigError):
        document_of({"a": value}, "d")


def test_tuples_are_arrays():
    assert document_of({"a": (1, 2)}, "d").value == {"a": [1, 2]}


def test_a_value_that_holds_itself_is_refused():
    value = {}
    value["a"] = value
    with pytest.raises(InvalidConfigError, match="deeper"):
        document_of(value, "d")


@settings(max_examples=40)
@given(DOCUMENTS)
def test_pointers_find_every_part(value):
    def walk(part, path):
        assert orjson.dumps(look_up(value, path)) == orjson.dumps(part)
        items = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
        for key, item in items:
            walk(item, pointer(path, key))

    walk(value, "")


@pytest.mark.parametrize("path", ["/b", "/a/0", "/a/b/c/d", "/l/7", "/l/x", "/l/-1", "/l/٣"])
def test_pointers_to_nothing(path):
    with pytest.raises(LookupError):
        look_up({"a": {"b": 1}, "l": [1]}, path)

"""Who asks, read from bodies, parameters and headers, whatever they hold."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.errors import MalformedRequestError
from crossfade.serving.protocol.askers import asker_of_parameters, decode_asker, names_asker
from crossfade.traffic.allocation.decisions import Reason
from crossfade.traffic.allocation.segments import Segment
from crossfade.traffic.routing import Asker, Router
from tests.traffic.support import allocate, traffic_of

MANY_DIGITS = "1" * 5_000
HEADERS = {b"x-unit-id": b"h", b"x-experiment-id": b"named", b"x-context": b'{"from": "header"}'}


def body(**fields):
    return json.dumps(fields).encode()


# --- bodies ---


@pytest.mark.parametrize(
    ("text", "asker"),
    [
        (body(rows=[[1]], unit_id="u", context={"a": 1}, experiment="late"), Asker("u", {"a": 1}, "late")),
        (body(unit_id=7), Asker("7")),
        (body(unit_id=2**70), Asker(str(2**70))),
        (body(unit_id=""), Asker("")),
        (body(unit_id=None, context=None, experiment=None), Asker()),
        (body(parameters={"unit_id": "u", "experiment": "late", "a": [1]}), Asker("u", {"a": [1]}, "late")),
        (body(parameters={"unit_id": "u", "binary_data_output": True}), Asker("u")),
        (body(parameters={}), Asker()),
        (b'  \n{"unit_id": "u"}', Asker("u")),
        ('{"unit_id": "é☃"}'.encode(), Asker("é☃")),
        (b'{"unit_id": "a\\u0000b"}', Asker("a\0b")),
        (b"[[1, 2]]", Asker()),
        (b"", Asker()),
        (None, Asker()),
    ],
)
def test_what_a_body_says(text, asker):
    assert decode_asker({}, text) == asker


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b'{"rows": [',
        b'{"unit_id": "\xff"}',
        b'{"unit_id": "\\ud800"}',
        b'{"unit_id": "u"} and more',
        b'{"rows": [NaN]}',
        b'{"context": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001,
        b'{"rows": ' + b"[" * 100_000,
        b"\x93NUMPY",
        b"\xff\xff\xff\xff",
        b"{" + bytes(range(256)),
    ],
)
def test_what_is_no_json_is_left_to_whoever_reads_the_rows(text):
    assert decode_asker({}, text) == Asker()


@pytest.mark.parametrize(
    "text",
    [
        body(unit_id=1.5),
        body(unit_id=True),
        body(unit_id=["u"]),
        body(unit_id={"id": "u"}),
        f'{{"unit_id": {MANY_DIGITS}}}'.encode(),
        b'{"unit_id": 1e400}',
        body(experiment=7),
        body(experiment=["late"]),
        body(context=[1]),
        body(context="a"),
        f'{{"context": {{"a": {MANY_DIGITS}}}}}'.encode(),
        body(parameters=[]),
        body(parameters={"unit_id": 1.5}),
        body(parameters={"unit_id": False}),
        body(parameters={"unit_id": [1]}),
        body(parameters={"experiment": {"a": 1}}),
    ],
)
def test_a_wrong_type_is_told(text):
    with pytest.raises(MalformedRequestError) as caught:
        decode_asker({}, text)
    assert len(caught.value.message) < 300


def test_a_context_of_a_megabyte_decides():
    context = {f"attribute-{number}": "x" * 90 for number in range(10_000)} | {"carrier": "UA"}
    asker = decode_asker({}, body(rows=[[1]], unit_id="u", context=context))
    assert len(msgspec.json.encode(asker.context)) > 10**6
    router = Router(traffic_of(allocate("late", segment=Segment({"carrier": "UA"}))))
    assert router.route("m", asker).decision.reason == Reason.SPLIT


# --- headers ---


def test_headers_say_it_for_any_body():
    assert decode_asker(HEADERS, None, "r") == Asker("h", {"from": "header"}, "named", "r")
    assert decode_asker(HEADERS, b"\x93NUMPY") == Asker("h", {"from": "header"}, "named")
    assert all(names_asker({name: b""}) for name in HEADERS)
    assert not names_asker({b"content-type": b"application/json"})


def test_a_body_goes_before_headers():
    full = body(unit_id="b", context={"from": "body"}, experiment="other")
    assert decode_asker(HEADERS, full) == Asker("b", {"from": "body"}, "other")
    assert decode_asker(HEADERS, body(unit_id="b")) == Asker("b", {"from": "header"}, "named")
    assert decode_asker(HEADERS, body(context={})) == Asker("h", {}, "named")
    parameters = body(parameters={"a": 1})
    assert decode_asker(HEADERS, parameters) == Asker("h", {"a": 1}, "named")
    protocol = body(parameters={"binary_data_output": True})
    assert decode_asker(HEADERS, protocol) == Asker("h", {"from": "header"}, "named")


@pytest.mark.parametrize("header", [b"", b"{", b"[1]", b"7", b'"a"', b"\xff", b'{"a": 1' + b"0" * 20_000 + b"}"])
def test_a_context_header_that_is_no_object_is_told(header):
    with pytest.raises(MalformedRequestError, match="X-Context"):
        decode_asker({b"x-context": header}, None)


def test_a_context_header_that_is_nested_too_deeply_or_too_large_is_told():
    for header in (b'{"a":' * 3_000 + b"1" + b"}" * 3_000, b'{"a": "' + b"x" * 17_000 + b'"}'):
        with pytest.raises(MalformedRequestError, match="X-Context"):
            decode_asker({b"x-context": header}, None)


@pytest.mark.parametrize("header", [b"", b"\xe9", b"\x00", b"x" * 5_000])
def test_any_bytes_of_a_header_are_a_text(header):
    asker = decode_asker({b"x-unit-id": header, b"x-experiment-id": header}, None)
    assert (asker.unit, asker.experiment) == (header.decode("latin-1"), header.decode("latin-1"))


# --- parameters that are decoded already ---


def test_what_parameters_say():
    parameters = {"unit_id": 7, "experiment": "late", "score": 1.5, "flag": True}
    asker = asker_of_parameters(parameters, {}, "r")
    assert asker == Asker("7", {"score": 1.5, "flag": True}, "late", "r")
    assert asker_of_parameters({}, HEADERS) == Asker("h", {"from": "header"}, "named")
    for bad in ({"unit_id": 1.5}, {"unit_id": True}, {"experiment": b"x" and 1.5}):
        with pytest.raises(MalformedRequestError):
            asker_of_parameters(bad, {})


# --- anything ---

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
fields = st.dictionaries(st.sampled_from(["unit_id", "context", "experiment", "parameters", "rows"]), anything)


@given(document=fields, headers=st.dictionaries(st.sampled_from(list(HEADERS)), st.binary(max_size=40)))
def test_whatever_is_sent_is_an_asker_that_can_be_decided_for_or_refused(document, headers):
    router = Router(traffic_of(allocate("late", segment=Segment({"a": {"$gt": 1}}))))
    try:
        asker = decode_asker(headers, json.dumps(document).encode())
    except MalformedRequestError:
        return
    assert asker.unit is None or isinstance(asker.unit, str)
    assert asker.context is None or isinstance(asker.context, dict)
    assert router.route("m", asker) is not None


@given(text=st.binary(max_size=200))
def test_any_bytes_are_no_fault(text):
    try:
        decode_asker({}, b"{" + text)
    except MalformedRequestError:
        pass

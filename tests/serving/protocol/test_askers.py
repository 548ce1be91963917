"""Who asks, read from bodies, parameters and headers, whatever they hold."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.errors import MalformedRequestError
from crossfade.serving.protocol.askers import asker_of_parameters, asker_of_rows, names_asker
from crossfade.serving.protocol.formats import peek_body
from crossfade.serving.protocol.oip import peek_document
from crossfade.traffic.allocation.decisions import Reason
from crossfade.traffic.allocation.segments import Segment
from crossfade.traffic.routing import Asker, Router
from tests.traffic.support import allocate, traffic_of

MANY_DIGITS = "1" * 5_000
HEADERS = {b"x-unit-id": b"h", b"x-experiment-id": b"named", b"x-context": b'{"from": "header"}'}


def body(**fields):
    return json.dumps(fields).encode()


def of_rows(text, headers=None, request_id="", kind=b"application/json"):
    """Return who asks by a plain request."""
    return asker_of_rows(peek_body(kind, text), headers or {}, request_id)


def of_protocol(text, headers=None, header_length=None):
    """Return who asks by a request of the Open Inference Protocol."""
    document = peek_document(text, header_length)
    return asker_of_parameters((document and document.parameters) or {}, headers or {})


# --- bodies ---


@pytest.mark.parametrize(
    ("text", "asker"),
    [
        (body(rows=[[1]], unit_id="u", context={"a": 1}, experiment="late"), Asker("u", {"a": 1}, "late")),
        (body(rows=[], unit_id=7), Asker("7")),
        (body(rows=[], unit_id=2**70), Asker(str(2**70))),
        (body(rows=[], unit_id=""), Asker("")),
        (body(rows=[], unit_id=None, context=None, experiment=None), Asker()),
        (b'  \n{"unit_id": "u", "rows": []}', Asker("u")),
        ('{"rows": [], "unit_id": "é☃"}'.encode(), Asker("é☃")),
        (b'{"rows": [], "unit_id": "a\\u0000b"}', Asker("a\0b")),
        (b"[[1, 2]]", Asker()),
        (b"", Asker()),
    ],
)
def test_what_plain_rows_say(text, asker):
    assert of_rows(text) == asker
    assert of_rows(text, kind=b"application/x-npy") == Asker(), "what is no JSON says nothing"


@pytest.mark.parametrize(
    ("parameters", "asker"),
    [
        ({"unit_id": "u", "experiment": "late", "a": 1}, Asker("u", {"a": 1}, "late")),
        ({"unit_id": "u", "binary_data_output": True}, Asker("u")),
        ({}, Asker()),
        (None, Asker()),
    ],
)
def test_what_the_protocol_says(parameters, asker):
    text = body(inputs=[], parameters=parameters)
    assert of_protocol(text) == asker
    assert of_protocol(text + b"\0\0\0\0", header_length=b"%d" % len(text)) == asker


UNREADABLE = [
    b"{",
    b'{"rows": [',
    b'{"rows": [], "unit_id": "\xff"}',
    b'{"rows": [], "unit_id": "\\ud800"}',
    b'{"rows": []} and more',
    b'{"rows": [NaN]}',
    b'{"rows": [], "context": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001,
    b'{"rows": ' + b"[" * 100_000,
    b"\x93NUMPY",
    b"\xff\xff\xff\xff",
    b"{" + bytes(range(256)),
    f'{{"rows": [], "unit_id": {MANY_DIGITS}}}'.encode(),
    f'{{"rows": [], "context": {{"a": {MANY_DIGITS}}}}}'.encode(),
    *(body(rows=[], unit_id=wrong) for wrong in (1.5, True, ["u"], {"id": "u"})),
    *(body(rows=[], experiment=wrong) for wrong in (7, ["late"])),
    *(body(rows=[], context=wrong) for wrong in ([1], "a", 7)),
    *(body(inputs=[], parameters=wrong) for wrong in ([], "a", 7)),
]


@pytest.mark.parametrize("text", UNREADABLE, ids=range(len(UNREADABLE)))
def test_what_cannot_be_read_says_nothing_and_is_refused_by_whoever_reads_the_inputs(text):
    assert of_rows(text) == Asker()
    assert of_protocol(text) == Asker()
    for length in (b"x", b"-1", b"99999999", b"", b"0"):
        assert of_protocol(text, header_length=length) == Asker()


def test_a_context_of_a_megabyte_decides():
    context = {f"attribute-{number}": "x" * 90 for number in range(10_000)} | {"carrier": "UA"}
    asker = of_rows(body(rows=[[1]], unit_id="u", context=context))
    assert len(msgspec.json.encode(asker.context)) > 10**6
    router = Router(traffic_of(allocate("late", segment=Segment({"carrier": "UA"}))))
    assert router.route("m", asker).decision.reason == Reason.SPLIT


# --- headers ---


def test_headers_say_it_for_any_body():
    assert asker_of_parameters({}, HEADERS, "r") == Asker("h", {"from": "header"}, "named", "r")
    assert of_rows(b"\x93NUMPY", HEADERS, "r") == Asker("h", {"from": "header"}, "named", "r")
    assert all(names_asker({name: b""}) for name in HEADERS)
    assert not names_asker({b"content-type": b"application/json"})


def test_a_body_goes_before_headers():
    full = body(rows=[], unit_id="b", context={"from": "body"}, experiment="other")
    assert of_rows(full, HEADERS) == Asker("b", {"from": "body"}, "other")
    assert of_rows(body(rows=[], unit_id="b"), HEADERS) == Asker("b", {"from": "header"}, "named")
    assert of_rows(body(rows=[], context={}), HEADERS) == Asker("h", {}, "named")
    assert asker_of_parameters({"a": 1}, HEADERS) == Asker("h", {"a": 1}, "named")
    assert asker_of_parameters({"binary_data_output": True}, HEADERS) == Asker("h", {"from": "header"}, "named")


@pytest.mark.parametrize("header", [b"", b"{", b"[1]", b"7", b'"a"', b"\xff", b'{"a": 1' + b"0" * 20_000 + b"}"])
def test_a_context_header_that_is_no_object_is_told(header):
    with pytest.raises(MalformedRequestError, match="X-Context"):
        asker_of_parameters({}, {b"x-context": header})


def test_a_context_header_that_is_nested_too_deeply_or_too_large_is_told():
    for header in (b'{"a":' * 3_000 + b"1" + b"}" * 3_000, b'{"a": "' + b"x" * 17_000 + b'"}'):
        with pytest.raises(MalformedRequestError, match="X-Context"):
            asker_of_parameters({}, {b"x-context": header})


@pytest.mark.parametrize("header", [b"", b"\xe9", b"\x00", b"x" * 5_000])
def test_any_bytes_of_a_header_are_a_text(header):
    asker = asker_of_parameters({}, {b"x-unit-id": header, b"x-experiment-id": header})
    assert (asker.unit, asker.experiment) == (header.decode("latin-1"), header.decode("latin-1"))


# --- parameters that are decoded already ---


def test_what_parameters_say():
    parameters = {"unit_id": 7, "experiment": "late", "score": 1.5, "flag": True}
    asker = asker_of_parameters(parameters, {}, "r")
    assert asker == Asker("7", {"score": 1.5, "flag": True}, "late", "r")


@pytest.mark.parametrize("name", ["unit_id", "experiment"])
@pytest.mark.parametrize("wrong", [1.5, True, [1], {"a": 1}, b"u"])
def test_a_wrong_type_is_told(name, wrong):
    with pytest.raises(MalformedRequestError) as caught:
        asker_of_parameters({name: wrong}, {})
    assert len(caught.value.message) < 300


# --- anything ---

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
fields = st.dictionaries(st.sampled_from(["unit_id", "context", "experiment", "parameters"]), anything)


@given(document=fields, headers=st.dictionaries(st.sampled_from(list(HEADERS)), st.binary(max_size=40)))
def test_whatever_is_sent_is_an_asker_that_can_be_decided_for_or_refused(document, headers):
    router = Router(traffic_of(allocate("late", segment=Segment({"a": {"$gt": 1}}))))
    for read, name in ((of_rows, "rows"), (of_protocol, "inputs")):
        try:
            asker = read(json.dumps({name: [], **document}).encode(), headers)
        except MalformedRequestError:
            continue
        assert asker.unit is None or isinstance(asker.unit, str)
        assert asker.context is None or isinstance(asker.context, dict)
        assert router.route("m", asker) is not None


@given(text=st.binary(max_size=200))
def test_any_bytes_are_no_fault(text):
    for start in (b"", b"{", b'{"rows": []'):
        assert isinstance(of_rows(start + text), Asker)
        assert isinstance(of_protocol(start + text), Asker)

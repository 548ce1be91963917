"""Who asks: what the body says, what headers say, and what is wrong with either."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.tensors import Signature, TensorSpec
from crossfade.errors import CrossfadeError, MalformedRequestError
from crossfade.serving.protocol.askers import asker_of_parameters, asker_of_rows, names_asker
from crossfade.serving.protocol.formats import decode_body, peek_body
from crossfade.serving.protocol.oip import decode_request, peek_document
from crossfade.traffic.routing import Asker

SIGNATURE = Signature((TensorSpec("x", "FP64", (-1, 2)),), (TensorSpec("predict", "FP64", (-1,)),))
ROWS = {"rows": [[1.0, 2.0]]}
TENSORS = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1.0, 2.0]}]}


def of_rows(document, headers=None, content_type=b"application/json", request_id=""):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return asker_of_rows(peek_body(content_type, body), headers or {}, request_id)


def of_tensors(parameters, headers=None):
    found = peek_document(json.dumps(TENSORS | {"parameters": parameters}).encode(), None)
    return asker_of_parameters(found.parameters, headers or {})


def test_rows_say_who_asks():
    said = {"unit_id": "UA-1545", "context": {"origin": "JFK", "tags": ["a"]}, "experiment": "late"}
    assert of_rows(ROWS | said) == Asker("UA-1545", {"origin": "JFK", "tags": ["a"]}, "late")


def test_parameters_say_who_asks_and_whatever_else_they_say_is_the_context():
    found = of_tensors({"unit_id": "UA-1545", "experiment": "late", "origin": "JFK", "distance": 1089.5, "vip": True})
    assert found == Asker("UA-1545", {"origin": "JFK", "distance": 1089.5, "vip": True}, "late")
    assert of_tensors({"unit_id": "UA-1545"}).context is None


def test_headers_say_who_asks_for_any_body():
    headers = {b"x-unit-id": b"UA-1545", b"x-experiment-id": b"late", b"x-context": b'{"origin": "JFK"}'}
    expected = Asker("UA-1545", {"origin": "JFK"}, "late", "r-1")
    assert of_rows(ROWS, headers, request_id="r-1") == expected
    assert of_rows([[1.0, 2.0]], headers, request_id="r-1") == expected
    assert of_rows(b"\x93NUMPY", headers, b"application/x-npy", "r-1") == expected
    assert asker_of_parameters({}, headers, "r-1") == expected


def test_the_body_goes_before_headers():
    headers = {b"x-unit-id": b"h", b"x-experiment-id": b"h", b"x-context": b'{"from": "header"}'}
    body = {"unit_id": "b", "experiment": "b", "context": {"from": "body"}}
    assert of_rows(ROWS | body, headers) == Asker("b", {"from": "body"}, "b")
    assert of_tensors({"unit_id": "b", "experiment": "b", "from": "body"}, headers) == Asker("b", {"from": "body"}, "b")
    assert of_rows(ROWS | {"context": {}}, headers).context == {}  # it says that there is nothing to know


def test_who_says_nothing_is_nobody():
    assert of_rows(ROWS) == of_rows([[1.0, 2.0]]) == asker_of_parameters({}, {}) == Asker()


@pytest.mark.parametrize("number", [0, 7, -1, 2**70])
def test_whole_numbers_are_their_decimal_text(number):
    assert of_rows(json.dumps(ROWS)[:-1].encode() + b', "unit_id": %d}' % number).unit == str(number)
    assert asker_of_parameters({"unit_id": number}, {}).unit == str(number)


@pytest.mark.parametrize("unit", [True, 1.5, ["a"], {"a": 1}])
def test_other_units_are_refused(unit):
    with pytest.raises(MalformedRequestError, match="`unit_id` and `experiment` are texts"):
        asker_of_parameters({"unit_id": unit}, {})
    with pytest.raises(MalformedRequestError, match="unit_id"):
        decode_body(b"", json.dumps(ROWS | {"unit_id": unit}).encode(), SIGNATURE, 10, probabilities=False)


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (b"[1]", "no JSON object"),
        (b"{", "no JSON object"),
        (b'{"a": "\xff"}', "no JSON object"),
        (b'{"a": ' + b"[" * 16_000, "no JSON object"),
        (b'{"a": "' + b"b" * 2**14 + b'"}', "larger than 16384 bytes"),
    ],
)
def test_contexts_that_cannot_be_read_are_refused(header, problem):
    for ask in (lambda headers: of_rows(ROWS, headers), lambda headers: of_tensors({"unit_id": "u"}, headers)):
        with pytest.raises(MalformedRequestError, match=problem):
            ask({b"x-context": header})


def test_only_headers_about_askers_count():
    assert not names_asker({})
    assert not names_asker({b"x-request-id": b"1", b"host": b"here"})
    for name in (b"x-unit-id", b"x-experiment-id", b"x-context"):
        assert names_asker({b"host": b"here", name: b""})


@given(st.binary() | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_looking_at_a_body_never_fails_and_the_decoder_says_what_is_wrong(body):
    body = body if isinstance(body, bytes) else body.encode()
    for peek, decode in (
        (
            lambda: peek_body(b"", body),
            lambda seen: decode_body(b"", body, SIGNATURE, 10, probabilities=False, document=seen),
        ),
        (lambda: peek_document(body, None), lambda seen: decode_request(body, None, SIGNATURE, 10, seen)),
    ):
        assert told(lambda decode=decode: decode(None)) == told(lambda decode=decode, peek=peek: decode(peek()))


def told(decode):
    """What comes out, as text: arrays do not compare as a whole."""
    try:
        return repr(decode())
    except CrossfadeError as error:
        return type(error), str(error)


@pytest.mark.parametrize("length", [b"0", b"-1", b"9999", b"x"])
def test_a_body_without_json_says_nothing(length):
    assert peek_document(json.dumps(TENSORS).encode(), length) is None


def test_binary_tensors_may_follow_what_is_said():
    head = json.dumps({"inputs": [{**TENSORS["inputs"][0], "parameters": {"binary_data_size": 16}}]}).encode()
    head = head.replace(b', "data": [1.0, 2.0]', b"").replace(
        b'{"inputs"', b'{"parameters": {"unit_id": "u"}, "inputs"'
    )
    body, length = head + bytes(16), b"%d" % len(head)
    document = peek_document(body, length)
    assert asker_of_parameters(document.parameters, {}).unit == "u"
    assert decode_request(body, length, SIGNATURE, 10, document).tensors["x"].tolist() == [[0.0, 0.0]]


def test_a_body_that_has_been_read_is_not_read_again(monkeypatch):
    rows, tensors = json.dumps(ROWS | {"unit_id": "u"}).encode(), json.dumps(TENSORS).encode()
    seen_rows, seen_tensors = peek_body(b"", rows), peek_document(tensors, None)
    for name in ("rows._decode_document", "oip._decode_document"):
        monkeypatch.setattr(f"crossfade.serving.protocol.{name}", lambda _: pytest.fail("it is read again"))
    assert decode_body(b"", rows, SIGNATURE, 10, probabilities=False, document=seen_rows).tensors["x"].shape == (1, 2)
    assert decode_request(tensors, None, SIGNATURE, 10, seen_tensors).tensors["x"].shape == (1, 2)


def test_what_was_read_keeps_the_rows_as_they_came():
    assert msgspec.json.decode(peek_body(b"", json.dumps(ROWS).encode()).rows) == ROWS["rows"]

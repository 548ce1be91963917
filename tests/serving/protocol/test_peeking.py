"""Looking at a body before it is known which version answers: nothing is read twice, nothing fails there."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.tensors import Signature, TensorSpec
from crossfade.errors import CrossfadeError
from crossfade.serving.protocol.askers import asker_of_parameters
from crossfade.serving.protocol.formats import decode_body, peek_body
from crossfade.serving.protocol.oip import decode_request, peek_document

SIGNATURE = Signature((TensorSpec("x", "FP64", (-1, 2)),), (TensorSpec("predict", "FP64", (-1,)),))
ROWS = {"rows": [[1.0, 2.0]]}
TENSORS = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1.0, 2.0]}]}


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

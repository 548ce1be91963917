"""Messages to tensors and back, without a server."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.core.tensors import DTYPES, Signature, TensorSpec
from crossfade.errors import InvalidInputError, MalformedRequestError, SignatureMismatchError
from crossfade.serving.protocol.binary import pack_tensor
from crossfade.serving.protocol.messages import message_class
from crossfade.serving.protocol.oip import MAX_TENSORS
from crossfade.serving.protocol.remote import _CONTENTS, decode_message, encode_message, parse_message

pytest.importorskip("google.protobuf")


def signature(datatype, *, text=True):
    x = TensorSpec("x", datatype, (-1, -1), missing=True, text=text)
    return Signature((x,), (TensorSpec("y", datatype, (-1, -1), text=text), TensorSpec("z", "FP64", (-1,))))


def request(datatype="FP64", shape=(1, 2), raw=None, contents=None, **fields):
    message = message_class("ModelInferRequest")(model_name="m", **fields)
    item = message.inputs.add(name="x", datatype=datatype, shape=shape)
    if raw is not None:
        message.raw_input_contents.append(raw)
    for name, values in (contents or {}).items():
        getattr(item.contents, name).extend(values)
    return message


def decode(message, datatype="FP64", **options):
    return decode_message(message, signature(datatype, **options), 10)


def refusal(message, datatype="FP64", kind=MalformedRequestError):
    with pytest.raises(kind) as caught:
        decode(message, datatype)
    return str(caught.value)


def values_of(datatype):
    if datatype == "BYTES":
        return np.array([["a", "é"], ["", "z"]], dtype=object)
    if datatype == "BOOL":
        return np.array([[True, False], [False, True]])
    dtype = DTYPES[datatype]
    if dtype.kind == "f":
        return np.array([[1.5, -2.0], [np.nan, 0.0]], dtype)
    return np.array([[np.iinfo(dtype).min, np.iinfo(dtype).max], [0, 1]], dtype)


def elements_of(array):
    return [item.encode() if isinstance(item, str) else item for item in array.ravel().tolist()]


@pytest.mark.parametrize("datatype", DTYPES)
def test_raw_tensors_arrive_bit_by_bit(datatype):
    array = values_of(datatype)
    decoded, raw = decode(request(datatype, array.shape, raw=pack_tensor(array)), datatype)
    assert raw
    np.testing.assert_array_equal(decoded.tensors["x"], array)
    assert decoded.tensors["x"].dtype == array.dtype


@pytest.mark.parametrize("datatype", _CONTENTS)
def test_typed_tensors_arrive_bit_by_bit(datatype):
    array = values_of(datatype)
    decoded, raw = decode(request(datatype, array.shape, contents={_CONTENTS[datatype]: elements_of(array)}), datatype)
    assert not raw
    np.testing.assert_array_equal(decoded.tensors["x"], array)
    assert decoded.tensors["x"].dtype == array.dtype


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("datatype", DTYPES)
def test_answers_hold_what_was_predicted(datatype, raw):
    array = values_of(datatype)
    answer = encode_message("m", "1.0.0", {"y": array}, request_id="7", raw=raw)
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "1.0.0", "7")
    assert (answer.outputs[0].datatype, list(answer.outputs[0].shape)) == (datatype, [2, 2])
    if raw or datatype == "FP16":
        assert list(answer.raw_output_contents) == [pack_tensor(array)]
        assert not answer.outputs[0].contents.ListFields()
    else:
        assert not answer.raw_output_contents
        given = list(getattr(answer.outputs[0].contents, _CONTENTS[datatype]))
        np.testing.assert_array_equal(np.array(given), np.array(elements_of(array)))


def test_one_fp16_makes_every_output_raw():
    outputs = {"a": np.ones(1, np.float16), "b": np.ones(1)}
    answer = encode_message("m", "1.0.0", outputs, request_id="", raw=False)
    assert [len(raw) for raw in answer.raw_output_contents] == [2, 8]


def test_bytes_that_are_no_text_pass_where_the_signature_takes_bytes():
    message = request("BYTES", (1, 1), contents={"bytes_contents": [b"\xff\0"]})
    assert decode(message, "BYTES", text=False)[0].tensors["x"].item() == b"\xff\0"
    assert "UTF-8" in refusal(message, "BYTES", SignatureMismatchError)


def test_wanted_outputs():
    message = request(raw=b"\0" * 16)
    assert decode(message)[0].wanted == ()
    message.outputs.add(name="z")
    message.outputs.add(name="y")
    assert decode(message)[0].wanted == ("z", "y")
    message.outputs.add(name="z")
    assert "twice" in refusal(message)
    message.outputs.add(name="nope")
    assert "nope" in refusal(message, kind=SignatureMismatchError)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (request(raw=b"\0" * 15), "takes 16 bytes, got 15"),
        (request(raw=b""), "takes 16 bytes, got 0"),
        (request(shape=(-1, 2), raw=b""), "negative"),
        (request(shape=(2**40, 2**40), raw=b""), "too many elements"),
        (request(shape=(2**62, 4), contents={"fp64_contents": [1.0]}), "too many elements"),
        (request(shape=(11, 1), raw=b"\0" * 88), "11 rows, at most 10"),
        (request(shape=(1,) * 17, raw=b"\0" * 8), "at most 16"),
        (request("FP8", raw=b"\0"), "`FP8` is not one of"),
        (request("BYTES", (1, 1), raw=b"\xff\xff\xff\xffab"), "longer than the data"),
        (request("BYTES", (1, 1), raw=b"\1\0\0\0ab"), "1 bytes follow"),
        (request("BYTES", (5, 99), raw=b"\0" * 4), "at least 4 bytes each"),
        (request("BOOL", (1, 1), raw=b"\2"), "0 or 1"),
        (request(contents={"fp64_contents": [1.0]}), "fp64_contents has 1"),
        (request(), "fp64_contents has 0"),
        (request(contents={"fp32_contents": [1.0, 2.0]}), "not in fp32_contents"),
        (request(contents={"fp64_contents": [1.0, 2.0], "bool_contents": [True]}), "not in bool_contents"),
        (request(raw=b"\0" * 16, contents={"fp64_contents": [1.0, 2.0]}), "both raw and typed"),
        (request("FP16", contents={"fp32_contents": [1.0, 2.0]}), "raw_input_contents only"),
        (request("INT8", contents={"int_contents": [1, 128]}), "does not fit INT8"),
        (request("UINT16", contents={"uint_contents": [1, 65_536]}), "does not fit UINT16"),
        (request(raw=b"\0" * 16, raw_input_contents=[b""]), "2 raw_input_contents for 1 inputs"),
        (message_class("ModelInferRequest")(model_name="m"), "`inputs` is empty"),
    ],
)
def test_what_does_not_fit_is_refused(message, words):
    datatype = message.inputs[0].datatype if message.inputs and message.inputs[0].datatype in DTYPES else "FP64"
    assert words in refusal(message, datatype)


def test_an_input_that_is_given_twice():
    message = request(raw=b"\0" * 16)
    message.inputs.add(name="x", datatype="FP64", shape=[1, 2])
    message.raw_input_contents.append(b"\0" * 16)
    assert "twice" in refusal(message)


def test_too_many_tensors():
    message = request(raw=b"\0" * 16)
    for _ in range(MAX_TENSORS):
        message.outputs.add(name="y")
    assert f"more than {MAX_TENSORS} tensors" in refusal(message)


# --- bytes ---


def test_two_bytes_a_tensor_are_refused_before_they_are_parsed(monkeypatch):
    body = b"*\0" * 1_000_000  # a million empty inputs, which take a hundred megabytes when parsed
    monkeypatch.setattr("crossfade.serving.protocol.remote.message_class", None)  # parsing would fail
    with pytest.raises(MalformedRequestError, match="more than 16384 fields"):
        parse_message("ModelInferRequest", body)


def test_a_large_message_of_few_fields_is_parsed():
    body = request(raw=b"\0" * 200_000, id="7").SerializeToString()
    assert parse_message("ModelInferRequest", body).id == "7"
    fixed = b"\x61" + b"\0" * 8 + b"\x65" + b"\0" * 4 + b"\x60\x01"  # an unknown double, float and integer
    assert parse_message("ModelInferRequest", fixed + body).id == "7"


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b"*\x05",
        b"\x0a\x02\xff\xfe",  # a name that is not UTF-8
        b"\x0b" * 70_000,  # groups without end
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + b"a" * 70_000,  # longer than any body
        b"\xff" * 70_000,
    ],
)
def test_what_is_no_message_is_refused(body):
    with pytest.raises(MalformedRequestError, match="no ModelInferRequest"):
        parse_message("ModelInferRequest", body)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 400), st.sampled_from(["FP64", "BYTES", "INT8"]))
def test_damaged_messages_are_refused_or_read(noise, position, datatype):
    array = values_of(datatype)
    whole = request(datatype, array.shape, raw=pack_tensor(array), id="abc").SerializeToString()
    damaged = whole[:position] + noise + whole[position + len(noise) :]
    with contextlib.suppress(InvalidInputError):  # and nothing else
        decode(parse_message("ModelInferRequest", damaged), datatype)

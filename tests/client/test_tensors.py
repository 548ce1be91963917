"""Tensors on the wire: what the client encodes, the server's protocol decodes, and back."""

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from crossfade.client.tensors import HEADER_LENGTH, decode_answer, encode_request, infer
from crossfade.core.tensors import DTYPES, Signature, TensorSpec
from crossfade.serving.protocol.answers import encode_answer
from crossfade.serving.protocol.oip import decode_request

NUMERIC = sorted(name for name in DTYPES if name != "BYTES")


def over_the_wire(tensors, signature):
    body, headers = encode_request(tensors, ["predict"])
    request = decode_request(body, headers[HEADER_LENGTH].encode(), signature, 10_000)
    assert request.wanted == ("predict",)
    assert request.binary == {"predict"}
    return request.tensors


def signature_of(**inputs):
    specs = tuple(TensorSpec(name, datatype, shape, missing=True) for name, (datatype, shape) in inputs.items())
    return Signature(specs, (TensorSpec("predict", "FP64", (-1,)),))


@pytest.mark.parametrize("datatype", NUMERIC)
@given(data=st.data())
def test_numbers_arrive_bit_by_bit(datatype, data):
    array = data.draw(arrays.arrays(DTYPES[datatype], st.tuples(st.integers(1, 5), st.integers(1, 3))))
    arrived = over_the_wire({"x": array}, signature_of(x=(datatype, (-1, array.shape[1]))))["x"]
    assert arrived.dtype == array.dtype
    assert arrived.tobytes() == array.tobytes()


@given(st.lists(st.one_of(st.text(), st.none()), min_size=1, max_size=5))
def test_text_arrives_with_nulls(texts):
    column = np.empty(len(texts), dtype=object)
    column[:] = texts
    arrived = over_the_wire({"x": column}, signature_of(x=("BYTES", (-1,))))["x"]
    assert list(arrived) == texts


def test_raw_bytes_arrive():
    signature = Signature((TensorSpec("x", "BYTES", (-1,), text=False),), (TensorSpec("predict", "FP64", (-1,)),))
    column = np.array([b"\x00\xff", b"abc"], dtype=object)
    assert list(over_the_wire({"x": column}, signature)["x"]) == [b"\x00\xff", b"abc"]


def answer(outputs, binary):
    content, length = encode_answer("m", "1.0.0", outputs, binary=frozenset(binary))
    headers = {} if length is None else {HEADER_LENGTH: str(length)}
    return httpx.Response(200, content=content, headers=headers)


def test_binary_and_json_outputs_are_decoded():
    outputs = {
        "predict": np.array(["yes", "no"], dtype=object),
        "predict_proba": np.array([[0.25, 0.75], [1.0, 0.0]]),
        "count": np.array([1, 2], dtype=np.int32),
    }
    signature = Signature(
        (TensorSpec("x", "FP64", (-1,)),),
        (
            TensorSpec("predict", "BYTES", (-1,)),
            TensorSpec("predict_proba", "FP64", (-1, 2)),
            TensorSpec("count", "INT32", (-1,)),
        ),
    )
    for binary in (set(outputs), {"predict_proba"}, set()):
        decoded = decode_answer(answer(outputs, binary), signature).outputs
        assert list(decoded) == list(outputs)
        for name, array in outputs.items():
            assert decoded[name].dtype == array.dtype
            np.testing.assert_array_equal(decoded[name], array)


def test_a_nan_survives_as_a_binary_tensor():
    signature = Signature((TensorSpec("x", "FP64", (-1,)),), (TensorSpec("predict", "FP64", (-1,)),))
    decoded = decode_answer(answer({"predict": np.array([np.nan, 1.0])}, {"predict"}), signature)
    assert decoded.ref == "m:1.0.0"
    assert np.isnan(decoded.outputs["predict"][0])


def test_raw_bytes_stay_bytes():
    signature = Signature((), (TensorSpec("predict", "BYTES", (-1,)),))
    raw = np.array([b"\xff\xd8", b"abc"], dtype=object)
    assert list(decode_answer(answer({"predict": raw}, {"predict"}), signature).outputs["predict"]) == list(raw)


def test_a_call_asks_the_version_it_names():
    call = infer("m:1.2.0", signature_of(x=("FP64", (-1,))), {"x": np.zeros(2)}, ["predict"])
    assert (call.method, call.path, call.repeatable) == ("POST", "/v2/models/m:1.2.0/infer", True)
    assert call.options()["headers"]["content-type"] == "application/octet-stream"

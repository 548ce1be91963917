from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.core.tensors import Signature, TensorSpec
from crossfade.errors import MalformedRequestError, SignatureMismatchError
from crossfade.serving.protocol.oip import MAX_TENSORS, InferRequest, decode_request

SIGNATURE = Signature(
    (
        TensorSpec("x", "FP64", (-1, 2)),
        TensorSpec("city", "BYTES", (-1,)),
        TensorSpec("raw", "BYTES", (-1,), text=False),
    ),
    (TensorSpec("predict", "INT64", (-1,)), TensorSpec("predict_proba", "FP64", (-1, 2))),
)
X = {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2.5]}


def decode(document: Any, tail: bytes = b"", signature: Signature = SIGNATURE, max_rows: int = 1000) -> InferRequest:
    head = document if isinstance(document, bytes) else json.dumps(document).encode()
    return decode_request(head + tail, str(len(head)).encode() if tail else None, signature, max_rows)


def refused(document: Any, words: str, tail: bytes = b"", kind: type[Exception] = MalformedRequestError) -> None:
    with pytest.raises(kind, match=words):
        decode(document, tail)


def test_a_small_request():
    request = decode({"id": "42", "parameters": {"k": 3, "user": "u", "on": True, "rate": 0.5}, "inputs": [X]})
    assert request.id == "42"
    assert request.parameters == {"k": 3, "user": "u", "on": True, "rate": 0.5}
    assert request.tensors["x"].tolist() == [[1.0, 2.5]]
    assert request.wanted == ()
    assert request.binary == frozenset()


def test_nulls_mean_absent_and_unknown_fields_are_accepted():
    document = {"id": None, "parameters": None, "outputs": None, "model_name": "lr", "later": {"deep": [1]}}
    request = decode(document | {"inputs": [X | {"parameters": None, "later": 1}]})
    assert request.id is None
    assert request.parameters == {}


def test_outputs_are_selected_in_the_order_asked_for():
    request = decode({"inputs": [X], "outputs": [{"name": "predict_proba"}, {"name": "predict"}]})
    assert request.wanted == ("predict_proba", "predict")


def test_an_unknown_output_is_refused_with_the_known_ones():
    refused(
        {"inputs": [X], "outputs": [{"name": "nope"}]},
        "output `nope`: expected one of the outputs predict, predict_proba, got an unknown output",
        kind=SignatureMismatchError,
    )


def test_an_output_asked_for_twice_is_refused():
    refused({"inputs": [X], "outputs": [{"name": "predict"}, {"name": "predict"}]}, "asked for twice")


@pytest.mark.parametrize(
    ("everything", "single", "expected"),
    [
        (None, None, set()),
        (True, None, {"predict", "predict_proba"}),
        (True, False, {"predict_proba"}),
        (False, True, {"predict"}),
        (None, True, {"predict"}),
    ],
)
def test_binary_outputs_by_request_and_by_output(everything, single, expected):
    document: dict[str, Any] = {"inputs": [X]}
    if everything is not None:
        document["parameters"] = {"binary_data_output": everything}
    first: dict[str, Any] = {"name": "predict"}
    if single is not None:
        first["parameters"] = {"binary_data": single}
        document["outputs"] = [first, {"name": "predict_proba"}]
    assert decode(document).binary == expected


@pytest.mark.parametrize("place", ["request", "output"])
def test_binary_flags_are_booleans(place):
    if place == "request":
        refused({"inputs": [X], "parameters": {"binary_data_output": 1}}, "`binary_data_output` must be true or false")
    else:
        output = {"name": "predict", "parameters": {"binary_data": "yes"}}
        refused({"inputs": [X], "outputs": [output]}, "`binary_data` must be true or false")


def test_binary_tensors_follow_the_json_in_order():
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    city = b"\x02\x00\x00\x00\xc3\xa9\x00\x00\x00\x00"
    head = {
        "inputs": [
            {"name": "city", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(city)}},
            {"name": "raw", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]},
            {"name": "x", "shape": [2, 2], "datatype": "FP64", "parameters": {"binary_data_size": x.nbytes}},
        ]
    }
    tensors = decode(head, city + x.tobytes()).tensors
    assert tensors["city"].tolist() == ["é", ""]
    assert tensors["raw"].tolist() == [b"a", b"b"]
    assert tensors["x"].tolist() == x.tolist()


@given(
    arrays=st.lists(st.lists(st.floats(allow_nan=True), max_size=5), min_size=1, max_size=5),
    binary=st.lists(st.booleans(), min_size=5, max_size=5),
)
@settings(max_examples=60, deadline=None)
def test_any_mix_of_json_and_binary_inputs(arrays, binary):
    inputs, tail = [], b""
    for number, (values, as_binary) in enumerate(zip(arrays, binary, strict=False)):
        array = np.array(values, dtype=np.float64)
        item: dict[str, Any] = {"name": f"i{number}", "shape": [len(values)], "datatype": "FP64"}
        if as_binary:
            item["parameters"] = {"binary_data_size": array.nbytes}
            tail += array.tobytes()
        else:
            array = np.nan_to_num(array)
            item["data"] = array.tolist()
        arrays[number] = array
        inputs.append(item)
    head = json.dumps({"inputs": inputs}).encode()
    tensors = decode_request(head + tail, str(len(head)).encode(), SIGNATURE, 1000).tensors
    for number, array in enumerate(arrays):
        assert np.array_equal(tensors[f"i{number}"], array, equal_nan=True)


def test_text_that_is_not_utf8_is_refused():
    item = {"name": "city", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 5}}
    refused({"inputs": [item]}, "expected UTF-8 text", b"\x01\x00\x00\x00\xff", SignatureMismatchError)


def test_a_lone_surrogate_is_no_text_and_no_bytes():
    item = {"name": "raw", "shape": [1], "datatype": "BYTES"}
    with pytest.raises(MalformedRequestError):
        decode(json.dumps({"inputs": [item | {"data": ["\ud800"]}]}).encode())


@pytest.mark.parametrize("header", [b"-1", b"abc", b"", b"1.5", b" 5", b"0x10", b"99999", b"9" * 40, b"+5", b"1_0"])
def test_a_header_length_that_lies_is_refused(header):
    body = json.dumps({"inputs": [X]}).encode()
    with pytest.raises(MalformedRequestError, match="Inference-Header-Content-Length"):
        decode_request(body, header, SIGNATURE, 1000)


def test_a_header_length_that_cuts_the_json_is_refused():
    body = json.dumps({"inputs": [X]}).encode()
    with pytest.raises(MalformedRequestError):
        decode_request(body, b"10", SIGNATURE, 1000)


@pytest.mark.parametrize("size", [-1, 15, 17, 10**20, "16", True, 16.0])
def test_binary_sizes_that_lie_are_refused(size):
    item = {"name": "x", "shape": [1, 2], "datatype": "FP64", "parameters": {"binary_data_size": size}}
    refused({"inputs": [item]}, "`x`", bytes(16))


def test_bytes_that_belong_to_no_tensor_are_refused():
    item = {"name": "x", "shape": [1, 2], "datatype": "FP64", "parameters": {"binary_data_size": 16}}
    refused({"inputs": [item]}, "3 bytes follow the last binary tensor", bytes(19))
    refused({"inputs": [X]}, "1 bytes follow", b"\x00")


def test_data_comes_from_one_place():
    refused({"inputs": [X | {"parameters": {"binary_data_size": 16}}]}, "both `data` and", bytes(16))
    refused({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64"}]}, "neither `data` nor")


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"", "malformed|truncated"),
        (b"{", "truncated|malformed"),
        (b"[]", "Expected `object`"),
        (b"null", "Expected `object`"),
        (b"\xff\xfe", "malformed|UTF-8"),
        ({}, "inputs"),
        ({"inputs": []}, "`inputs` is empty"),
        ({"inputs": {}}, "Expected `array`"),
        ({"inputs": [1]}, "Expected `object`"),
        ({"inputs": [X | {"name": 1}]}, "name"),
        ({"inputs": [X | {"shape": "1,2"}]}, "shape"),
        ({"inputs": [X | {"shape": [1.5, 2]}]}, "shape"),
        ({"inputs": [X | {"shape": [True, 2]}]}, "shape"),
        ({"inputs": [X | {"shape": [-1, 2]}]}, "negative"),
        ({"inputs": [X | {"shape": [2**62, 2**62]}]}, "too many elements"),
        ({"inputs": [X | {"shape": [0, 2**40, 2**40], "data": []}]}, "too many elements"),
        ({"inputs": [X | {"shape": [10**30]}]}, "shape|too many"),
        ({"inputs": [X | {"shape": [7, 7]}]}, "49 elements"),
        ({"inputs": [X | {"datatype": "FP128"}]}, "is not one of"),
        ({"inputs": [X | {"datatype": 64}]}, "datatype"),
        ({"inputs": [X | {"parameters": {"a": [1]}}]}, "parameters"),
        ({"inputs": [X | {"parameters": {"a": None}}]}, "parameters"),
        ({"inputs": [X | {"parameters": []}]}, "parameters"),
        ({"inputs": [X], "parameters": {"a": {}}}, "parameters"),
        ({"inputs": [X], "id": 7}, "id"),
        ({"inputs": [X], "outputs": [{}]}, "name"),
        ({"inputs": [X, X]}, "`x` is given twice"),
        ({"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [float("nan")]}]}, "malformed"),
        ({"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [float("inf")]}]}, "malformed"),
        ({"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [-float("inf")]}]}, "malformed"),
        (b'{"inputs": [{"name": "\xff"}]}', "UTF-8|malformed"),
    ],
)
def test_malformed_requests_are_refused_with_a_reason(document, words):
    refused(document, words)


@pytest.mark.parametrize(
    "text",
    [
        b'{"inputs":' + b"[" * 100_000,
        b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP64","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
        b'{"later":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b',"inputs":[]}',
        b"[" * 100_000,
    ],
)
def test_deep_nesting_is_refused(text):
    with pytest.raises(MalformedRequestError):
        decode(text)


def test_too_many_rows_are_refused():
    x = {"name": "x", "shape": [3, 2], "datatype": "FP64", "data": [0] * 6}
    with pytest.raises(MalformedRequestError, match="3 rows, at most 2"):
        decode({"inputs": [x]}, max_rows=2)


def test_too_many_tensors_are_refused_without_parsing_them():
    inputs = [{"name": f"i{n}", "shape": [1], "datatype": "FP64", "data": [1]} for n in range(MAX_TENSORS + 1)]
    refused({"inputs": inputs}, f"more than {MAX_TENSORS}")


def test_a_raw_body_is_the_only_input():
    signature = Signature((TensorSpec("x", "FP32", (-1, 3)),), (TensorSpec("predict", "FP32", (-1,)),))
    body = np.arange(6, dtype="<f4")
    request = decode_request(body.tobytes(), b"0", signature, 10)
    assert request.tensors["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert request.binary == {"predict"}
    for wrong in (body.tobytes()[:-1], body.tobytes()[:-4]):
        with pytest.raises(MalformedRequestError, match="takes 12 bytes"):
            decode_request(wrong, b"0", signature, 10)
    with pytest.raises(MalformedRequestError, match="2 rows, at most 1"):
        decode_request(body.tobytes(), b"0", signature, 1)


@pytest.mark.parametrize(("text", "expected"), [(True, "é"), (False, b"\xc3\xa9")])
def test_a_raw_body_of_bytes_is_one_element(text, expected):
    signature = Signature((TensorSpec("x", "BYTES", (-1,), text=text),), ())
    assert decode_request("é".encode(), b"0", signature, 10).tensors["x"].tolist() == [expected]


@pytest.mark.parametrize(
    "inputs", [(TensorSpec("x", "FP32", (-1, -1)),), (TensorSpec("x", "FP32", (-1,)), TensorSpec("y", "FP32", (-1,)))]
)
def test_a_raw_body_needs_one_input_of_known_shape(inputs):
    with pytest.raises(SignatureMismatchError, match="a request with a JSON part"):
        decode_request(bytes(16), b"0", Signature(inputs, ()), 10)


def test_a_raw_body_for_an_input_without_elements():
    signature = Signature((TensorSpec("x", "FP32", (-1, 0)),), ())
    assert decode_request(b"", b"0", signature, 10).tensors["x"].shape == (0, 0)
    with pytest.raises(MalformedRequestError):
        decode_request(b"1234", b"0", signature, 10)

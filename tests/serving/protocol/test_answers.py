from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crossfade.core.tensors import DTYPES, Signature, TensorSpec
from crossfade.errors import SignatureMismatchError
from crossfade.serving.protocol.answers import describe_model, encode_answer, has_non_finite, json_values
from crossfade.serving.protocol.numbers import parse_data

SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)


def answered(array: np.ndarray, **options) -> dict:
    body, json_bytes = encode_answer("m", "1.0.0", {"y": array}, **options)
    assert json_bytes is None
    document = json.loads(body)
    assert document["model_name"] == "m"
    assert document["model_version"] == "1.0.0"
    return document["outputs"][0]


@pytest.mark.parametrize("datatype", [name for name in DTYPES if name != "BYTES"])
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_json_answers_carry_every_finite_number_exactly(datatype, data):
    dtype = DTYPES[datatype]
    elements = st.floats(allow_nan=False, allow_infinity=False, width=8 * dtype.itemsize) if dtype.kind == "f" else None
    array = data.draw(hnp.arrays(dtype, SHAPES, elements=elements))
    output = answered(array)
    assert output["datatype"] == datatype
    assert output["shape"] == list(array.shape)
    assert "parameters" not in output
    back = parse_data("y", datatype, array.shape, json.dumps(output["data"]).encode())
    assert np.array_equal(back, array)


@given(array=hnp.arrays(np.float64, SHAPES))
@settings(max_examples=60, deadline=None)
def test_what_is_not_finite_is_null_and_said_to_be(array):
    output = answered(array)
    flat = array.ravel().tolist()
    assert output["data"] == [value if np.isfinite(value) else None for value in flat]
    assert output.get("parameters", {}).get("non_finite", False) is not bool(np.isfinite(array).all())


def test_only_the_outputs_that_are_not_finite_are_marked():
    outputs = {"a": np.array([np.inf]), "b": np.array([1.0]), "c": np.array(["null"])}
    document = json.loads(encode_answer("m", "1.0.0", outputs)[0])
    assert ["parameters" in output for output in document["outputs"]] == [True, False, False]


def test_finite_numbers_whose_sum_overflows_are_finite():
    assert not has_non_finite(np.array([1e308, 1e308]))
    assert has_non_finite(np.array([1e308, np.nan]))
    assert not has_non_finite(np.array([1, 2]))


def test_binary_answers_follow_the_json_in_order_and_keep_nan():
    outputs = {"a": np.array([np.nan, 1.0]), "b": np.array([1, 2], np.int64), "c": np.array(["é"], dtype=object)}
    body, json_bytes = encode_answer("m", "1.0.0", outputs, request_id="7", binary=frozenset({"a", "c"}))
    document = json.loads(body[:json_bytes])
    assert document["id"] == "7"
    assert [output.get("parameters") for output in document["outputs"]] == [
        {"binary_data_size": 16},
        None,
        {"binary_data_size": 6},
    ]
    assert "data" not in document["outputs"][0]
    assert document["outputs"][1]["data"] == [1, 2]
    tail = body[json_bytes:]
    assert np.isnan(struct.unpack("<d", tail[:8])[0])
    assert tail[16:] == b"\x02\x00\x00\x00\xc3\xa9"


def test_text_answers():
    assert answered(np.array([["a", None], [b"b", "c"]], dtype=object))["data"] == ["a", None, "b", "c"]
    assert answered(np.array(["a", "bc"]))["datatype"] == "BYTES"


def test_bytes_that_are_no_text_are_only_answered_as_binary():
    with pytest.raises(SignatureMismatchError, match="asked for with `binary_data`"):
        encode_answer("m", "1.0.0", {"y": np.array([b"\xff"], dtype=object)})


def test_text_answers_in_rows_stay_nested():
    assert json_values("y", np.array([["a"], ["b"]], dtype=object)) == [["a"], ["b"]]
    assert json_values("y", np.array("a", dtype=object)) == "a"


@pytest.mark.parametrize("array", [np.arange(6.0).reshape(2, 3).T, np.arange(4, dtype=">f8"), np.arange(8)[::2]])
def test_any_memory_layout_is_answered_row_by_row(array):
    assert answered(array)["data"] == array.ravel().tolist()


def test_single_precision_numbers_stay_short():
    body, _ = encode_answer("m", "1.0.0", {"y": np.array([0.1], np.float32)})
    assert b"[0.1]" in body


def test_an_id_is_only_there_when_it_was_given():
    assert "id" not in json.loads(encode_answer("m", "1.0.0", {})[0])
    assert json.loads(encode_answer("m", "1.0.0", {}, request_id="")[0])["id"] == ""


def test_parameters_of_the_answer():
    assert json.loads(encode_answer("m", "1.0.0", {}, parameters={"fallback": True})[0])["parameters"] == {
        "fallback": True
    }


def test_metadata_of_a_model():
    signature = Signature((TensorSpec("x", "FP64", (-1, 30)),), (TensorSpec("predict", "INT64", (-1,)),))
    assert describe_model("lr", ["1.0.0", "1.1.0"], "sklearn", signature) == {
        "name": "lr",
        "versions": ["1.0.0", "1.1.0"],
        "platform": "sklearn",
        "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 30]}],
        "outputs": [{"name": "predict", "datatype": "INT64", "shape": [-1]}],
    }

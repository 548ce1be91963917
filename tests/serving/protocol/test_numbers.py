from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crossfade.core.tensors import DTYPES
from crossfade.errors import MalformedRequestError
from crossfade.serving.protocol.numbers import count_elements, parse_data, parse_rows

NUMERIC = [name for name, dtype in DTYPES.items() if dtype.kind != "O"]
SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)


def refused(datatype: str, shape: tuple[int, ...], text: str, *words: str) -> None:
    with pytest.raises(MalformedRequestError) as caught:
        parse_data("x", datatype, shape, text.encode())
    for word in ("`x`", *words):
        assert word in caught.value.message


def tensors(datatype: str):
    dtype = DTYPES[datatype]
    elements = st.floats(allow_nan=False, allow_infinity=False, width=8 * dtype.itemsize) if dtype.kind == "f" else None
    return hnp.arrays(dtype, SHAPES, elements=elements)


@pytest.mark.parametrize("datatype", NUMERIC)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_nested_and_flat_json_give_the_same_tensor(datatype, data):
    array = data.draw(tensors(datatype))
    indent = data.draw(st.sampled_from([None, 1]))
    for values in (array.tolist(), array.ravel().tolist()):
        parsed = parse_data("x", datatype, array.shape, json.dumps(values, indent=indent).encode())
        assert parsed.dtype == array.dtype
        assert parsed.shape == array.shape
        assert np.array_equal(parsed, array)


@given(
    array=hnp.arrays(object, SHAPES, elements=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5))
)
@settings(max_examples=60, deadline=None)
def test_strings_nested_and_flat(array):
    for values in (array.tolist(), array.ravel().tolist()):
        parsed = parse_data("x", "BYTES", array.shape, json.dumps(values).encode())
        assert parsed.dtype == object
        assert parsed.shape == array.shape
        assert parsed.tolist() == array.tolist()


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("datatype", ["FP64", "FP32", "INT16", "BOOL"])
def test_large_arrays_are_parsed_piece_by_piece(datatype, nested):
    generator = np.random.default_rng(1)
    array = (generator.normal(size=(400, 50)) * 100).astype(DTYPES[datatype])
    text = json.dumps(array.tolist() if nested else array.ravel().tolist())
    assert len(text) > 64 * 1024
    assert np.array_equal(parse_data("x", datatype, (400, 50), text.encode()), array)


def test_large_arrays_are_as_strict_as_small_ones():
    good = [1.5] * 20_000
    for bad in (True, "1", {}, [1.0]):
        with pytest.raises(MalformedRequestError):
            parse_data("x", "FP64", (20_001,), json.dumps([*good, bad]).encode())
    with pytest.raises(MalformedRequestError, match="does not fit UINT8"):
        parse_data("x", "UINT8", (20_001,), json.dumps([1] * 20_000 + [300]).encode())
    with pytest.raises(MalformedRequestError, match="does not fit FP16"):
        parse_data("x", "FP16", (20_001,), json.dumps([*good, 1e6]).encode())


def test_null_is_a_missing_float():
    parsed = parse_data("x", "FP32", (2, 2), b"[[1, null], [null, 2]]")
    assert np.array_equal(parsed, np.array([[1, np.nan], [np.nan, 2]], np.float32), equal_nan=True)
    refused("INT32", (1,), "[null]", "whole numbers")
    refused("BOOL", (1,), "[null]", "true or false")


def test_whole_numbers_are_accepted_as_floats_and_never_the_other_way():
    assert parse_data("x", "FP64", (2,), b"[1, 2]").tolist() == [1.0, 2.0]
    refused("INT64", (1,), "[1.0]", "INT64 data must be whole numbers")
    refused("INT64", (1,), "[1.5]", "whole numbers")


@pytest.mark.parametrize(
    ("datatype", "text"),
    [
        ("FP64", "[true]"),
        ("INT32", "[false]"),
        ("BOOL", "[1]"),
        ("BOOL", "[0]"),
        ("FP64", '["1.0"]'),
        ("INT8", '["1"]'),
        ("BYTES", "[1]"),
        ("BYTES", "[true]"),
        ("BYTES", '[["a"]]x'),
        ("FP64", "[{}]"),
        ("FP64", "{}"),
        ("FP64", "1.0"),
        ("FP64", '"1"'),
        ("FP64", "null"),
        ("FP64", "[1e999]"),
        ("FP64", "[NaN]"),
        ("FP64", "[Infinity]"),
        ("FP64", "[-Infinity]"),
    ],
)
def test_wrong_types_are_refused(datatype, text):
    refused(datatype, (1,), text)


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("UINT8", 300),
        ("UINT8", -1),
        ("INT8", 128),
        ("INT16", 40_000),
        ("UINT16", 70_000),
        ("INT32", 2**31),
        ("UINT32", 2**32),
        ("INT64", 2**63),
        ("UINT64", 2**64),
        ("UINT64", -1),
        ("INT64", 10**40),
        ("FP16", 1e5),
        ("FP32", 1e39),
    ],
)
def test_numbers_that_do_not_fit_are_refused(datatype, value):
    refused(datatype, (2,), json.dumps([0, value]), f"does not fit {datatype}")


@pytest.mark.parametrize("datatype", [name for name in NUMERIC if DTYPES[name].kind in "iu"])
def test_the_ends_of_every_range_fit(datatype):
    limits = np.iinfo(DTYPES[datatype])
    assert parse_data("x", datatype, (2,), json.dumps([limits.min, limits.max]).encode()).tolist() == [
        limits.min,
        limits.max,
    ]


@pytest.mark.parametrize(
    ("shape", "text", "words"),
    [
        ((3,), "[1, 2]", ("means 3 elements", "data has 2")),
        ((1,), "[]", ("means 1 elements",)),
        ((0,), "[1]", ("means 0 elements", "data has 1")),
        ((2, 2), "[1, 2, 3]", ("means 4 elements",)),
        ((2, 2), "[[1, 2, 3], [4]]", ("nested otherwise",)),
        ((2, 2), "[[1, 2], [3], [4]]", ("means 4 elements", "nested otherwise")),
        ((4,), "[[1, 2], [3, 4]]", ("nested otherwise",)),
        ((4,), "[[1, 2, 3, 4]]", ("nested otherwise",)),
        ((2, 2), "[[[1, 2], [3, 4]]]", ("nested otherwise",)),
        ((2, 2), "[1, 2, [3, 4]]", ("nested otherwise",)),
        ((2, 1, 2), "[[1, 2], [3, 4]]", ("nested otherwise",)),
        ((2, 0), "[[], [], []]", ("nested otherwise",)),
        ((0,), "[[], []]", ("nested otherwise",)),
    ],
)
def test_data_that_does_not_match_its_shape_is_refused(shape, text, words):
    with pytest.raises(MalformedRequestError) as caught:
        parse_data("x", "FP64", shape, text.encode())
    assert any(word in caught.value.message for word in words)


@pytest.mark.parametrize("text", ['["a", "b"]', '[["a"], ["b", "c"]]', '[["a", "b"]]', '[["a"], "b"]', "[]"])
def test_strings_that_do_not_match_their_shape_are_refused(text):
    refused("BYTES", (2, 2), text)


def test_a_scalar_shape_holds_one_element():
    assert parse_data("x", "FP64", (), b"[7]").shape == ()
    refused("FP64", (), "[7, 8]", "means 1 elements")


def test_a_mismatch_is_found_before_anything_is_built():
    text = b"[" + b"1," * 2_000_000 + b"1]"
    with pytest.raises(MalformedRequestError, match="data has 2000001"):
        parse_data("x", "FP64", (7,), text)


@pytest.mark.parametrize("shape", [(-1,), (2, -3), (2**62, 2**62), (2**40, 2), (0, 2**62), (10**30,), (1,) * 17])
def test_impossible_shapes_are_refused(shape):
    with pytest.raises(MalformedRequestError, match="shape"):
        count_elements("x", "FP64", shape)


def test_a_zero_dimension_does_not_hide_an_overflow():
    assert count_elements("x", "FP64", (0, 2**40)) == 0
    assert np.empty((0, 2**40)).size == 0
    assert math.prod(()) == count_elements("x", "FP64", ())


@pytest.mark.parametrize("datatype", ["FP128", "fp64", "", "STRING", "BYTES "])
def test_unknown_datatypes_are_refused_by_name(datatype):
    with pytest.raises(MalformedRequestError, match="is not one of BOOL, INT8"):
        count_elements("x", datatype, (1,))


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_rows_find_their_own_shape(data):
    array = data.draw(
        hnp.arrays(
            np.float64,
            hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4),
            elements=st.floats(-1e6, 1e6),
        )
    )
    parsed = parse_rows("x", "FP64", array.ndim, json.dumps(array.tolist()).encode())
    assert np.array_equal(parsed, array)


@pytest.mark.parametrize("text", ["[[1, 2], [3]]", "[1, 2]", "[[[1]]]", '[["a"]]', "[[1], 2]", "{}"])
def test_rows_of_another_form_are_refused(text):
    with pytest.raises(MalformedRequestError):
        parse_rows("x", "FP64", 2, text.encode())


def test_rows_without_any_element():
    assert parse_rows("x", "FP64", 2, b"[[], []]").shape == (2, 0)
    assert parse_rows("x", "FP64", 3, b"[]").shape == (0, 0, 0)

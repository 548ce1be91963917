from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crossfade.core.tensors import DTYPES
from crossfade.errors import MalformedRequestError
from crossfade.serving.protocol.binary import pack_tensor, unpack_tensor

SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)
CODES = {
    "BOOL": "?",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}


def packed_by_hand(datatype: str, values: list[object]) -> bytes:
    """The extension's rules once more, element by element with the standard library."""
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(value)) + value for value in values)
    return b"".join(struct.pack(f"<{CODES[datatype]}", value) for value in values)


@pytest.mark.parametrize("datatype", list(CODES))
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_elements_travel_little_endian_and_unchanged(datatype, data):
    array = data.draw(hnp.arrays(DTYPES[datatype], SHAPES))
    by_hand = packed_by_hand(datatype, array.ravel().tolist())
    unpacked = unpack_tensor("x", datatype, array.shape, memoryview(by_hand))
    assert unpacked.dtype == array.dtype
    assert np.array_equal(unpacked, array, equal_nan=array.dtype.kind == "f")
    assert unpack_tensor("x", datatype, array.shape, memoryview(pack_tensor(array))).tobytes() == array.tobytes()


@given(values=st.lists(st.binary(max_size=6), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_bytes_have_a_length_before_each_element(values):
    array = np.array([*values, None], dtype=object)[:-1]
    by_hand = packed_by_hand("BYTES", values)
    assert pack_tensor(array) == by_hand
    assert unpack_tensor("x", "BYTES", (len(values),), memoryview(by_hand)).tolist() == values


def test_text_is_packed_as_utf8():
    assert pack_tensor(np.array(["é"])) == b"\x02\x00\x00\x00\xc3\xa9"
    assert pack_tensor(np.array([b"\xff"])) == b"\x01\x00\x00\x00\xff"


def test_numbers_are_packed_from_any_memory_order():
    array = np.arange(6, dtype=">i4").reshape(2, 3)
    assert pack_tensor(array.T) == struct.pack("<6i", 0, 3, 1, 4, 2, 5)


def test_unpacking_copies_nothing():
    body = bytearray(16)
    array = unpack_tensor("x", "FP64", (2,), memoryview(body))
    body[:8] = struct.pack("<d", 2.5)
    assert array.tolist() == [2.5, 0.0]


@pytest.mark.parametrize(("datatype", "size"), [("FP64", 15), ("FP64", 17), ("INT8", 3), ("BOOL", 1), ("FP16", 0)])
def test_a_size_that_does_not_fit_the_shape_is_refused(datatype, size):
    with pytest.raises(MalformedRequestError, match=rf"`x`: {datatype} \[2\] takes \d+ bytes, got {size}"):
        unpack_tensor("x", datatype, (2,), memoryview(bytes(size)))


def test_a_boolean_is_zero_or_one():
    with pytest.raises(MalformedRequestError, match="0 or 1"):
        unpack_tensor("x", "BOOL", (3,), memoryview(b"\x00\x01\x02"))
    assert unpack_tensor("x", "BOOL", (0,), memoryview(b"")).size == 0


@pytest.mark.parametrize(
    ("elements", "data", "words"),
    [
        (2, b"\x01\x00\x00\x00a", "at least 4 bytes each"),
        (1, b"\x05\x00\x00\x00abcd", "element 0 is longer"),
        (1, b"\xff\xff\xff\xffabcd", "element 0 is longer"),
        (2, b"\x03\x00\x00\x00abc\x01", "element 1 is longer"),
        (2, b"\x04\x00\x00\x00abcd", "element 1 is longer"),
        (1, b"\x01\x00\x00\x00abc", "2 bytes follow"),
        (0, b"a", "1 bytes follow"),
        (2**40, b"", "at least 4 bytes each"),
    ],
)
def test_lengths_that_lie_are_refused(elements, data, words):
    with pytest.raises(MalformedRequestError, match=words):
        unpack_tensor("x", "BYTES", (elements,), memoryview(data))

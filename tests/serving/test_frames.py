"""Frames give back exactly what was put in, and nothing but plain data comes out of foreign bytes."""

import contextlib
import pickle

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from crossfade.core.tensors import DTYPES
from crossfade.serving.frames import decode_frame, encode_frame

NUMBERS = [dtype for name, dtype in DTYPES.items() if name != "BYTES"]
SHAPES = npst.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)
TEXTS = st.one_of(st.none(), st.binary(max_size=8), st.text(st.characters(exclude_categories=["Cs"]), max_size=8))


def same(a, b):
    if a.dtype.kind == "O":
        return a.shape == b.shape and [(type(x), x) for x in a.flat] == [(type(x), x) for x in b.flat]
    return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


@given(
    st.dictionaries(st.text(max_size=5), st.sampled_from(NUMBERS).flatmap(lambda d: npst.arrays(d, SHAPES)), max_size=3)
)
def test_numbers_come_back_bit_for_bit(outputs):
    found = decode_frame(encode_frame(outputs))
    assert list(found) == list(outputs)
    assert all(same(found[name], outputs[name]) for name in outputs)


@given(npst.arrays(object, SHAPES, elements=TEXTS))
def test_text_and_bytes_come_back_as_what_they_were(array):
    assert same(decode_frame(encode_frame({"y": array}))["y"], array)


def test_other_byte_orders_and_layouts_come_back_as_ours():
    array = np.arange(6, dtype=">f8").reshape(2, 3).T
    found = decode_frame(encode_frame({"y": array}))["y"]
    assert found.dtype == np.dtype("<f8")
    assert found.tolist() == array.tolist()


def test_an_answer_holds_on_to_nothing_else():
    whole = np.zeros(1_000_000)
    found = decode_frame(encode_frame({"y": whole[:2]}))["y"]
    assert len(found.base if isinstance(found.base, bytes) else bytes(found)) <= 100
    assert not found.flags.writeable


@pytest.mark.parametrize("item", [1, 1.5, [1], {"a": 1}, object(), "\ud800"])
def test_what_is_neither_text_nor_bytes_has_no_frame(item):
    array = np.empty(1, dtype=object)
    array[0] = item
    assert encode_frame({"y": array}) is None


def frame(*outputs):
    return msgspec.msgpack.encode(list(outputs))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"not a frame",
        pickle.dumps({"y": 1}),
        frame(["y", "FP64", [1], b"1234567"]),
        frame(["y", "FP64", [2], b"12345678"]),
        frame(["y", "FP64", [-1, -1], b"12345678"]),
        frame(["y", "FP64", [2**62, 4], b""]),
        frame(["y", "FP65", [1], b"12345678"]),
        frame(["y", "FP64", [1], ["12345678"]]),
        frame(["y", "BYTES", [1], b"12345678"]),
        frame(["y", "BYTES", [2], ["a"]]),
        frame(["y", "BYTES", [1], [1]]),
        frame(["y", "BYTES", [1], [["a"]]]),
        frame(["y", "BYTES", [1], [msgspec.msgpack.Ext(1, b"x")]]),
        frame(["y", "FP64", [1]]),
        b"\x91" * 100_000,
    ],
)
def test_foreign_bytes_are_refused(data):
    with pytest.raises(ValueError, match="not a frame"):
        decode_frame(data)


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_be_refused(data):
    try:
        found = decode_frame(data)
    except ValueError:
        return
    assert all(isinstance(value, np.ndarray) for value in found.values())


@given(st.integers(0, 200), st.integers(1, 255))
def test_a_flipped_bit_never_escapes(position, flip):
    whole = bytearray(encode_frame({"y": np.arange(4.0), "label": np.array(["a", None], dtype=object)}))
    whole[position % len(whole)] ^= flip
    with contextlib.suppress(ValueError):  # nothing else comes out
        decode_frame(bytes(whole))

"""`.npy` bodies: what numpy writes is read; what lies is refused before anything is allocated."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from crossfade.core.tensors import DTYPES
from crossfade.errors import MalformedRequestError
from crossfade.serving.protocol.npy import read_npy, write_npy

NUMBERS = [dtype for dtype in DTYPES.values() if dtype.kind != "O"]


def saved(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def forged(header, data=b"", version=1):
    text = header if isinstance(header, bytes) else header.encode()
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + data


def head(descr="<f8", fortran="False", shape="(1,)"):
    return f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_what_numpy_writes_is_read_as_it_was(data):
    shape = arrays.array_shapes(min_dims=0, max_dims=4, max_side=4, min_side=0)
    array = data.draw(arrays.arrays(data.draw(st.sampled_from(NUMBERS)), shape))
    if data.draw(st.booleans()):
        array = np.asfortranarray(array)
    read = read_npy(saved(array), max_rows=10)
    assert (read.dtype, read.shape) == (array.dtype, array.shape)
    assert read.tobytes() == array.tobytes()
    assert np.array_equal(np.load(io.BytesIO(write_npy(read))), array, equal_nan=array.dtype.kind == "f")


@pytest.mark.parametrize("version", [1, 2, 3])
def test_every_version_of_the_format(version):
    assert read_npy(forged(head(), np.array([2.5]).tobytes(), version), 10).tolist() == [2.5]


def test_nothing_is_copied():
    body = saved(np.zeros(1000))
    assert np.shares_memory(read_npy(body, 1000), np.frombuffer(body, np.uint8))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00",
        b"\x93NUMPY\x09\x00\x00\x00",
        b"PK\x03\x04" + bytes(100),
        forged("", b""),
        forged(head(), b"")[:-5],
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(100),
        forged(head(shape="(-1,)"), bytes(8)),
        forged(head(shape="(99999999999999999999,)"), bytes(8)),
        forged(head(shape=f"({2**40}, {2**40})"), bytes(8)),
        forged(head(shape="(0, 999999999999999)"), bytes(8)),
        forged(head(shape="(1 1,)"), bytes(8)),
        forged(head(shape=str((1,) * 64)), bytes(8)),
        forged(head(shape="(2,)"), bytes(8)),
        forged(head(shape="(1,)"), bytes(16)),
        forged(head(shape="1"), bytes(8)),
        forged(head(fortran="maybe"), bytes(8)),
        forged(head("|O"), pickle.dumps(print)),
        forged(head("<U0", shape="(1000000,)")),
        forged(head("<U4"), bytes(16)),
        forged(head("|S4"), bytes(4)),
        forged(head(">f8"), bytes(8)),
        forged(head("<c16"), bytes(16)),
        forged(head("<M8[ns]"), bytes(8)),
        forged(head("|b1"), b"\x02"),
        forged("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }", bytes(8)),
        forged("{'descr': '<f8', 'descr': '<f8', 'shape': (1,), }", bytes(8)),
        forged("__import__('os').abort()", bytes(8)),
        forged("(" * 4000, bytes(8)),
        forged(head() + " " * 5000, bytes(8)),
        saved(np.array([{}], dtype=object)),
        saved(np.zeros(1, dtype="<i4,<f8")),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(body):
    with pytest.raises(MalformedRequestError):
        read_npy(body, 10_000_000)


def test_the_number_of_rows_is_limited():
    assert len(read_npy(saved(np.zeros(3)), max_rows=3)) == 3
    with pytest.raises(MalformedRequestError, match="4 rows, at most 3"):
        read_npy(saved(np.zeros(4)), max_rows=3)


@given(st.binary(max_size=200), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_damaged_files_are_read_or_refused_and_nothing_else(noise, seed):
    body = bytearray(saved(np.arange(6.0).reshape(2, 3)))
    random = np.random.default_rng(seed)
    for byte in noise[:8]:
        body[random.integers(len(body))] = byte
    for candidate in (bytes(body), noise, b"\x93NUMPY\x01\x00" + noise):
        with contextlib.suppress(MalformedRequestError):
            assert read_npy(candidate, 100).size <= len(candidate)

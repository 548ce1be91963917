"""`.npy` files: one array of numbers, read without `eval`, without pickle and without a copy.

Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import re
from io import BytesIO

import numpy as np

from crossfade.core.tensors import DATATYPES, Array
from crossfade.errors import MalformedRequestError
from crossfade.serving.protocol.binary import unpack_tensor
from crossfade.serving.protocol.numbers import count_elements

_MAGIC = b"\x93NUMPY"
_LENGTH_BYTES = {1: 2, 2: 4, 3: 4}
_MAX_HEADER_BYTES = 4096
_ITEM = rb"'(?:descr|fortran_order|shape)': *(?:'[^']{1,16}'|True|False|\([0-9, ]*\))"
_HEADER = re.compile(rb"\{%b, *%b, *%b,? *\} *\n?" % (_ITEM, _ITEM, _ITEM))
_DESCR = re.compile(rb"'descr': *'([^']*)'")
_FORTRAN = re.compile(rb"'fortran_order': *(True|False)")
_SHAPE = re.compile(rb"'shape': *\(([0-9, ]*)\)")
_MAX_DIGITS = 15


def read_npy(body: bytes, max_rows: int) -> Array:
    """Read an array; what its header says is checked against the bytes that follow.

    Args:
        body: A whole file.
        max_rows: The largest accepted first dimension.

    Returns:
        A read-only view of `body`.

    Raises:
        MalformedRequestError: It is no such file, its header lies, or it holds anything but numbers and booleans.

    Example:
        >>> read_npy(write_npy(np.array([[1.5, 2.5]])), max_rows=10)
        array([[1.5, 2.5]])
    """
    header, start = _split(body)
    descr, fortran, shape = _parse(header)
    if len(shape) > 0 and shape[0] > max_rows:
        raise MalformedRequestError(problem=f"the .npy file has {shape[0]} rows, at most {max_rows} at once")
    count_elements("npy", descr, shape)
    data = memoryview(body)[start:]
    if fortran:
        return unpack_tensor("npy", descr, shape[::-1], data).T
    return unpack_tensor("npy", descr, shape, data)


def write_npy(array: Array) -> bytes:
    """Write an array of numbers or booleans as a `.npy` file."""
    file = BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=False)
    return file.getvalue()


def _split(body: bytes) -> tuple[bytes, int]:
    """Return the header and where the data begins."""
    width = _LENGTH_BYTES.get(body[6]) if len(body) > 7 and body.startswith(_MAGIC) else None
    if width is None:
        raise MalformedRequestError(problem="the body is no .npy file")
    start = 8 + width
    length = int.from_bytes(body[8:start], "little")
    if length > _MAX_HEADER_BYTES or start + length > len(body):
        raise MalformedRequestError(problem=f"the header of the .npy file claims {length} bytes")
    return body[start : start + length], start + length


def _parse(header: bytes) -> tuple[str, bool, tuple[int, ...]]:
    descr, fortran, shape = (pattern.search(header) for pattern in (_DESCR, _FORTRAN, _SHAPE))
    if _HEADER.fullmatch(header) is None or descr is None or fortran is None or shape is None:
        raise MalformedRequestError(problem="the header of the .npy file is not that of an array of numbers")
    sizes = [text.strip() for text in shape[1].split(b",") if text.strip()]
    if any(len(size) > _MAX_DIGITS or not size.isdigit() for size in sizes):
        raise MalformedRequestError(problem="the header of the .npy file claims an impossible shape")
    return _datatype(descr[1].decode("latin-1")), fortran[1] == b"True", tuple(int(size) for size in sizes)


def _datatype(descr: str) -> str:
    order, code = descr[:1], descr[1:]
    datatype = DATATYPES.get("?" if code == "b1" else code) or DATATYPES.get(code)
    if order not in {"<", "|"} or datatype in {None, "BYTES"}:
        raise MalformedRequestError(
            problem=f"a .npy file of `{descr}` is not accepted, only little-endian numbers and booleans"
        )
    return datatype

"""The binary tensor data extension: raw little-endian elements, and BYTES as a uint32 length before each element.

Source: https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_binary_data.html
"""

from __future__ import annotations

import struct
from math import prod

import numpy as np

from crossfade.core.tensors import DTYPES, Array
from crossfade.errors import MalformedRequestError

_LENGTH = struct.Struct("<I")


def unpack_tensor(name: str, datatype: str, shape: tuple[int, ...], data: memoryview) -> Array:
    r"""Read a tensor out of a body without copying its elements (BYTES excepted).

    Args:
        name: Of the input, for errors.
        datatype: One of `DTYPES`.
        shape: Checked by `count_elements`.
        data: Exactly the tensor's bytes.

    Returns:
        A read-only view of `data`; for BYTES an object array of `bytes`.

    Raises:
        MalformedRequestError: The size does not fit the shape, or a length prefix lies.

    Example:
        >>> unpack_tensor("x", "INT16", (2,), memoryview(b"\x01\x00\xff\xff")).tolist()
        [1, -1]
    """
    dtype = DTYPES[datatype]
    if dtype.kind == "O":
        return _unpack_bytes(name, shape, data)
    expected = prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise MalformedRequestError(
            problem=f"input `{name}`: {datatype} {list(shape)} takes {expected} bytes, got {len(data)}"
        )
    array: Array = np.frombuffer(data, dtype.newbyteorder("<")).reshape(shape)
    if dtype.kind == "b" and len(data) and array.view(np.uint8).max() > 1:
        raise MalformedRequestError(problem=f"input `{name}`: a BOOL is one byte, 0 or 1")
    return array


def pack_tensor(array: Array) -> bytes:
    r"""Write a tensor as the extension wants it; text becomes UTF-8.

    Example:
        >>> pack_tensor(np.array(["ab", b"c"], dtype=object))
        b'\x02\x00\x00\x00ab\x01\x00\x00\x00c'
    """
    if array.dtype.kind not in "OSU":
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    parts: list[bytes] = []
    for item in array.ravel().tolist():
        element = element_bytes(item)
        parts += (_LENGTH.pack(len(element)), element)
    return b"".join(parts)


def element_bytes(item: object) -> bytes:
    """Return one element of a BYTES tensor as it travels."""
    return item if isinstance(item, bytes) else str(item).encode()


def _unpack_bytes(name: str, shape: tuple[int, ...], data: memoryview) -> Array:
    elements = prod(shape)
    if len(data) < elements * _LENGTH.size:
        raise MalformedRequestError(
            problem=f"input `{name}`: {elements} BYTES elements take at least 4 bytes each, got {len(data)}"
        )
    array = np.empty(elements, dtype=object)
    position = 0
    for index in range(elements):
        start = position + _LENGTH.size
        position = start + _LENGTH.unpack_from(data, position)[0] if start <= len(data) else len(data) + 1
        if position > len(data):
            raise MalformedRequestError(problem=f"input `{name}`: BYTES element {index} is longer than the data")
        array[index] = bytes(data[start:position])
    if position != len(data):
        raise MalformedRequestError(
            problem=f"input `{name}`: {len(data) - position} bytes follow the last of {elements} BYTES elements"
        )
    return array.reshape(shape)

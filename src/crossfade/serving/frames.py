"""Answers as bytes, and back: plain data that is checked when it is read and never run.

A frame is a MessagePack array of outputs: name, datatype, shape, and the elements as little-endian bytes, or as a list
for BYTES.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import numpy as np

from crossfade.core.tensors import DTYPES, Array, Tensors, datatype_of


class _Output(msgspec.Struct, array_like=True, gc=False):
    name: str
    datatype: str
    shape: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    data: memoryview | list[Any]


_LITTLE = {datatype: dtype.newbyteorder("<") for datatype, dtype in DTYPES.items()}
_decode = msgspec.msgpack.Decoder(tuple[_Output, ...]).decode
_encode = msgspec.msgpack.Encoder().encode


def encode_frame(outputs: Tensors) -> bytes | None:
    """Return an answer as bytes; None when it holds objects that are neither text nor bytes.

    Example:
        >>> decode_frame(encode_frame({"y": np.array([1.5, 2.5])}))["y"].tolist()
        [1.5, 2.5]
    """
    try:
        return _encode([_described(name, value) for name, value in outputs.items()])
    except (TypeError, UnicodeEncodeError):
        return None


def decode_frame(frame: bytes) -> Tensors:
    """Return the answer; its arrays are read-only views of `frame`.

    Raises:
        ValueError: It is not a frame.
    """
    try:
        return {output.name: _restored(output) for output in _decode(frame)}
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"not a frame: {error}") from error


def _described(name: str, value: Array) -> _Output:
    datatype = datatype_of(value.dtype)
    if datatype == "BYTES":
        return _Output(name, datatype, value.shape, _checked(value.ravel().tolist()))
    little = np.ascontiguousarray(value.astype(_LITTLE[datatype], copy=False))
    return _Output(name, datatype, value.shape, little.data)


def _restored(output: _Output) -> Array:
    dtype, data = DTYPES[output.datatype], output.data
    if (dtype.kind == "O") != isinstance(data, list):
        raise TypeError("the elements are not of the datatype")
    if isinstance(data, memoryview):
        array: Array = np.frombuffer(data, dtype)
        return array if array.shape == output.shape else array.reshape(output.shape)
    array = np.empty(len(data), dtype=object)
    array[:] = _checked(data)
    return array.reshape(output.shape)


def _checked(items: list[Any]) -> list[Any]:
    if not all(item is None or isinstance(item, str | bytes) for item in items):
        raise TypeError("an element is neither text nor bytes")
    return items

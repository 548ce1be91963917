"""A reader of Universal Binary JSON that trusts nothing: what XGBoost writes, checked before XGBoost sees it.

Source: the UBJSON specification, draft 12, as XGBoost uses it: keys and text with a length, numbers big endian, arrays
of one type (`[$d#`) as a block.
"""

from __future__ import annotations

from typing import Any

import numpy as np

MAX_DEPTH = 64

_NUMBERS = {"i": ">i1", "U": ">u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
_CONSTANTS = {"Z": None, "T": True, "F": False}


def loads(data: bytes) -> Any:
    r"""Parse a document. Arrays of one type become numpy arrays, everything else plain Python.

    Raises:
        ValueError: It is truncated, nested too deeply, has bytes left over, or is something else.

    Example:
        >>> loads(b"{L" + (1).to_bytes(8, "big") + b"ai\x05}")
        {'a': 5}
    """
    reader = _Reader(data)
    try:
        value = reader.value(reader.marker(), 0)
    except IndexError as error:
        raise ValueError("the document ends too early") from error
    if reader.position != len(data):
        raise ValueError("something follows the document")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def marker(self) -> str:
        """Return the next type marker; padding (`N`) is skipped."""
        while True:
            code = chr(self._data[self.position])
            self.position += 1
            if code != "N":
                return code

    def value(self, marker: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ValueError("the document is nested too deeply")
        if marker in _NUMBERS:
            return self._block(marker, 1)[0].item()
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        if marker in "SH":
            return self._text()
        if marker == "C":
            return self._take(1).decode("latin-1")
        if marker == "{":
            return self._object(depth)
        if marker == "[":
            return self._array(depth)
        raise ValueError(f"there is no type {marker!r}")

    def _object(self, depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        while (marker := self.marker()) != "}":
            key = self._take(self._length(marker)).decode()
            if key in members:
                raise ValueError(f"key {key[:80]!r} appears twice")
            members[key] = self.value(self.marker(), depth + 1)
        return members

    def _array(self, depth: int) -> Any:
        marker = self.marker()
        if marker == "$":
            kind = self.marker()
            if kind not in _NUMBERS or self.marker() != "#":
                raise ValueError("an array of one type holds something other than numbers")
            return self._block(kind, self._length(self.marker()))
        if marker == "#":
            return [self.value(self.marker(), depth + 1) for _ in range(self._length(self.marker()))]
        items = []
        while marker != "]":
            items.append(self.value(marker, depth + 1))
            marker = self.marker()
        return items

    def _text(self) -> str:
        return self._take(self._length(self.marker())).decode()

    def _length(self, marker: str) -> int:
        if marker not in "iUIlL":
            raise ValueError(f"a length cannot be of type {marker!r}")
        length = int(self._block(marker, 1)[0])
        if not 0 <= length <= len(self._data) - self.position:
            raise ValueError("the document ends too early")
        return length

    def _block(self, marker: str, count: int) -> Any:
        dtype = np.dtype(_NUMBERS[marker])
        return np.frombuffer(self._take(count * dtype.itemsize), dtype=dtype)

    def _take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self._data):
            raise ValueError("the document ends too early")
        taken = self._data[self.position : end]
        self.position = end
        return taken

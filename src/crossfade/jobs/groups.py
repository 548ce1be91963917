"""`Group`: rows of a file that were read together, before they are inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from crossfade.core.tensors import Tensors

GROUP_BYTES = 16 * 2**20
"""Bytes of the file in one group, about: what wide rows take must not depend on how many rows a chunk has."""
_LARGEST_INTEGER = 2**63


@dataclass(frozen=True)
class Group:
    """Rows in their order.

    Attributes:
        rows: How many.
        inputs: Gives the inputs of the plausible rows from one position to another.
        offsets: Which rows of the group are plausible.
        bad: Offset -> why a row is not.
        kept: Column -> one JSON value per row.
        bytes_done: How much of the file has been read, about.
    """

    rows: int
    inputs: Callable[[int, int], Tensors]
    offsets: list[int]
    bad: dict[int, str] = field(default_factory=dict)
    kept: dict[str, list[Any]] = field(default_factory=dict)
    bytes_done: int = 0


def plain(value: object) -> object:
    """Return a value that every format of results can hold: itself, or what it is as text."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and -_LARGEST_INTEGER <= value < _LARGEST_INTEGER:
        return value
    if isinstance(value, list | dict):
        return msgspec.json.encode(value, enc_hook=str).decode()
    return str(value)

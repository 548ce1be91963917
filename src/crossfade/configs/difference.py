"""What differs between two documents: operations of a JSON Patch (RFC 6902), each with what was there before.

Applied in their order to the first document, they make the second.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Any, Literal

import msgspec

from crossfade.configs.document import pointer
from crossfade.core.hashing import canonical_json

_LONGEST_ALIGNED = 1_000
"""Longer arrays are compared place by place: finding out what moved would take too long."""


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """One difference.

    Args:
        op: What happens.
        path: JSON pointer to where.
        value: What is there afterwards.
        before: What was there.
    """

    op: Literal["add", "remove", "replace"]
    path: str
    value: Any = None
    before: Any = None

    @property
    def words(self) -> str:
        """The change as people read it.

        Example:
            >>> Difference("replace", "/limit", 5, 3).words
            '/limit: 3 -> 5'
        """
        before, after = (_short(value) for value in (self.before, self.value))
        if self.op == "add":
            return f"{self.path}: {after} is new"
        return f"{self.path}: {before} is gone" if self.op == "remove" else f"{self.path}: {before} -> {after}"


def differences(before: Any, after: Any) -> tuple[Difference, ...]:
    """Return what differs; nothing for equal documents. `1`, `1.0` and `true` are three values.

    Example:
        >>> differences({"a": 1, "b": [1, 2]}, {"b": [1, 3], "c": None})[0]
        Difference(op='remove', path='/a', before=1)
    """
    return tuple(_differ(before, after, ""))


def _differ(before: Any, after: Any, path: str) -> Iterator[Difference]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key not in after:
                yield Difference("remove", pointer(path, key), before=value)
            else:
                yield from _differ(value, after[key], pointer(path, key))
        for key, value in after.items():
            if key not in before:
                yield Difference("add", pointer(path, key), value)
    elif isinstance(before, list) and isinstance(after, list):
        yield from _of_arrays(before, after, path)
    elif canonical_json(before) != canonical_json(after):
        yield Difference("replace", path, after, before)


def _of_arrays(before: list[Any], after: list[Any], path: str) -> Iterator[Difference]:
    place = 0
    for old, new in _blocks(before, after):
        common = min(len(old), len(new))
        for left, right in zip(old, new, strict=False):
            yield from _differ(left, right, pointer(path, place))
            place += 1
        for left in old[common:]:
            yield Difference("remove", pointer(path, place), before=left)
        for right in new[common:]:
            yield Difference("add", pointer(path, place), right)
            place += 1


def _blocks(before: list[Any], after: list[Any]) -> Iterator[tuple[list[Any], list[Any]]]:
    if max(len(before), len(after)) > _LONGEST_ALIGNED:
        yield before, after
        return
    old, new = (list(map(canonical_json, items)) for items in (before, after))
    for _, first, last, start, stop in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        yield before[first:last], after[start:stop]


def _short(value: Any) -> str:
    text = canonical_json(value).decode()
    return text if len(text) <= 60 else f"{text[:57]}..."

"""What is remembered of units, bounded: their last number, and their last safe answer."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Generic, TypeVar

from crossfade.safety.specs import ChangeCheck

T = TypeVar("T")


class Recent(Generic[T]):
    """The newest thing known of each unit, with its time; whoever was not heard of for longest is forgotten first.

    Args:
        size: How many units.

    Example:
        >>> recent = Recent[str](size=1)
        >>> recent.put("a", "x", at=1.0)
        >>> recent.put("b", "y", at=2.0)
        >>> recent.find("a"), recent.find("b")
        (None, ('y', 2.0))
    """

    __slots__ = ("_kept", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[str, tuple[T, float]] = OrderedDict()

    def find(self, unit: str) -> tuple[T, float] | None:
        """Return what is known of a unit, and since when."""
        return self._kept.get(unit)

    def put(self, unit: str, thing: T, at: float) -> None:
        """Remember something of a unit."""
        kept = self._kept
        kept[unit] = thing, at
        kept.move_to_end(unit)
        if len(kept) > self._size:
            kept.popitem(last=False)


class Changes:
    """The last number of each unit, and whether the next one is too far from it.

    A number that is too far is not remembered, so that the second wrong answer is found, too. Where the limit is a
    rate, it allows more with time; elsewhere a unit starts anew after `forget_seconds`.

    Args:
        check: The limit.
        units: How many are remembered.
    """

    __slots__ = ("_forget_seconds", "_maximum", "_per_seconds", "_recent")

    def __init__(self, check: ChangeCheck, units: int) -> None:
        self._maximum = check.maximum
        self._per_seconds = check.per_seconds
        self._forget_seconds = check.forget_seconds
        self._recent: Recent[float] = Recent(units)

    def jumps(self, unit: str, number: float, now: float) -> bool:
        """Tell whether a number is too far from the one before, and remember it if it is not."""
        if not math.isfinite(number):
            return True
        seen = self._recent.find(unit)
        if seen is not None:
            before, at = seen
            elapsed = now - at
            if elapsed <= self._forget_seconds:
                allowed = self._maximum if self._per_seconds is None else self._maximum * elapsed / self._per_seconds
                if not abs(number - before) <= allowed:
                    return True
        self._recent.put(unit, number, now)
        return False

"""Arithmetic of single numbers as IEEE 754 wants it, so that one row and many rows are judged alike.

Python raises where numpy answers inf or NaN. These functions answer what numpy answers, at the speed of Python.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

_RAISED = (ArithmeticError, ValueError)

Binary = Callable[[float, float], float]


def _binary(fast: Callable[[Any, Any], Any], exact: Callable[[Any, Any], Any]) -> Binary:
    def calculate(a: float, b: float) -> float:
        try:
            return float(fast(a, b))
        except _RAISED:
            with np.errstate(all="ignore"):
                return float(exact(np.float64(a), np.float64(b)))

    return calculate


def _unary(fast: Callable[[Any], Any], exact: Callable[[Any], Any]) -> Callable[[float], float]:
    def calculate(a: float) -> float:
        try:
            return float(fast(a))
        except _RAISED:
            with np.errstate(all="ignore"):
                return float(exact(np.float64(a)))

    return calculate


def smallest(numbers: Sequence[float]) -> float:
    """Return the smallest; NaN when one is, and for none.

    Example:
        >>> smallest([2.0, 1.0]), smallest([2.0, float("nan")])
        (1.0, nan)
    """
    return _extreme(numbers, min)


def largest(numbers: Sequence[float]) -> float:
    """Return the largest; NaN when one is, and for none."""
    return _extreme(numbers, max)


def total(numbers: Sequence[float]) -> float:
    """Return the sum, added from the first to the last."""
    return reduce(operator.add, numbers, 0.0)


def average(numbers: Sequence[float]) -> float:
    """Return the mean; NaN for none."""
    return total(numbers) / len(numbers) if numbers else math.nan


def _extreme(numbers: Sequence[float], choose: Callable[[Sequence[float]], float]) -> float:
    for number in numbers:
        if number != number:  # noqa: PLR0124 - NaN
            return math.nan
    return choose(numbers) if numbers else math.nan


divide = _binary(operator.truediv, np.true_divide)
modulo = _binary(operator.mod, np.remainder)
power = _binary(math.pow, np.float_power)
square_root = _unary(math.sqrt, np.sqrt)
logarithm = _unary(math.log, np.log)
exponential = _unary(math.exp, np.exp)

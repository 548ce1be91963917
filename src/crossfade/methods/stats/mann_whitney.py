"""By how much one sample is shifted against another, from ranks alone: for offline comparisons of odd distributions."""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from crossfade.methods.stats.distributions import Array, normal_quantile
from crossfade.methods.stats.values import NotEstimable, require, require_probability

_CLOSE = 1e-9
"""Where to stop looking for an end of the interval, as a share of the range of shifts."""


class Shift(msgspec.Struct, frozen=True, tag="shift"):
    """How far the treatment's values lie above the control's.

    Args:
        estimate: The shift after which neither sample ranks higher.
        lower: Lower end of the interval.
        upper: Upper end of the interval.
        alpha: Error probability of the interval.
    """

    estimate: float
    lower: float
    upper: float
    alpha: float


def shift(control: ArrayLike, treatment: ArrayLike, alpha: float = 0.05) -> Shift | NotEstimable:
    """Estimate the shift between two samples, with the normal approximation, corrected for continuity and ties.

    One look at a sample that is complete; it says nothing valid about a canary that is watched while it runs.

    Raises:
        InvalidAnalysisError: A value is missing or infinite, or `alpha` is not between 0 and 1.

    Source:
        Mann, Whitney, Annals of Mathematical Statistics 18 (1947); the interval as in Bauer: Constructing confidence
        sets using rank statistics, JASA 67 (1972).

    Example:
        >>> round(shift([1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0]).estimate, 6)
        22.5
    """
    require_probability(alpha)
    below, above = (np.asarray(values, dtype=np.float64).ravel() for values in (control, treatment))
    require(bool(np.isfinite(below).all() and np.isfinite(above).all()), "a value is missing or infinite")
    if not (below.size and above.size):
        return NotEstimable("one of the samples is empty")
    least, most = float(above.min() - below.max()), float(above.max() - below.min())
    if least == most:
        return NotEstimable("the values do not vary")
    z = float(normal_quantile(1 - alpha / 2))
    lower, upper = (_crossing(below, above, least, most, at, 0.5) for at in (z, -z))
    return Shift(_middle(below, above, least, most), min(lower, upper), max(lower, upper), alpha)


def _middle(control: Array, treatment: Array, least: float, most: float) -> float:
    """Return the middle of the shifts at which neither sample ranks higher: there may be a whole range of them."""
    # just above and just below zero; a rank sum moves in steps of a half
    first, last = (_crossing(control, treatment, least, most, at, 0.0) for at in (1e-9, -1e-9))
    return (first + last) / 2


def _crossing(control: Array, treatment: Array, least: float, most: float, at: float, correction: float) -> float:
    """Return the shift at which the standardized rank sum falls through `at`."""
    if _standardized(control, treatment, least, correction) <= at:
        return least
    if _standardized(control, treatment, most, correction) >= at:
        return most
    low, high = least, most
    while high - low > _CLOSE * (most - least):
        middle = (low + high) / 2
        if _standardized(control, treatment, middle, correction) > at:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _standardized(control: Array, treatment: Array, by: float, correction: float) -> float:
    """Return the treatment's rank sum after it was moved down by `by`, in standard deviations from its expectation."""
    n_c, n_t = control.size, treatment.size
    _, places, counts = np.unique(np.concatenate([treatment - by, control]), return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    excess = float(ranks[places[:n_t]].sum()) - n_t * (n_t + 1) / 2 - n_t * n_c / 2
    total = n_c + n_t
    ties = float((counts.astype(np.float64) ** 3 - counts).sum()) / (total * (total - 1))
    deviation = math.sqrt(max(n_t * n_c / 12 * (total + 1 - ties), 0.0))
    if deviation == 0:
        return 0.0
    return (excess - math.copysign(correction, excess) * (excess != 0)) / deviation

"""The probability that each variant is the best, exactly: the same numbers every time, without drawing at random."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from crossfade.methods.stats.distributions import Array, normal_cdf, normal_density
from crossfade.methods.stats.values import require

_BREAKS = np.array([-8.0, -5.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 5.0, 8.0])
"""Where the density of a variant changes its shape, in standard deviations around its mean."""
_NODES = 16


def probability_best(means: Sequence[float] | Array, deviations: Sequence[float] | Array) -> Array:
    """Return the probability that each variant has the largest value, for independent normal posteriors.

    The integral of one density times the distribution functions of all others, by Gauss-Legendre quadrature on
    intervals that end where any of the densities bends. Right to about 1e-10; well below 2 ms for 5 variants.

    Args:
        means: Of the posteriors, `(k,)`.
        deviations: Their standard deviations, `(k,)`, above zero.

    Raises:
        InvalidAnalysisError: They differ in number, a deviation is not positive, or a value is missing.

    Source:
        The definition; composite Gauss-Legendre quadrature as in Davis, Rabinowitz: Methods of Numerical
        Integration (1984).

    Example:
        >>> [round(float(p), 3) for p in probability_best([0.0, 0.1], [0.1, 0.1])]
        [0.24, 0.76]
    """
    center, spread = np.asarray(means, dtype=np.float64), np.asarray(deviations, dtype=np.float64)
    require(center.ndim == 1 and center.shape == spread.shape and center.size > 0, "means and deviations do not match")
    require(bool(np.isfinite(center).all()), "a mean is missing or infinite")
    require(bool((spread > 0).all()) and bool(np.isfinite(spread).all()), "deviations are above zero")
    center = center - center.mean()  # only differences matter, and small numbers keep their digits
    breaks = np.unique(center[:, None] + spread[:, None] * _BREAKS)
    x, weights = quadrature(breaks)
    z = (x[None, :] - center[:, None]) / spread[:, None]
    return share_of_best(normal_density(z) / spread[:, None] * weights, normal_cdf(z))


def quadrature(breaks: Array) -> tuple[Array, Array]:
    """Return nodes and weights that integrate what is smooth between breaks: Gauss-Legendre on each interval.

    Args:
        breaks: Ends of the intervals, ascending, `(m,)`.
    """
    points, weights = _nodes()
    half, middle = np.diff(breaks) / 2, (breaks[1:] + breaks[:-1]) / 2
    return (middle[:, None] + half[:, None] * points).ravel(), (half[:, None] * weights).ravel()


def share_of_best(mass: Array, below: Array) -> Array:
    """Return the probability that each of several independent values is the largest.

    Args:
        mass: Density of each at the nodes, times the weights of the nodes, `(k, m)`.
        below: Probability of each to be below the nodes, `(k, m)`.
    """
    ones = np.ones_like(below[:1])
    # the product over all others: from the left times from the right, because dividing by one of them may divide by 0
    from_left = np.cumprod(np.vstack([ones, below[:-1]]), axis=0)
    from_right = np.cumprod(np.vstack([ones, below[:0:-1]]), axis=0)[::-1]
    found: Array = (mass * from_left * from_right).sum(axis=1)
    return np.minimum(found, 1.0)


@functools.cache
def _nodes() -> tuple[Array, Array]:
    return np.polynomial.legendre.leggauss(_NODES)

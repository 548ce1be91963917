"""Group sequential tests: a planned number of looks, each of which may stop the experiment."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from crossfade.methods.stats.distributions import (
    Array,
    X,
    normal_cdf,
    normal_density,
    normal_quantile,
    normal_sf,
    t_cdf,
    t_quantile,
)
from crossfade.methods.stats.values import (
    Alternative,
    Contrast,
    Effect,
    NotEstimable,
    require,
    require_probability,
)

Spending = Literal["obrien_fleming", "pocock", "power"]
"""How alpha is spent: hardly any early, evenly, or as the square of the information."""
_REACH = 8.0
"""Standard deviations beyond which a path is not followed."""
_NOTHING = 1e-15
"""A look that may spend less than this has no bound: `_FAR` stands for it."""
_FAR = 40.0


def spent(information: Array, alpha: float, spending: Spending = "obrien_fleming") -> Array:
    """Return how much of a one-sided alpha is spent when this share of the information is there.

    Source:
        Lan, DeMets: Discrete sequential boundaries for clinical trials, Biometrika 70 (1983).
    """
    share = np.minimum(information, 1.0)
    if spending == "obrien_fleming":
        return 2 * normal_sf(-float(normal_quantile(alpha / 2)) / np.sqrt(share))
    if spending == "pocock":
        return alpha * np.log1p((math.e - 1) * share)
    return alpha * share**2


def boundaries(
    information: Sequence[float] | Array,
    alpha: float = 0.05,
    spending: Spending = "obrien_fleming",
    alternative: Alternative = "two-sided",
) -> Array:
    """Return the critical |z| of each look.

    Args:
        information: Share of the planned information at each look, ascending; 1 is the planned end. `looks(10)` are
            ten equal steps.
        alpha: Error probability over all looks.
        spending: How it is spent.
        alternative: Two-sided bounds are symmetric, with half of alpha on each side.

    Raises:
        InvalidAnalysisError: The looks are not ascending and positive, or `alpha` is not between 0 and 1.

    Source:
        Armitage, McPherson, Rowe: Repeated significance tests on accumulating data, JRSS A 132 (1969), with
        Gauss-Legendre quadrature.

    Example:
        >>> [round(float(bound), 3) for bound in boundaries([0.5, 1.0])]
        [2.963, 1.969]
    """
    require_probability(alpha)
    times = _checked(information)
    one_sided = alternative != "two-sided"
    targets = np.diff(spent(times, alpha if one_sided else alpha / 2, spending), prepend=0.0)
    walk = _Walk(times, one_sided)
    found = []
    for target in targets:
        walk.advance()
        bound = walk.bound(float(target))
        walk.stop(bound)
        found.append(bound)
    return np.array(found)


def looks(count: int) -> Array:
    """Return equally spaced shares of information.

    Raises:
        InvalidAnalysisError: There are no looks.
    """
    require(1 <= count <= 1000, f"{count} looks are not 1 to 1000")
    return np.arange(1, count + 1) / count


def crossing(
    bounds: Sequence[float] | Array,
    information: Sequence[float] | Array,
    drift: float = 0.0,
    alternative: Alternative = "two-sided",
) -> Array:
    """Return the probability that each look is the first outside of the bounds.

    Args:
        bounds: Critical |z| of each look.
        information: Share of the information at each look.
        drift: The expected z at information 1; 0 gives the type I error, anything else the power.
        alternative: Which bounds there are.
    """
    times = _checked(information)
    require(len(bounds) == len(times), "there are not as many bounds as looks")
    walk = _Walk(times, alternative != "two-sided", -drift if alternative == "less" else drift)
    found = []
    for bound in bounds:
        walk.advance()
        found.append(walk.stop(float(bound)))
    return np.array(found)


def group_sequential(
    contrast: Contrast | NotEstimable,
    information: Sequence[float],
    alpha: float = 0.05,
    spending: Spending = "obrien_fleming",
    alternative: Alternative = "two-sided",
) -> Effect | NotEstimable:
    """Return effect, repeated interval and repeated p-value at the last of the looks so far.

    Args:
        contrast: Of all units so far.
        information: Share of the planned information (units) at each look so far, this one included. Looks need not be
            where they were planned; an interim share above 1 spends what is left.
        alpha: Error probability over all looks.
        spending: How it is spent.
        alternative: What is looked for.

    Raises:
        InvalidAnalysisError: The looks are not ascending and positive, or `alpha` is not between 0 and 1.

    Source:
        Jennison, Turnbull: Group Sequential Methods with Applications to Clinical Trials (2000), chapters 7 and 9.
    """
    bound = float(boundaries(information, alpha, spending, alternative)[-1])
    if isinstance(contrast, NotEstimable):
        return contrast
    z = float(normal_score(contrast.value / contrast.standard_error, contrast.df))
    toward = {"two-sided": abs(z), "greater": z, "less": -z}[alternative]
    p_value = _repeated_p_value(toward, information, spending, alternative)
    # the t that is as unlikely as the bound; beyond 37 nothing is
    critical = -float(t_quantile(float(normal_sf(bound)), contrast.df)) if bound < 37 else bound
    return Effect.around(contrast, critical * contrast.standard_error, p_value, alpha, alternative)


def normal_score(t: X, df: X) -> X:
    """Return the z that is as unlikely as this t, so that bounds for z hold when the variance was estimated.

    Source:
        Jennison, Turnbull (2000), section 3.8, the significance level approach.
    """
    size = -normal_quantile(np.maximum(t_cdf(-np.abs(t), df), 1e-300))
    return np.copysign(size, t)  # type: ignore[no-any-return]


def _repeated_p_value(z: float, information: Sequence[float], spending: Spending, alternative: Alternative) -> float:
    """Return the smallest alpha at which this look would be outside of its bound, to 0.1 %."""
    low, high = math.log(1e-12), math.log(0.999)
    if z < boundaries(information, math.exp(high), spending, alternative)[-1]:
        return 1.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        if z >= boundaries(information, math.exp(middle), spending, alternative)[-1]:
            high = middle
        else:
            low = middle
    return math.exp(high)


def _checked(information: Sequence[float] | Array) -> Array:
    times = np.asarray(information, dtype=np.float64)
    ascending = times.ndim == 1 and times.size > 0 and bool(np.all(np.diff(times, prepend=0.0) > 0))
    require(ascending and bool(np.isfinite(times).all()), "shares of information are positive and ascend")
    require(bool((np.diff(times) > 1e-5 * times[1:]).all()), "looks are closer together than 1 in 100,000")
    return times


@functools.cache
def _panel() -> tuple[Array, Array]:
    return np.polynomial.legendre.leggauss(16)


def _nodes(lower: float, upper: float, scale: float) -> tuple[Array, Array]:
    """Return nodes and weights of a quadrature of functions that bend over `scale`."""
    count = max(4, math.ceil((upper - lower) / (6 * scale)))
    edges = np.linspace(lower, upper, count + 1)
    points, weights = _panel()
    half = (upper - lower) / (2 * count)
    return (edges[:-1, None] + half * (1 + points)).ravel(), np.tile(half * weights, count)


class _Walk:
    """The distribution of the score among paths that no look has stopped."""

    def __init__(self, times: Array, one_sided: bool, drift: float = 0.0) -> None:
        self._one_sided, self._drift = one_sided, drift
        self._times, self._steps = list(map(float, times)), list(map(float, np.diff(times, prepend=0.0)))
        self._look = -1
        self._nodes, self._mass = np.zeros(1), np.ones(1)  # all paths start at zero

    def advance(self) -> None:
        """Go on to the next look."""
        self._look += 1
        self._time, self._step = self._times[self._look], self._steps[self._look]

    def outside(self, bound: float) -> tuple[float, float]:
        """Return the probability of crossing the bound at this look and not before, and its slope in the bound."""
        root, scale = math.sqrt(self._time), math.sqrt(self._step)
        center = self._nodes + self._drift * self._step
        above = (bound * root - center) / scale
        crossed, density = normal_sf(above), normal_density(above)
        if not self._one_sided:
            below = (-bound * root - center) / scale
            crossed, density = crossed + normal_cdf(below), density + normal_density(below)
        return float(self._mass @ crossed), -float(self._mass @ density) * root / scale

    def bound(self, target: float) -> float:
        """Return the bound that is crossed with a probability of `target` on each side."""
        target = target if self._one_sided else 2 * target
        low, high = -_REACH if self._one_sided else 0.0, _FAR
        if target < _NOTHING:
            return high  # nothing may be spent here yet
        bound = 2.5
        for _ in range(80):  # Newton's steps on the logarithm, halving the bracket where they leave it
            crossed, slope = self.outside(bound)
            low, high = (bound, high) if crossed > target else (low, bound)
            step = crossed * math.log(crossed / target) / slope if crossed > 0 and slope < 0 else math.inf
            if abs(step) < 1e-11 or high - low < 1e-11:
                break
            bound = bound - step if low < bound - step < high else (low + high) / 2
        return bound

    def stop(self, bound: float) -> float:
        """End the paths outside of the bound, and return how likely they were."""
        crossed, _ = self.outside(bound)
        reach = _REACH * math.sqrt(self._time)
        edge = bound * math.sqrt(self._time)
        middle = self._drift * self._time
        upper = min(edge, middle + reach)
        lower = middle - reach if self._one_sided else max(-edge, middle - reach)
        if upper <= lower:
            self._nodes, self._mass = np.array([middle]), np.zeros(1)
            return crossed
        scale = math.sqrt(self._step)
        # fine enough for the step that led here and for the one that comes
        nodes, weights = _nodes(lower, upper, math.sqrt(min(self._steps[self._look : self._look + 2])))
        density = normal_density((nodes[:, None] - self._nodes[None, :] - self._drift * self._step) / scale) / scale
        self._mass = (density @ self._mass) * weights
        self._nodes = nodes
        return crossed

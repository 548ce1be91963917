"""Sample ratio mismatch: units do not arrive in the proportions that were asked for, so nothing else can be trusted.

`fixed` is for one look. `SampleRatio` may be asked after every unit, and goes on through changes of the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import msgspec
import numpy as np

from crossfade.methods.stats.distributions import Array, chi_square_sf, log_gamma
from crossfade.methods.stats.values import require

ALARM = 0.001
"""Below this p-value a mismatch is reported."""
CONCENTRATIONS = (100.0, 1_000.0, 10_000.0)
"""What the sequential test bets on, in equal parts: large, middling and small mismatches."""
CERTAIN = 1e9
"""ln of the evidence when a unit is where none can be; finite, so that the state can be stored as JSON."""
_FEW = 1_000
"""Expected counts are small, and the test exact, up to this many outcomes."""
_TIES = 1e-7


def fixed(
    counts: Sequence[int], weights: Sequence[float], *, exact: bool | None = None, correct: bool = False
) -> float:
    """Return the p-value of "units arrive in proportion to the weights".

    Variants of weight zero do not count as a degree of freedom; a unit in one of them is proof enough.

    Args:
        counts: Units of each variant.
        weights: What each should have, in any unit.
        exact: Add up the probabilities of all outcomes that are no more likely, which costs time for many units;
            default: where an expected count is below 5 and outcomes are few.
        correct: Continuity correction of the chi-square test of two variants.

    Raises:
        InvalidAnalysisError: Counts or weights are negative or missing, or all weights are zero.

    Source:
        Fabijan et al.: Diagnosing sample ratio mismatch in online controlled experiments (KDD 2019).
    """
    observed, shares, proof = _checked(counts, weights)
    total = observed.sum()
    if proof:
        return 0.0
    if total == 0 or len(shares) == 1:
        return 1.0
    expected = shares * total
    if exact is None:
        exact = bool((expected < 5).any()) and math.comb(int(total) + len(shares) - 1, len(shares) - 1) <= _FEW
    if exact:
        return _exact(observed, shares)
    distance = np.abs(observed - expected)
    if correct:
        distance = np.maximum(distance - 0.5, 0.0)
    return chi_square_sf(float((distance**2 / expected).sum()), len(shares) - 1)


class SampleRatio(msgspec.Struct, frozen=True):
    """The sequential test: its state, which is totals and therefore the same in whatever order units came.

    Each period of constant weights is a revision with totals of its own; the evidence of revisions multiplies. When all
    is well, the p-value falls below alpha at any time with probability alpha at most.

    Args:
        closed: ln of the evidence of each bet from revisions that have ended.
        weights: Of the revision that runs.
        counts: Its units so far, by variant.
        highest: The largest ln evidence at any look.
        concentrations: The bets, in equal parts.

    Source:
        Lindon, Malek: Anytime-valid inference for multinomial count data (NeurIPS 2022).

    Example:
        >>> SampleRatio.start([0.5, 0.5]).observe([5_400, 4_600]).p_value < ALARM
        True
    """

    closed: tuple[float, ...]
    weights: tuple[float, ...]
    counts: tuple[int, ...]
    highest: float
    concentrations: tuple[float, ...]

    @classmethod
    def start(cls, weights: Sequence[float], concentrations: Sequence[float] = CONCENTRATIONS) -> SampleRatio:
        """Return the state before the first unit.

        Raises:
            InvalidAnalysisError: The weights are negative or all zero, or a concentration is not positive.
        """
        zeros = (0,) * len(weights)
        _checked(zeros, weights)
        bets = tuple(map(float, concentrations))
        require(bool(bets) and all(0 < bet < math.inf for bet in bets), "concentrations are positive")
        return cls((0.0,) * len(bets), tuple(map(float, weights)), zeros, 0.0, bets)

    def observe(self, counts: Sequence[int]) -> SampleRatio:
        """Return the state at the next look.

        Args:
            counts: Units of the running revision until now, by variant: totals, not what is new.

        Raises:
            InvalidAnalysisError: There are not as many counts as variants, or one is negative.
        """
        _checked(counts, self.weights)
        looked = msgspec.structs.replace(self, counts=tuple(int(count) for count in counts))
        return msgspec.structs.replace(looked, highest=max(self.highest, looked.log_evidence))

    def reweight(self, weights: Sequence[float]) -> SampleRatio:
        """Return the state after a change of the weights; counts start again at zero.

        Raises:
            InvalidAnalysisError: The weights are negative or all zero.
        """
        begun = SampleRatio.start(weights, self.concentrations)
        return msgspec.structs.replace(begun, closed=self._evidence(), highest=self.highest)

    @property
    def log_evidence(self) -> float:
        """The logarithm of the e-value against "all is well", now."""
        bets = np.array(self._evidence())
        top = float(bets.max())
        return top + math.log(float(np.exp(bets - top).mean()))

    @property
    def p_value(self) -> float:
        """The always-valid p-value: 1 / the largest evidence so far."""
        return math.exp(-max(self.highest, 0.0))

    def _evidence(self) -> tuple[float, ...]:
        return tuple(
            closed + log_bayes_factor(self.counts, self.weights, bet)
            for closed, bet in zip(self.closed, self.concentrations, strict=True)
        )


def log_bayes_factor(
    counts: Sequence[int], weights: Sequence[float], concentration: float, prior: Sequence[float] | None = None
) -> float:
    """Return ln of how much better a Dirichlet prior around the weights explains the counts than the weights do.

    Args:
        counts: Units of each variant.
        weights: What each should have.
        concentration: How close to the weights the prior is: worth as many units.
        prior: Parameters of the Dirichlet, instead of `concentration` times the weights.
    """
    observed, shares, proof = _checked(counts, weights)
    if proof:
        return CERTAIN
    parameters = shares * concentration if prior is None else np.asarray(prior, dtype=np.float64)
    total = float(parameters.sum())
    factor = log_gamma(total) - log_gamma(total + float(observed.sum()))
    factor += float((log_gamma(parameters + observed) - log_gamma(parameters)).sum())
    return float(factor - observed @ np.log(shares))


def _checked(counts: Sequence[int], weights: Sequence[float]) -> tuple[Array, Array, bool]:
    """Return counts and shares of the variants that have weight, and whether one without weight has units."""
    observed, given = np.asarray(counts, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    require(observed.shape == given.shape and given.ndim == 1, "there are not as many counts as weights")
    require(bool((observed >= 0).all()) and bool(np.isfinite(observed).all()), "counts are zero or more")
    require(bool((given >= 0).all()) and bool(np.isfinite(given).all()), "weights are zero or more")
    require(float(given.sum()) > 0, "no variant has weight")
    open_ = given > 0
    return observed[open_], given[open_] / given.sum(), bool(observed[~open_].any())


def _exact(observed: Array, shares: Array) -> float:
    total, k = int(observed.sum()), len(shares)
    if k == 2:
        first = np.arange(total + 1, dtype=np.float64)
        outcomes = np.stack([first, total - first], axis=1)
    else:
        # every way to put total balls into k boxes, by where k - 1 bars stand among them
        bars = np.array(list(combinations(range(total + k - 1), k - 1)), dtype=np.float64)
        edges = np.concatenate([np.full((len(bars), 1), -1.0), bars, np.full((len(bars), 1), total + k - 1.0)], axis=1)
        outcomes = np.diff(edges, axis=1) - 1
    logs = outcomes @ np.log(shares) - log_gamma(outcomes + 1.0).sum(axis=1) + float(log_gamma(total + 1.0))
    here = float(observed @ np.log(shares) - log_gamma(observed + 1.0).sum() + float(log_gamma(total + 1.0)))
    return min(1.0, float(np.exp(logs[logs <= here + _TIES]).sum()))

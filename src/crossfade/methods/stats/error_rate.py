"""Does the canary fail more often? A test that may be asked after every request, while its share of traffic grows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from crossfade.methods.stats.distributions import Array
from crossfade.methods.stats.values import require, require_probability

WORSE = tuple(map(float, np.geomspace(1.05, 20.0, 40)))
"""Rate ratios that the test looks for: from 5 % more to 20 times as many."""


class ErrorRate(msgspec.Struct, frozen=True):
    """The state of the test: one number for each rate ratio that is looked for, added up over windows.

    The null hypothesis is: the rate of bad events of the canary is at most `tolerated` times the baseline's (at
    least, when better canaries are looked for), in every window, whatever the rate is and however it changes. Then the
    evidence exceeds 1 / alpha at any time with probability alpha at most.

    Why: given its requests n_c and n_b, a window multiplies the evidence by f^k_c g^k_b, where k are bad events,
    f = q'/q and g = (1-q')/(1-q), q and q' being the canary's share of bad events under the null and the alternative.
    As 1 + x <= e^x, the expectation is at most exp(n_c p_c (f-1) + n_b p_b (g-1)); with p_c on the null's side of
    tolerated p_b the exponent is at most 0, because q (f-1) + (1-q) (g-1) = 0. So windows may be of any size, and
    traffic may shift at will between them, as long as it does not look into the window that comes.

    Args:
        log_bets: ln of the evidence for each rate ratio.
        ratios: The rate ratios that are looked for.
        tolerated: The rate ratio at the edge of the null hypothesis.
        highest: The largest ln evidence of any look.

    Source:
        Lindon, Malek: Anytime-valid inference for multinomial count data (NeurIPS 2022), section on inhomogeneous
        Bernoulli processes; Ramdas, Gruenwald, Vovk, Shafer: Game-theoretic statistics and safe anytime-valid
        inference (2023).

    Example:
        >>> test = ErrorRate.worse()
        >>> for _ in range(20):
        ...     test = test.observe(canary=50, baseline=450, bad_canary=5, bad_baseline=9)
        >>> test.p_value < 0.01
        True
    """

    log_bets: tuple[float, ...]
    ratios: tuple[float, ...]
    tolerated: float
    highest: float = 0.0

    @classmethod
    def worse(cls, tolerated: float = 1.0, ratios: Sequence[float] = WORSE) -> ErrorRate:
        """Return the test for a canary that fails more often than `tolerated` times the baseline: to roll back.

        Raises:
            InvalidAnalysisError: `tolerated` is not positive, or a ratio is not above 1.
        """
        require(
            all(1 < ratio < math.inf for ratio in ratios) and bool(ratios), "ratios that are looked for are above 1"
        )
        return cls._start(tolerated, [tolerated * ratio for ratio in ratios])

    @classmethod
    def not_worse(cls, margin: float, ratios: Sequence[float] = WORSE) -> ErrorRate:
        """Return the mirrored test, for a canary that fails less than (1 + margin) times as often: to promote.

        Args:
            margin: What is tolerated: 0.1 is 10 % more bad events than the baseline.
            ratios: By how much less than that is looked for.

        Raises:
            InvalidAnalysisError: `margin` is not above -1, or a ratio is not above 1.
        """
        require(
            all(1 < ratio < math.inf for ratio in ratios) and bool(ratios), "ratios that are looked for are above 1"
        )
        return cls._start(1 + margin, [(1 + margin) / ratio for ratio in ratios])

    @classmethod
    def _start(cls, tolerated: float, ratios: Sequence[float]) -> ErrorRate:
        require(0 < tolerated < math.inf, f"a rate ratio of {tolerated} cannot be tolerated")
        return cls((0.0,) * len(ratios), tuple(map(float, ratios)), float(tolerated))

    def observe(self, *, canary: int, baseline: int, bad_canary: int, bad_baseline: int) -> ErrorRate:
        """Return the state after a window; a window with requests on one side only says nothing.

        Args:
            canary: Requests of the canary in this window.
            baseline: Requests of the baseline in the same window.
            bad_canary: How many of the canary's were bad.
            bad_baseline: How many of the baseline's were bad.

        Raises:
            InvalidAnalysisError: More were bad than there were, or a count is negative.
        """
        return observe_all([self], [(bad_canary, canary, bad_baseline, baseline)])[0]

    def merge(self, other: ErrorRate) -> ErrorRate:
        """Return the state after the windows of another state, too.

        Only the looks of this test count: what the other had reached by itself at some time is forgotten, for whoever
        takes the best of several tests is wrong more often than each of them. The windows must be different ones; test
        different kinds of bad events of the same requests each by itself.

        Raises:
            InvalidAnalysisError: They look for different things.
        """
        same = (self.ratios, self.tolerated) == (other.ratios, other.tolerated)
        require(same, "tests of different rate ratios cannot be merged")
        return self._with(np.array(self.log_bets) + np.array(other.log_bets))

    def _with(self, log_bets: Array) -> ErrorRate:
        evidence = float(_log_means(log_bets[None])[0])
        return ErrorRate(tuple(log_bets.tolist()), self.ratios, self.tolerated, max(self.highest, evidence))

    @property
    def log_evidence(self) -> float:
        """The logarithm of the evidence against the null hypothesis, now."""
        return float(_log_means(np.array([self.log_bets]))[0])

    @property
    def p_value(self) -> float:
        """The always-valid p-value: 1 / the largest evidence so far."""
        return math.exp(-max(self.highest, 0.0))

    def rejects(self, alpha: float = 0.01) -> bool:
        """Tell whether the null hypothesis is rejected: the canary is worse, or, mirrored, it is good enough.

        Raises:
            InvalidAnalysisError: `alpha` is not between 0 and 1.
        """
        require_probability(alpha)
        return self.p_value <= alpha


def stakes(canary: Array, baseline: Array, ratios: Array, tolerated: float | Array = 1.0) -> tuple[Array, Array]:
    """Return what one bad event adds to the logarithm of each bet: one of the canary, and one of the baseline.

    Args:
        canary: Requests of the canary in a window; any shape that broadcasts against `ratios`.
        baseline: Requests of the baseline.
        ratios: The rate ratios that are looked for.
        tolerated: The rate ratio at the edge of the null hypothesis.
    """
    sought, usual = ratios * canary + baseline, tolerated * canary + baseline
    return np.log(ratios / tolerated * usual / sought), np.log(usual / sought)


Window = tuple[int, int, int, int]
"""Bad events of the canary, of how many; of the baseline, of how many."""


def observe_all(tests: Sequence[ErrorRate], windows: Sequence[Window]) -> list[ErrorRate]:
    """Return the states of several tests after one window each, for the price of little more than one.

    Args:
        tests: That look for the same number of rate ratios.
        windows: One for each.

    Raises:
        InvalidAnalysisError: More were bad than there were, or a count is negative.

    Example:
        >>> observe_all([ErrorRate.worse()], [(5, 50, 9, 450)])[0].log_evidence > 0
        True
    """
    for bad, of, bad_before, of_before in windows:
        require(0 <= bad <= of, f"{bad} of {of} requests of the canary cannot be bad")
        require(0 <= bad_before <= of_before, f"{bad_before} of {of_before} requests of the baseline cannot be bad")
    telling = [place for place, (bad, of, before, of_before) in enumerate(windows) if of and of_before and bad + before]
    found = list(tests)
    if not telling:
        return found
    bad, of, bad_before, of_before = np.array([windows[place] for place in telling], dtype=np.float64).T[..., None]
    ratios = np.array([tests[place].ratios for place in telling])
    tolerated = np.array([[tests[place].tolerated] for place in telling])
    of_canary, of_baseline = stakes(of, of_before, ratios, tolerated)
    log_bets = np.array([tests[place].log_bets for place in telling]) + bad * of_canary + bad_before * of_baseline
    for place, bets, evidence in zip(telling, log_bets.tolist(), _log_means(log_bets).tolist(), strict=True):
        test = tests[place]
        found[place] = ErrorRate(tuple(bets), test.ratios, test.tolerated, max(test.highest, evidence))
    return found


def _log_means(log_bets: Array) -> Array:
    """Return the logarithm of the mean of each row's exponentials, without overflow."""
    top = log_bets.max(axis=1)
    return np.asarray(top + np.log(np.exp(log_bets - top[:, None]).mean(axis=1)))

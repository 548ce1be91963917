"""LinUCB: a linear model for each variant, and the one whose reward could be the highest in this context."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crossfade.methods.bandits.contextual import ContextualSpec, Scorer
from crossfade.methods.bandits.ridge import Ridge
from crossfade.methods.bandits.spec import demand, winners
from crossfade.methods.stats.distributions import Array


class LinUCB(ContextualSpec, frozen=True, kw_only=True, tag="lin_ucb"):
    """A request goes to the variant with the largest x' theta + alpha sqrt(x' inv(A) x).

    The choice itself is not random: propensities are 1 - (K - 1) floor for the variant chosen and the floor for all
    others, or equal parts where several are the largest, as before anything was learned.

    Args:
        alpha: How much not knowing counts, in the unit of the reward.

    Raises:
        InvalidPolicyError: `alpha` is negative.

    Source:
        Li, Chu, Langford, Schapire: A contextual-bandit approach to personalized news article recommendation (2010),
        disjoint models.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        demand(0 <= self.alpha < math.inf, f"`alpha` is {self.alpha}, which is below zero")

    def scorer(self, variants: Sequence[str], models: Sequence[Ridge]) -> Scorer:
        """Return what gives each variant its probability, for one context at a time."""
        return _Scorer(self, variants, models)


class _Scorer(Scorer):
    def __init__(self, spec: LinUCB, variants: Sequence[str], models: Sequence[Ridge]) -> None:
        super().__init__(spec, variants)
        found = [model.posterior(spec.regularization) for model in models]
        self._count = len(models)
        # one product of matrix and vector gives all means, and what the bounds are sums of squares of
        self._both = np.vstack([np.array([theta for theta, _ in found]), *(spec.alpha * root for _, root in found)])
        self._sums = np.kron(np.eye(self._count), np.ones(spec.width))
        self._losers = [self._floor] * self._count
        self._winner = self._floor + self._rest

    def __call__(self, context: Mapping[str, Any]) -> list[float]:
        both = self._both.dot(self._vector(context))
        roots = both[self._count :]
        bounds = (both[: self._count] + np.sqrt(self._sums.dot(roots * roots))).tolist()
        best = max(bounds)
        times = bounds.count(best)
        if times == 1:
            answer = self._losers.copy()
            answer[bounds.index(best)] = self._winner
            return answer
        shared = self._floor + self._rest / times
        return [shared if bound == best else self._floor for bound in bounds]

    def _shares(self, design: Array) -> Array:
        both = design @ self._both.T
        squares = np.square(both[:, self._count :]) @ self._sums.T
        return winners(both[:, : self._count] + np.sqrt(squares))

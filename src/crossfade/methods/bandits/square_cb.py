"""SquareCB: inverse-gap weighting, which explores a variant the less the further its predicted reward is behind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crossfade.methods.bandits.contextual import ContextualSpec, Scorer
from crossfade.methods.bandits.ridge import Ridge
from crossfade.methods.bandits.spec import demand
from crossfade.methods.stats.distributions import Array


class SquareCB(ContextualSpec, frozen=True, kw_only=True, tag="square_cb"):
    """A variant whose prediction is behind by a gap gets 1 / (K + gamma gap), and the best one gets the rest.

    gamma = `gamma` n ^ `exponent`, where n is how many rewards were learned, less what has been forgotten: exploring
    fades, and comes back when nothing is learned any more. Rewards are meant to be between 0 and 1, or `gamma` to be
    divided by their range.

    Args:
        gamma: The larger, the greedier.
        exponent: How soon exploring fades.

    Raises:
        InvalidPolicyError: `gamma` or `exponent` is negative.

    Source:
        Foster, Rakhlin: Beyond UCB: optimal and efficient contextual bandits with regression oracles (2020), after Abe,
        Long (1999). Defaults: Vowpal Wabbit.
    """

    gamma: float = 10.0
    exponent: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        demand(0 <= self.gamma < math.inf, f"`gamma` is {self.gamma}, which is below zero")
        demand(0 <= self.exponent <= 10, f"`exponent` is {self.exponent} instead of 0 to 10")

    def scorer(self, variants: Sequence[str], models: Sequence[Ridge]) -> Scorer:
        """Return what gives each variant its probability, for one context at a time."""
        return _Scorer(self, variants, models)


def inverse_gap(predictions: Array, gamma: float) -> Array:
    """Return the shares of variants by their predicted rewards, along the last axis.

    Example:
        >>> inverse_gap(np.array([0.5, 0.3, 0.1]), 10.0).round(3).tolist()
        [0.657, 0.2, 0.143]
    """
    count = predictions.shape[-1]
    best = predictions.argmax(axis=-1)[..., None]
    shares: Array = 1 / (count + gamma * (predictions.max(axis=-1, keepdims=True) - predictions))
    np.put_along_axis(shares, best, 0.0, axis=-1)
    np.put_along_axis(shares, best, 1 - shares.sum(axis=-1, keepdims=True), axis=-1)
    return shares


class _Scorer(Scorer):
    def __init__(self, spec: SquareCB, variants: Sequence[str], models: Sequence[Ridge]) -> None:
        super().__init__(spec, variants)
        self._theta = np.array([model.posterior(spec.regularization)[0] for model in models])
        learned = sum(model.weight for model in models)
        self._gamma = spec.gamma * learned**spec.exponent

    def __call__(self, context: Mapping[str, Any]) -> list[float]:
        predictions = self._theta.dot(self._vector(context)).tolist()
        best = max(predictions)
        count, gamma, floor, rest = len(predictions), self._gamma, self._floor, self._rest
        answer = [floor + rest / (count + gamma * (best - each)) for each in predictions]
        place = predictions.index(best)
        answer[place] += 1 - sum(answer)
        return answer

    def _shares(self, design: Array) -> Array:
        return inverse_gap(design @ self._theta.T, self._gamma)

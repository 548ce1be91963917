"""LinTS: Thompson sampling with a linear model for each variant."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from xxhash import xxh3_64_intdigest

from crossfade.methods.bandits.contextual import ContextualSpec, Scorer
from crossfade.methods.bandits.ridge import Ridge
from crossfade.methods.bandits.spec import demand
from crossfade.methods.stats.distributions import Array, normal_quantile

MEMBERS = 120
"""How many models of each variant there are, at least; four for each of its coefficients."""
_CHUNK = 1_000
"""Contexts that are judged together; more would fill the memory."""


class LinTS(ContextualSpec, frozen=True, kw_only=True, tag="lin_ts"):
    """A request goes to a variant in proportion to the probability that its reward is the highest in this context.

    The coefficients of a variant are normal with mean theta and covariance scale^2 inv(A). An ensemble of models, drawn
    from that evenly and once for ever, votes on each context, and the votes are the probabilities. They are within a
    few hundredths of the integral, which would take 20 times as long. What comes out, floor included, is what variants
    are drawn by, and therefore an exact propensity.

    Args:
        scale: Standard deviation of a reward around its model; more explores more.

    Raises:
        InvalidPolicyError: `scale` is not above zero.

    Source:
        Agrawal, Goyal: Thompson sampling for contextual bandits with linear payoffs (2013). Lu, Van Roy: Ensemble
        sampling (2017).
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        demand(0 < self.scale < math.inf, f"`scale` is {self.scale}, which is not above zero")

    def scorer(self, variants: Sequence[str], models: Sequence[Ridge]) -> Scorer:
        """Return what gives each variant its probability, for one context at a time."""
        return _Scorer(self, variants, models)


def ensemble(count: int, width: int) -> Array:
    """Return standard normal deviations of the coefficients of many models of each variant, `(m, count, width)`.

    Mean and covariance are exactly 0 and 1 for every variant. Every model comes with its mirror image, and every set of
    models in all rotations of the variants, so that variants of which the same is known get the same votes exactly.
    """
    sets = math.ceil(max(MEMBERS, 4 * width) / (2 * count))
    # by hashing, because generators of random numbers may give others in the next release of their library
    hashes = [xxh3_64_intdigest(b"%d" % number, width) >> 11 for number in range(sets * count * width)]
    points = normal_quantile((np.array(hashes) + 0.5) * 2.0**-53).reshape(sets * count, width)
    root = np.linalg.cholesky(points.T @ points / len(points))
    even = np.linalg.solve(root, points.T).T.reshape(sets, count, width)
    mirrored = np.concatenate([even, -even])
    return np.concatenate([np.roll(mirrored, shift, axis=1) for shift in range(count)])


class _Scorer(Scorer):
    def __init__(self, spec: LinTS, variants: Sequence[str], models: Sequence[Ridge]) -> None:
        super().__init__(spec, variants)
        deviations = ensemble(len(self.variants), spec.width)
        self._models = np.empty_like(deviations)
        for place, model in enumerate(models):
            theta, root = model.posterior(spec.regularization)
            self._models[:, place] = theta + spec.scale * (deviations[:, place] @ root)
        self._shape = self._models.shape[:2]
        self._flat = self._models.reshape(-1, spec.width)
        self._vote = self._rest / len(self._models)

    def __call__(self, context: Mapping[str, Any]) -> list[float]:
        values = self._flat.dot(self._vector(context)).reshape(self._shape)
        count = len(self.variants)
        if values[0, 0] == 0:  # all features are zero and there is no constant, so that all models agree
            return [1 / count] * count
        votes = np.bincount(values.argmax(1), minlength=count).tolist()
        floor, vote = self._floor, self._vote
        return [floor + vote * each for each in votes]

    def _shares(self, design: Array) -> Array:
        shares = np.empty((len(design), len(self.variants)))
        for begin in range(0, len(design), _CHUNK):
            values = (design[begin : begin + _CHUNK] @ self._flat.T).reshape(-1, *self._shape)
            best = values.argmax(axis=2)
            for place, column in enumerate(shares[begin : begin + _CHUNK].T):
                column[:] = (best == place).mean(axis=1)
        shares[~design.any(axis=1)] = 1 / len(self.variants)
        return shares

"""`Tally`: what is known about one variant from its rewards; mergeable, and able to forget."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from crossfade.errors import InvalidPolicyError
from crossfade.methods.stats.distributions import Array

SMALLEST = 1e-200
"""Weights below this are none, so that their squares do not vanish before them."""


class Tally(msgspec.Struct, frozen=True, array_like=True):
    """Weighted count, mean and squared deviations of rewards.

    A prior is not part of it. Forgetting multiplies the three sums by the same factor, which moves every conjugate
    posterior towards its prior, whatever that is.

    Args:
        weight: Sum of the weights.
        weight_squares: Sum of their squares.
        mean: Weighted mean.
        squares: Weighted sum of squared deviations from it.

    Raises:
        InvalidPolicyError: A number is missing, infinite or negative.

    Source:
        Merging: Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances (1979).
        Forgetting: Kulhavy, Zarrop: On a general concept of forgetting (1993). Weighted count: Kish, Survey Sampling
        (1965).
    """

    weight: float = 0.0
    weight_squares: float = 0.0
    mean: float = 0.0
    squares: float = 0.0

    def __post_init__(self) -> None:
        sums = (self.weight, self.weight_squares, self.squares)
        if not (math.isfinite(self.mean) and all(0 <= each < math.inf for each in sums)):
            raise InvalidPolicyError(problem=f"{self.weight:g} rewards with a mean of {self.mean:g} are no tally")

    @property
    def n(self) -> float:
        """How many unweighted rewards would say as much; fractions come from forgetting."""
        return self.weight * self.weight / self.weight_squares if self.weight > 0 < self.weight_squares else 0.0

    @property
    def variance(self) -> float:
        """Mean squared deviation from the mean; 0 when there is nothing."""
        return self.squares / self.weight if self.weight > 0 else 0.0

    @classmethod
    def of(cls, rewards: Array, kept: Array, importance: Array | None = None) -> Tally:
        """Count rewards.

        Args:
            rewards: `(n,)`.
            kept: How much each still counts, from 0 to 1, `(n,)`: a half counts like half a reward.
            importance: How many rewards that were not shown each stands for as well, `(n,)`; unlike `kept`, this makes
                the count smaller than the sum of weights.
        """
        importance = np.ones_like(kept) if importance is None else importance
        weights = kept * importance
        total = float(weights.sum())
        if not total > SMALLEST:
            return cls()
        mean = float(weights @ rewards) / total
        return cls(total, float(weights @ importance), mean, float(weights @ np.square(rewards - mean)))

    @classmethod
    def estimated(cls, n: float, mean: float, variance: float = 0.0) -> Tally:
        """Return a tally that says as much as so many rewards with this mean and variance: for a warm start.

        Example:
            >>> Tally.estimated(200, 0.03).n
            200.0
        """
        n = float(n)
        return cls(n, n, float(mean), n * float(variance))

    def times(self, factor: float) -> Tally:
        """Return it with every reward counted that much: forgotten in part, or trusted in part."""
        if not self.weight * factor > SMALLEST:
            return Tally()
        return Tally(self.weight * factor, self.weight_squares * factor, self.mean, self.squares * factor)

    def plus(self, other: Tally) -> Tally:
        """Return both together."""
        if other.weight == 0 or self.weight == 0:
            return self if other.weight == 0 else other
        total = self.weight + other.weight
        apart = other.mean - self.mean
        return Tally(
            total,
            self.weight_squares + other.weight_squares,
            self.mean + apart * (other.weight / total),
            self.squares + other.squares + apart * apart * (self.weight * (other.weight / total)),
        )

"""`Ridge`: a linear model of the reward of one variant, kept as sums; mergeable, and able to forget."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from crossfade.errors import InvalidPolicyError
from crossfade.methods.bandits.tallies import SMALLEST
from crossfade.methods.stats.distributions import Array


class Ridge(msgspec.Struct, frozen=True, array_like=True):
    """Sums of x x' and of x r over weighted rewards. The regularization, being the prior, is not part of them.

    Args:
        weight: Sum of the weights.
        gram: Upper triangle of the sum of x x', row by row, d (d + 1) / 2 numbers.
        moment: Sum of x r, d numbers.

    Raises:
        InvalidPolicyError: Numbers are missing, infinite, or not as many as they should be.

    Source:
        Hoerl, Kennard: Ridge regression (1970). Forgetting: Kulhavy, Zarrop: On a general concept of forgetting (1993).
    """

    weight: float
    gram: tuple[float, ...]
    moment: tuple[float, ...]

    def __post_init__(self) -> None:
        width = len(self.moment)
        finite = all(map(math.isfinite, (*self.gram, *self.moment)))
        if not (0 <= self.weight < math.inf and finite and len(self.gram) == width * (width + 1) // 2):
            raise InvalidPolicyError(problem=f"{len(self.gram)} and {width} numbers are no sums of a linear model")

    @classmethod
    def nothing(cls, width: int) -> Ridge:
        """Return a model that has seen no reward."""
        return cls(0.0, (0.0,) * (width * (width + 1) // 2), (0.0,) * width)

    @classmethod
    def of(cls, design: Array, rewards: Array, kept: Array) -> Ridge:
        """Sum up rewards.

        Args:
            design: `(n, d)`.
            rewards: `(n,)`.
            kept: How much each counts, `(n,)`.
        """
        weighted = design * kept[:, None]
        gram = weighted.T @ design
        return cls(
            float(kept.sum()),
            tuple(gram[np.triu_indices(design.shape[1])].tolist()),
            tuple((weighted.T @ rewards).tolist()),
        )

    def times(self, factor: float) -> Ridge:
        """Return it with every reward counted that much: forgotten in part, or trusted in part."""
        if not self.weight * factor > SMALLEST:
            return Ridge.nothing(len(self.moment))
        return Ridge(
            self.weight * factor,
            tuple(factor * each for each in self.gram),
            tuple(factor * each for each in self.moment),
        )

    def plus(self, other: Ridge) -> Ridge:
        """Return both together."""
        return Ridge(
            self.weight + other.weight,
            tuple(a + b for a, b in zip(self.gram, other.gram, strict=True)),
            tuple(a + b for a, b in zip(self.moment, other.moment, strict=True)),
        )

    def posterior(self, regularization: float) -> tuple[Array, Array]:
        """Return the coefficients, `(d,)`, and a root R of the inverse of A, with x' inv(A) x = |R x|^2, `(d, d)`.

        A is the regularization on the diagonal plus the sum of x x'; of a model that has seen nothing, its inverse is
        the identity divided by the regularization.
        """
        width = len(self.moment)
        gram = np.zeros((width, width))
        gram[np.triu_indices(width)] = self.gram
        gram = gram + np.triu(gram, 1).T
        values, vectors = np.linalg.eigh(gram)
        # rounding can make the least eigenvalue of such a sum slightly negative, which it cannot be
        root = vectors.T / np.sqrt(np.maximum(values, 0.0) + regularization)[:, None]
        return root.T @ (root @ np.array(self.moment)), root

"""`Moments`: count, means and co-moments of columns; mergeable, subtractable, for one cell or for many at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossfade.methods.stats.distributions import Array
from crossfade.methods.stats.values import require


@dataclass(frozen=True, eq=False)
class Moments:
    """Sufficient statistics of d columns. Leading dimensions (`...`) are cells: days, segments, variants.

    Sums of squares are never kept: for values around 1e9 with variance 1 they lose every digit of the variance, and
    co-moments around the mean lose none.

    Args:
        n: How many observations, `(...)` int64.
        mean: Of each column, `(..., d)`.
        m2: Sums of products of deviations from the mean, `(..., d, d)`; the covariance is `m2 / (n - 1)`.

    Source:
        Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances (1979).

    Example:
        >>> first, second = Moments.of([1.0, 2.0]), Moments.of([3.0, 4.0, 5.0])
        >>> float(first.merge(second).mean[0])
        3.0
    """

    n: NDArray[np.int64]
    mean: Array
    m2: Array

    @classmethod
    def of(cls, values: ArrayLike) -> Moments:
        """Return the moments of observations.

        Args:
            values: `(rows,)` for one column, `(rows, d)`, or `(..., rows, d)` for many cells of equally many rows.

        Raises:
            InvalidAnalysisError: A value is missing, infinite, or too large to be squared.
        """
        rows = _rows(values)
        count = rows.shape[-2]
        mean = rows.mean(axis=-2) if count else np.zeros((*rows.shape[:-2], rows.shape[-1]))
        deviations = rows - mean[..., None, :]
        with np.errstate(over="ignore", invalid="ignore"):
            m2 = np.swapaxes(deviations, -1, -2) @ deviations
        return cls(np.full(rows.shape[:-2], count, dtype=np.int64), mean, m2)._checked()

    @classmethod
    def grouped(cls, values: ArrayLike, groups: NDArray[np.integer], cells: int) -> Moments:
        """Return the moments of every group in one pass over the rows.

        Args:
            values: `(rows,)` or `(rows, d)`.
            groups: Which cell each row belongs to, `(rows,)` from 0 to `cells - 1`.
            cells: How many groups there are.

        Raises:
            InvalidAnalysisError: A value is missing, infinite, or too large to be squared, or a group is not one of
                the cells.
        """
        rows = _rows(values)
        require(groups.shape == rows.shape[:1], "there are not as many groups as rows")
        require(not groups.size or bool(groups.min() >= 0 and groups.max() < cells), f"groups are 0 to {cells - 1}")
        d = rows.shape[1]
        n = np.bincount(groups, minlength=cells)
        divisor = np.maximum(n, 1)
        mean = np.stack([np.bincount(groups, rows[:, j], cells) / divisor for j in range(d)], axis=-1)
        deviations = rows - mean[groups]
        m2 = np.empty((cells, d, d))
        with np.errstate(over="ignore", invalid="ignore"):
            for j in range(d):
                for k in range(j + 1):
                    m2[:, j, k] = m2[:, k, j] = np.bincount(groups, deviations[:, j] * deviations[:, k], cells)
        return cls(n, mean, m2)._checked()

    @classmethod
    def empty(cls, columns: int, cells: tuple[int, ...] = ()) -> Moments:
        """Return the moments of nothing."""
        return cls(np.zeros(cells, dtype=np.int64), np.zeros((*cells, columns)), np.zeros((*cells, columns, columns)))

    def merge(self, other: Moments) -> Moments:
        """Return the moments of the observations of both."""
        n = self.n + other.n
        share = other.n / np.maximum(n, 1)
        delta = other.mean - self.mean
        outer = delta[..., :, None] * delta[..., None, :] * (self.n * share)[..., None, None]
        return Moments(n, self.mean + delta * share[..., None], self.m2 + other.m2 + outer)

    def subtract(self, other: Moments) -> Moments:
        """Return the moments of what remains when the observations of `other` are taken out again.

        Raises:
            InvalidAnalysisError: `other` has more observations.
        """
        n = self.n - other.n
        require(bool(np.all(n >= 0)), "more observations would be taken out than there are")
        divisor = np.maximum(n, 1)[..., None]
        mean = np.where(n[..., None] > 0, self.mean + (self.mean - other.mean) * (other.n[..., None] / divisor), 0.0)
        delta = other.mean - mean
        weight = (n * other.n / np.maximum(self.n, 1))[..., None, None]
        m2 = self.m2 - other.m2 - delta[..., :, None] * delta[..., None, :] * weight
        m2 = np.where(n[..., None, None] > 1, m2, 0.0)
        diagonal = np.einsum("...ii->...i", m2)
        np.maximum(diagonal, 0.0, out=diagonal)  # rounding must not make a variance negative
        return Moments(n, mean, m2)

    def total(self, axis: int = 0) -> Moments:
        """Return the moments of all cells along an axis together, as if they had been merged one by one."""
        axis = axis % self.n.ndim
        n = self.n.sum(axis=axis)
        origin = self.mean.take([0], axis=axis)  # means far from zero keep their digits when counted from one of them
        moved = ((self.mean - origin) * self.n[..., None]).sum(axis=axis, keepdims=True)
        centre = origin + moved / np.maximum(np.expand_dims(n, axis), 1)[..., None]
        mean, delta = centre.squeeze(axis), self.mean - centre
        between = (delta[..., :, None] * delta[..., None, :] * self.n[..., None, None]).sum(axis=axis)
        return Moments(n, mean, self.m2.sum(axis=axis) + between)

    def within(self, axis: int = 0) -> Moments:
        """Return the moments along an axis without what lies between the cells: only deviations from each cell's mean.

        The covariance of two columns inside of variants is this, whatever the effect of the treatment on one of them.
        """
        return Moments(self.n.sum(axis=axis), self.total(axis).mean, self.m2.sum(axis=axis))

    @classmethod
    def stack(cls, cells: list[Moments]) -> Moments:
        """Return one batch of several cells, along a new first axis."""
        return cls(
            np.stack([cell.n for cell in cells]),
            np.stack([cell.mean for cell in cells]),
            np.stack([cell.m2 for cell in cells]),
        )

    def __getitem__(self, cell: int | tuple[int, ...]) -> Moments:
        """Return one cell of a batch."""
        return Moments(np.asarray(self.n[cell]), self.mean[cell], self.m2[cell])

    @property
    def covariance(self) -> Array:
        """The covariance matrix of the columns, `(..., d, d)`; zeros where there are fewer than two observations."""
        divisor = np.maximum(self.n - 1, 1)[..., None, None]
        covariance: Array = self.m2 / divisor
        return covariance

    def _checked(self) -> Moments:
        require(bool(np.isfinite(self.m2).all()), "a value is too large to be squared")
        return self


def _rows(values: ArrayLike) -> Array:
    rows = np.asarray(values, dtype=np.float64)
    require(bool(np.isfinite(rows).all()), "a value is missing or infinite")
    return rows[:, None] if rows.ndim == 1 else rows

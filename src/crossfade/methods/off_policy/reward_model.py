"""Models of the reward: what an action would have earned in a context in which another one was taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from crossfade.methods.off_policy.log import Log, Places
from crossfade.methods.stats.distributions import Array

FOLDS = 5
PULL = 1.0
"""How many rows the mean that a model falls back on counts like, and the regularization of coefficients."""


class RewardModel(Protocol):
    """A fitted model."""

    @classmethod
    def fit(cls, log: Log, rows: Places) -> Self:
        """Fit it to some rows of a log."""

    def predict(self, log: Log, action: int, rows: Places) -> Array:
        """Return the expected reward of an action in the contexts of some rows."""

    def pull(self, log: Log, action: int, rows: Places, wanted: Array | float, taken: Places) -> Array:
        """Return by how much the sum of `wanted` x prediction over `rows` grows with each reward of the rows `taken`.

        Args:
            log: That it was fitted to.
            action: Whose predictions are summed up.
            rows: Over which.
            wanted: Weight of each prediction.
            taken: Rows in which that action was taken.
        """


@dataclass(frozen=True)
class CellMeans:
    """The mean reward of each action in each cell of contexts, near the mean of the action where rows are few.

    Without cells all contexts are one.

    Args:
        table: `(cells, actions)`.
        counts: Rows behind each, `(cells, actions)`.
    """

    table: Array
    counts: Array

    @classmethod
    def fit(cls, log: Log, rows: Places) -> Self:
        """Take means of some rows of a log."""
        shape = (_cell_count(log), len(log.names))
        flat = _cells(log, rows) * shape[1] + log.actions[rows]
        size = shape[0] * shape[1]
        counts = np.bincount(flat, minlength=size).reshape(shape).astype(np.float64)
        sums = np.bincount(flat, log.rewards[rows], size).reshape(shape)
        overall = float(log.rewards[rows].mean())
        by_action = (sums.sum(axis=0) + PULL * overall) / (counts.sum(axis=0) + PULL)
        return cls((sums + PULL * by_action) / (counts + PULL), counts)

    def predict(self, log: Log, action: int, rows: Places) -> Array:
        """Return the mean of an action in the cells of some rows."""
        found: Array = self.table[_cells(log, rows), action]
        return found

    def pull(self, log: Log, action: int, rows: Places, wanted: Array | float, taken: Places) -> Array:
        """Return what a reward does to the sum of predictions: by the mean of its cell, and by the fallback."""
        weights = np.broadcast_to(np.asarray(wanted, dtype=np.float64), len(rows))
        by_cell = np.bincount(_cells(log, rows), weights, len(self.table))
        counts = self.counts[:, action]
        fallback = float((by_cell * PULL / (counts + PULL)).sum()) / (float(counts.sum()) + PULL)
        own: Array = (by_cell / (counts + PULL))[_cells(log, taken)]
        return own + fallback


@dataclass(frozen=True)
class LinearRewards:
    """Ridge regression for each action on standardised features, pulled towards the regression of all actions together.

    Args:
        coefficients: `(actions, d + 1)`, the constant first.
        inverses: Of the regularised sums of x x', `(actions, d + 1, d + 1)`.
        center: Means of the features, `(d,)`.
        spread: Their standard deviations, `(d,)`.

    Source:
        Hoerl, Kennard: Ridge regression (1970).
    """

    coefficients: Array
    inverses: Array
    center: Array
    spread: Array

    @classmethod
    def fit(cls, log: Log, rows: Places) -> Self:
        """Regress the rewards of some rows on their features."""
        features = _features(log)[rows]
        center, spread = features.mean(axis=0), features.std(axis=0)
        spread = np.where(spread > 1e-9 * (1 + np.abs(center)), spread, 1.0)
        nothing = np.zeros((0, 0))
        frame = cls(nothing, nothing, center, spread)
        design, rewards = frame._design(features), log.rewards[rows]
        shared, _ = _ridge(design, rewards)
        left = rewards - design @ shared
        of_action = [log.actions[rows] == action for action in range(len(log.names))]
        fitted = [_ridge(design[mask], left[mask]) for mask in of_action]
        return cls(
            np.array([shared + own for own, _ in fitted]), np.array([each for _, each in fitted]), center, spread
        )

    def predict(self, log: Log, action: int, rows: Places) -> Array:
        """Return the regression of an action at the features of some rows."""
        found: Array = self._design(_features(log)[rows]) @ self.coefficients[action]
        return found

    def pull(self, log: Log, action: int, rows: Places, wanted: Array | float, taken: Places) -> Array:
        """Return what a reward does to the sum of predictions, through the coefficients of its action."""
        design = self._design(_features(log)[rows])
        total = design.T @ np.broadcast_to(np.asarray(wanted, dtype=np.float64), len(rows))
        found: Array = self._design(_features(log)[taken]) @ (self.inverses[action] @ total)
        return found

    def _design(self, features: Array) -> Array:
        return np.column_stack([np.ones(len(features)), (features - self.center) / self.spread])


def fitted_without(model: type[RewardModel], log: Log, folds: int = FOLDS) -> list[tuple[RewardModel, Places]]:
    """Return models, and the rows that each may predict, because it was fitted to all others (cross-fitting).

    Which rows are together is drawn once for ever by their number, so that the same log gives the same figures.

    Source:
        Chernozhukov et al.: Double/debiased machine learning for treatment and structural parameters (2018).
    """
    fold = np.random.Generator(np.random.PCG64(1)).permutation(log.count) % min(folds, log.count)
    return [
        (model.fit(log, np.flatnonzero(fold != each)), np.flatnonzero(fold == each))
        for each in range(int(fold.max()) + 1)
    ]


def _ridge(design: Array, rewards: Array) -> tuple[Array, Array]:
    gram: Array = design.T @ design + PULL * np.eye(design.shape[1])
    inverse: Array = np.linalg.inv(gram).astype(np.float64)
    return inverse @ (design.T @ rewards), inverse


def _cells(log: Log, rows: Places) -> Places:
    return np.zeros(len(rows), dtype=np.intp) if log.cells is None else log.cells[rows]


def _cell_count(log: Log) -> int:
    return 1 if log.cells is None else int(log.cells.max()) + 1


def _features(log: Log) -> Array:
    return np.zeros((log.count, 0)) if log.features is None else log.features

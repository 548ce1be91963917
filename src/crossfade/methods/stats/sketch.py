"""`Sketch`: quantiles of any number of values in a few kilobytes, mergeable without loss in any order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossfade.methods.stats.distributions import Array
from crossfade.methods.stats.values import require


@dataclass(frozen=True, eq=False)
class Sketch:
    """Counts of values in buckets whose width grows with the value, so that every quantile is right to 0.5 %.

    Inside of a bucket values are taken to be spread evenly, so the order statistics around a quantile stay apart.
    Values smaller than 1e-12 in size count as zero.

    Args:
        keys: Of the buckets that are not empty, ascending: below zero for negative values, 0 for zero.
        counts: Of each bucket.

    Source:
        Masson, Rim, Lee: DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees
        (VLDB 2019).

    Example:
        >>> sketch = Sketch.of([1.0, 2.0, 3.0]).merge(Sketch.of([4.0, 5.0]))
        >>> round(sketch.quantile(0.5))
        3
    """

    keys: NDArray[np.int64]
    counts: NDArray[np.int64]

    ACCURACY: ClassVar[float] = 0.005
    SMALLEST: ClassVar[float] = 1e-12
    _LOG: ClassVar[float] = math.log1p(2 * ACCURACY / (1 - ACCURACY))

    @classmethod
    def of(cls, values: ArrayLike) -> Sketch:
        """Return the sketch of values.

        Raises:
            InvalidAnalysisError: A value is missing or infinite.
        """
        keys, counts = np.unique(cls.buckets(values), return_counts=True)
        return cls(keys, counts.astype(np.int64))

    @classmethod
    def buckets(cls, values: ArrayLike) -> NDArray[np.int64]:
        """Return the key of the bucket that each value falls into.

        Raises:
            InvalidAnalysisError: A value is missing or infinite.
        """
        array = np.asarray(values, dtype=np.float64).ravel()
        require(bool(np.isfinite(array).all()), "a value is missing or infinite")
        size = np.abs(array)
        exponent = np.log(np.maximum(size, cls.SMALLEST) / cls.SMALLEST) / cls._LOG
        key = np.where(size > cls.SMALLEST, np.sign(array) * np.maximum(np.ceil(exponent), 1), 0)
        return key.astype(np.int64)

    @classmethod
    def right_edge(cls, key: int) -> float:
        """Return the value that all values of a bucket are at most."""
        return cls._edges(key)[1]

    @property
    def n(self) -> int:
        """How many values."""
        return int(self.counts.sum())

    def merge(self, other: Sketch) -> Sketch:
        """Return the sketch of the values of both; the same as if all had gone into one."""
        keys, places = np.unique(np.concatenate([self.keys, other.keys]), return_inverse=True)
        counts = np.zeros(len(keys), dtype=np.int64)
        np.add.at(counts, places, np.concatenate([self.counts, other.counts]))
        return Sketch(keys, counts)

    def quantile(self, level: float) -> float:
        """Return the value that a share of `level` is at most, right to 0.5 %.

        Raises:
            InvalidAnalysisError: There are no values, or `level` is not from 0 to 1.
        """
        require(0 <= level <= 1, f"{level} is not a level of a quantile")
        require(self.n > 0, "a sketch of no values has no quantiles")
        rank = level * self.n
        upto = np.cumsum(self.counts)
        bucket = min(int(np.searchsorted(upto, rank)), len(self.keys) - 1)
        left, right = self._edges(int(self.keys[bucket]))
        inside = (rank - (upto[bucket] - self.counts[bucket])) / self.counts[bucket]
        return left + (right - left) * float(np.clip(inside, 0.0, 1.0))

    def share_at_most(self, value: float) -> float:
        """Return the share of values that are at most this one, for values at an edge exactly.

        Raises:
            InvalidAnalysisError: There are no values.
        """
        require(self.n > 0, "a sketch of no values has no shares")
        edges: Array = np.array([self._edges(int(key)) for key in self.keys])
        left, right = edges[:, 0], edges[:, 1]
        inside = np.clip((value - left) / np.where(right > left, right - left, 1.0), 0.0, 1.0)
        inside = np.where(right <= value, 1.0, inside)
        return float((inside * self.counts).sum() / self.n)

    @classmethod
    def _edges(cls, key: int) -> tuple[float, float]:
        if key == 0:
            return 0.0, 0.0
        near, far = (cls.SMALLEST * math.exp(cls._LOG * (abs(key) - step)) for step in (1, 0))
        return (near, far) if key > 0 else (-far, -near)

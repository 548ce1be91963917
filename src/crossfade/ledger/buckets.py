"""`Buckets`: the values of many units, counted in the buckets of a sketch: what quantiles remember of each unit.

A unit may change its cell, be seen in a second variant, or go on having values. What a cell's sketch has to give back
then is known exactly, because it is kept by unit: pairs of a code (which metric, which bucket) and a count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossfade.methods.stats.distributions import Array
from crossfade.methods.stats.sketch import Sketch

Integers = NDArray[np.int64]

_SPAN = 2**17
"""Codes of one metric; the buckets of all values up to 1e30 in size need an eighth of them."""


@dataclass(frozen=True, eq=False)
class Buckets:
    """Counts of values by unit and code.

    Args:
        units: Number of the unit, ascending, `(k,)`.
        codes: Of metric and bucket, ascending within a unit, `(k,)`.
        counts: How many values, `(k,)`; below zero where values are taken away.
    """

    units: Integers
    codes: Integers
    counts: Integers

    @classmethod
    def of(cls, metric: int, units: Integers, values: Array) -> Buckets:
        """Return the buckets of single values of one metric."""
        codes = metric * _SPAN + _SPAN // 2 + Sketch.buckets(values)
        return summed(units, codes, np.ones(len(units), dtype=np.int64))

    @classmethod
    def none(cls) -> Buckets:
        """Return the buckets of no values."""
        empty = np.zeros(0, dtype=np.int64)
        return cls(empty, empty, empty)

    @classmethod
    def decoded(cls, blobs: list[bytes]) -> Buckets:
        """Read what `encoded` wrote, one blob for each unit."""
        pairs = np.frombuffer(b"".join(blobs), dtype="<i4").astype(np.int64).reshape(-1, 2)
        units = np.repeat(np.arange(len(blobs)), [len(blob) // 8 for blob in blobs])
        return cls(units, pairs[:, 0], pairs[:, 1])

    def encoded(self, units: int) -> list[bytes]:
        """Return one blob for each of so many units."""
        if not len(self.units):
            return [b""] * units
        data = np.stack([self.codes, self.counts], axis=1).astype("<i4").tobytes()
        ends = np.searchsorted(self.units, np.arange(units + 1)) * 8
        return [data[start:end] for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]

    def plus(self, *others: Buckets) -> Buckets:
        """Return the buckets of the values of all."""
        every = (self, *others)
        return summed(
            *(np.concatenate([getattr(each, name) for each in every]) for name in ("units", "codes", "counts"))
        )

    def minus(self, other: Buckets) -> Buckets:
        """Return what is here and not there, and with counts below zero what is there and not here."""
        return self.plus(Buckets(other.units, other.codes, -other.counts))

    def where(self, units: NDArray[np.bool_]) -> Buckets:
        """Return the buckets of those units only."""
        chosen = units[self.units]
        return Buckets(self.units[chosen], self.codes[chosen], self.counts[chosen])

    def of_metric(self, metric: int) -> Buckets:
        """Return the buckets of one metric; the codes become keys of its sketches."""
        keys = self.codes - metric * _SPAN - _SPAN // 2
        chosen = abs(keys) < _SPAN // 2
        return Buckets(self.units[chosen], keys[chosen], self.counts[chosen])

    def by_cell(self, cells: Integers) -> Buckets:
        """Return the buckets of cells instead of units, `cells[unit]` being the cell of each."""
        return summed(cells[self.units], self.codes, self.counts)

    def total(self, units: int, at_most: int | None = None) -> Array:
        """Return how many values each of so many units has, or how many in buckets up to this one."""
        chosen = slice(None) if at_most is None else self.codes <= at_most
        return np.asarray(np.bincount(self.units[chosen], self.counts[chosen], minlength=units), dtype=np.float64)


def summed(units: Integers, codes: Integers, counts: Integers) -> Buckets:
    """Return buckets in order, one for each pair of unit and code; those that have become empty are left out."""
    order = np.lexsort((codes, units))
    units, codes, counts = units[order], codes[order], counts[order]
    first = np.ones(len(units), dtype=np.bool_)
    first[1:] = (units[1:] != units[:-1]) | (codes[1:] != codes[:-1])
    starts = np.flatnonzero(first)
    sums = np.add.reduceat(counts, starts) if len(starts) else counts
    kept = sums != 0
    return Buckets(units[starts][kept], codes[starts][kept], sums[kept])

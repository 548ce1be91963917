"""What a change of units means for the cells that they are in: rows taken out, rows put in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossfade.ledger.buckets import Buckets, Integers
from crossfade.ledger.evidence import EVERYBODY
from crossfade.ledger.plan import MetricPlan, Plan
from crossfade.ledger.units import DAY_US, Units, day_of
from crossfade.methods.stats.distributions import Array
from crossfade.methods.stats.moments import Moments


class Base(NamedTuple):
    """Where a unit came in: under which revision, to which variant, on which day."""

    revision: int
    variant: str
    day: str


class CellKey(NamedTuple):
    """Which part of an experiment a cell is."""

    revision: int
    variant: str
    day: str
    dimension: str
    value: str

    @property
    def base(self) -> Base:
        """The key without its dimension."""
        return Base(self.revision, self.variant, self.day)


class CellNumbers:
    """Numbers for the cells that occur."""

    def __init__(self, plan: Plan) -> None:
        self._dimensions = plan.measures.dimensions
        self._numbers: dict[CellKey, int] = {}

    @property
    def keys(self) -> list[CellKey]:
        """The cells, by number."""
        return list(self._numbers)

    def of(self, units: Units) -> Integers:
        """Return the cells of each unit that was exposed, `(units, 1 + dimensions)`: everybody's first; else -1."""
        cells = np.full((len(units.names), 1 + len(self._dimensions)), -1, dtype=np.int64)
        rows: dict[tuple[object, int], list[int]] = {}
        days = (units.first // DAY_US).tolist()
        for number in np.flatnonzero(units.known).tolist():
            profile = (units.origins[number], days[number])
            row = rows.get(profile)
            if row is None:
                row = rows[profile] = self._row(units, number)
            cells[number] = row
        return cells

    def _row(self, units: Units, number: int) -> list[int]:
        origin, day = units.origins[number], day_of(int(units.first[number]))
        named = zip((EVERYBODY, *self._dimensions), ("", *origin.values()), strict=True)
        keys = (CellKey(origin.revision, origin.variant, day, dimension, value) for dimension, value in named)
        return [self._numbers.setdefault(key, len(self._numbers)) for key in keys]


@dataclass(frozen=True, eq=False)
class Change:
    """What changes in the cells of one metric; numbers are those of the cells.

    Args:
        removed: Rows that are not there any more, of every cell.
        added: Rows that are there now, of every cell.
        values: Single values that are there now, or with counts below zero not any more; `units` are cells.
        touched: Which cells change.
    """

    removed: Moments
    added: Moments
    values: Buckets
    touched: NDArray[np.bool_]


class Move:
    """Units as they were and as they are; what that changes in the cells of each metric.

    Args:
        plan: What is measured.
        before: Units as they were.
        after: The same units as they are.
    """

    def __init__(self, plan: Plan, before: Units, after: Units) -> None:
        numbers = CellNumbers(plan)
        self._before, self._after = before, after
        self._cells_before, self._cells_after = numbers.of(before), numbers.of(after)
        self.keys = numbers.keys
        self._stayed = (self._cells_before == self._cells_after).all(axis=1)

    def of(self, metric: MetricPlan, cut: int | None) -> Change:
        """Return what changes for one metric, `cut` being that of its quantile."""
        old, was = _rows(metric, cut, self._before)
        new, now = _rows(metric, cut, self._after)
        same = was & now & (old == new).all(axis=1) & self._stayed
        removed = _grouped(old, was & ~same, self._cells_before, len(self.keys))
        added = _grouped(new, now & ~same, self._cells_after, len(self.keys))
        values = Buckets.none()
        if metric.spec.kind == "quantile":
            gone = _values(metric, self._before, self._cells_before)
            values = _values(metric, self._after, self._cells_after).minus(gone)
        touched = (removed.n > 0) | (added.n > 0)
        touched[values.units] = True
        return Change(removed, added, values, touched)

    def arrivals(self) -> dict[Base, tuple[int, int]]:
        """Return by how many units the arrivals change: those that are counted, and those that moved on later.

        Below zero where units are not there any more.
        """
        counted, moved = self._gained(lambda units: units.counted), self._gained(lambda units: units.moved)
        changed = {base: (counted[base], moved[base]) for base in counted.keys() | moved.keys()}
        return {base: changes for base, changes in sorted(changed.items()) if any(changes)}

    def _gained(self, chosen: Callable[[Units], NDArray[np.bool_]]) -> Counter[Base]:
        gained: Counter[Base] = Counter()
        for units, cells, sign in ((self._before, self._cells_before, -1), (self._after, self._cells_after, 1)):
            numbers, counts = np.unique(cells[chosen(units), 0], return_counts=True)
            for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
                gained[self.keys[number].base] += sign * count
        return gained


def grouped(metric: MetricPlan, cut: int | None, units: Units, numbers: CellNumbers) -> Moments:
    """Return the moments of one metric in all cells of these units, from nothing else."""
    cells = numbers.of(units)
    rows, there = _rows(metric, cut, units)
    return _grouped(rows, there, cells, len(numbers.keys))


def _rows(metric: MetricPlan, cut: int | None, units: Units) -> tuple[Array, NDArray[np.bool_]]:
    rows, there = metric.rows(units.state, units.buckets, cut)
    return rows, there & units.counted


def _grouped(rows: Array, chosen: NDArray[np.bool_], cells: Integers, count: int) -> Moments:
    parts = cells.shape[1]  # every unit is in one cell of each dimension
    return Moments.grouped(np.tile(rows[chosen], (parts, 1)), cells[chosen].T.ravel(), count)


def _values(metric: MetricPlan, units: Units, cells: Integers) -> Buckets:
    own = units.buckets.where(units.counted).of_metric(metric.number)
    parts = [own.by_cell(column) for column in cells.T]
    return parts[0].plus(*parts[1:])

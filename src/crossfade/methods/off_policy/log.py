"""`Log`: decisions that were taken, with what each earned and how probable it was, as columns."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossfade.errors import InvalidDecisionLogError
from crossfade.methods.stats.distributions import Array

LARGEST = 1e100
"""Numbers beyond this, of either sign, have no squares that could be added up."""
SMALLEST = 1e-12
"""A propensity below this was none: dividing by it would drown all other rows."""

Places = NDArray[np.intp]


@dataclass(frozen=True)
class Log:
    """A log of decisions.

    Args:
        names: Actions that were taken at all.
        actions: Position in `names` of what was done, `(n,)`.
        rewards: What it earned, `(n,)`.
        propensities: Probability with which it was done in its context, `(n,)`.
        cells: Number of the group of contexts, from 0 on, `(n,)`; a reward model takes a mean for each.
        features: Of the context, `(n, d)`; a reward model is linear in them.

    Raises:
        InvalidDecisionLogError: It is empty, columns differ in length, or a value cannot be used.
    """

    names: tuple[str, ...]
    actions: Places
    rewards: Array
    propensities: Array
    cells: Places | None = None
    features: Array | None = None

    def __post_init__(self) -> None:
        if not len(self.actions):
            raise InvalidDecisionLogError(problem="it has no rows")
        for name in ("rewards", "propensities", "cells", "features"):
            column = getattr(self, name)
            if column is not None and len(column) != self.count:
                problem = f"{self.count} actions have {len(column)} {name}"
                raise InvalidDecisionLogError(problem=problem)
        with np.errstate(invalid="ignore"):
            refuse_rows(~(np.abs(self.rewards) <= LARGEST), "no reward that is a usable number")
            usable = (self.propensities >= SMALLEST) & (self.propensities <= 1)
            refuse_rows(~usable, "a propensity that is not above 0 and at most 1")
            if self.features is not None:
                largest = np.abs(self.features).max(axis=1, initial=0.0)  # NaN where one is NaN
                refuse_rows(~(largest <= LARGEST), "a feature that is no usable number")

    @property
    def count(self) -> int:
        """How many decisions."""
        return len(self.actions)

    @classmethod
    def of(
        cls,
        actions: Sequence[str],
        rewards: Sequence[float] | Array,
        propensities: Sequence[float] | Array,
        *,
        cells: Sequence[Hashable] | None = None,
        features: Array | None = None,
    ) -> Log:
        """Return a log of columns.

        Args:
            actions: What was done, `(n,)` names.
            rewards: What it earned, `(n,)`.
            propensities: With which probability it was done, `(n,)`.
            cells: Anything that tells groups of contexts apart, `(n,)`: a country, or a tuple of several things.
            features: Numbers that describe the context, `(n, d)`.

        Raises:
            InvalidDecisionLogError: It is empty, columns differ in length, or a value cannot be used.
        """
        names, places = numbered(actions)
        return cls(
            tuple(map(str, names)),
            places,
            np.asarray(rewards, dtype=np.float64),
            np.asarray(propensities, dtype=np.float64),
            None if cells is None else numbered(cells)[1],
            None if features is None else np.asarray(features, dtype=np.float64),
        )

    def part(self, begin: int, end: int) -> Log:
        """Return some rows as a log of their own, whose actions are those that were taken there.

        Raises:
            InvalidDecisionLogError: They are none.
        """
        rows = slice(begin, end)
        taken, places = np.unique(self.actions[rows], return_inverse=True)
        return Log(
            tuple(self.names[place] for place in taken),
            places,
            self.rewards[rows],
            self.propensities[rows],
            None if self.cells is None else self.cells[rows],
            None if self.features is None else self.features[rows],
        )


def numbered(values: Sequence[Hashable]) -> tuple[list[Hashable], Places]:
    """Return the distinct values in order of appearance, and the position of each value among them."""
    places: dict[Hashable, int] = {}
    found = np.fromiter((places.setdefault(value, len(places)) for value in values), dtype=np.intp, count=len(values))
    return list(places), found


def refuse_rows(bad: NDArray[np.bool_], problem: str) -> None:
    """Refuse a log in which rows have something bad, and say which.

    Raises:
        InvalidDecisionLogError: There is one.
    """
    count = int(np.count_nonzero(bad))
    if count:
        first = int(bad.argmax()) + 1
        rows = f"row {first} and {count - 1:,} more have" if count > 1 else f"row {first} has"
        raise InvalidDecisionLogError(problem=f"{rows} {problem}")

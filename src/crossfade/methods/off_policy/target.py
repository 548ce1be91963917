"""`Target`: what the policy in question would do in each row of a log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossfade.errors import InvalidDecisionLogError, InvalidPolicyError
from crossfade.methods.off_policy.log import Log, refuse_rows
from crossfade.methods.stats.distributions import Array

TOLERANCE = 1e-6
"""By how much probabilities may miss a sum of 1."""


@dataclass(frozen=True)
class Target:
    """Probabilities of a policy, for a log.

    Args:
        taken: Of the action that was taken, `(n,)`.
        table: Of every action of the log, `(k,)` where they are always the same, else `(n, k)`; None when they are not
            known, and then there is nothing for a reward model to weigh.
        untaken: Action -> probability, on average, of what the policy would do and the log never did.
    """

    taken: Array
    table: Array | None
    untaken: Mapping[str, float]

    @classmethod
    def fixed(cls, log: Log, weights: Mapping[str, float]) -> Target:
        """Return a policy that does the same in every context.

        Args:
            log: That it is evaluated on.
            weights: Probability of each action; actions that are not named have none.

        Raises:
            InvalidPolicyError: Weights are negative or do not sum to 1.
        """
        total = sum(weights.values())
        if not all(0 <= weight <= 1 + TOLERANCE for weight in weights.values()) or not abs(total - 1) <= TOLERANCE:
            raise InvalidPolicyError(problem=f"weights are fractions that sum to 1, and these sum to {total:g}")
        table = np.array([weights.get(name, 0.0) for name in log.names])
        untaken = {name: weight for name, weight in weights.items() if weight > 0 and name not in log.names}
        return cls(table[log.actions], table, untaken)

    @classmethod
    def each(cls, log: Log, variants: Sequence[str], probabilities: Array) -> Target:
        """Return a policy that looks at the context.

        Args:
            log: That it is evaluated on.
            variants: Among which it chooses.
            probabilities: Of each of them in each row, `(n, v)`.

        Raises:
            InvalidPolicyError: Probabilities are negative, missing, or do not sum to 1.
            InvalidDecisionLogError: There is not one row for each of the log.
        """
        if probabilities.shape != (log.count, len(variants)):
            problem = f"{log.count} rows of {len(variants)} probabilities have the shape {probabilities.shape}"
            raise InvalidDecisionLogError(problem=problem)
        sums = probabilities.sum(axis=1)
        if not (bool((probabilities >= 0).all()) and bool((np.abs(sums - 1) <= TOLERANCE).all())):
            raise InvalidPolicyError(problem="in some rows its probabilities are negative or do not sum to 1")
        places = {name: place for place, name in enumerate(variants)}
        table = np.zeros((log.count, len(log.names)))
        for place, name in enumerate(log.names):
            if name in places:
                table[:, place] = probabilities[:, places[name]]
        means = zip(variants, probabilities.mean(axis=0).tolist(), strict=True)
        untaken = {name: mean for name, mean in means if mean > 0 and name not in log.names}
        return cls(table[np.arange(log.count), log.actions], table, untaken)

    @classmethod
    def logged(cls, log: Log, probabilities: Sequence[float] | Array) -> Target:
        """Return a policy of which only is known how probable it finds what was done.

        Args:
            log: That it is evaluated on.
            probabilities: Of the action of each row, `(n,)`.

        Raises:
            InvalidDecisionLogError: There is not one for each row, or one is no probability.
        """
        taken = np.asarray(probabilities, dtype=np.float64)
        if taken.shape != (log.count,):
            raise InvalidDecisionLogError(problem=f"{log.count} rows have {len(taken)} probabilities")
        with np.errstate(invalid="ignore"):
            refuse_rows(~((taken >= 0) & (taken <= 1)), "a probability of the policy that is not between 0 and 1")
        return cls(taken, None, {})

    def of_action(self, place: int, rows: NDArray[np.intp] | slice = slice(None)) -> Array | float:
        """Return the probability of an action, in some rows."""
        if self.table is None:
            return math.nan
        if self.table.ndim == 1:
            return float(self.table[place])
        column: Array = self.table[rows, place]
        return column

"""What people ask of a policy: the settings that all kinds share, and what each kind has to answer."""

from __future__ import annotations

import math
from typing import ClassVar

import msgspec
import numpy as np

from crossfade.errors import InvalidPolicyError
from crossfade.methods.bandits.tallies import Tally
from crossfade.methods.stats.best_arm import probability_best
from crossfade.methods.stats.distributions import Array
from crossfade.methods.stats.values import NotEstimable


def demand(condition: bool, problem: str) -> None:
    """Refuse what no policy can be made of; false for a comparison with NaN, so NaN is refused too.

    Raises:
        InvalidPolicyError: The condition does not hold.
    """
    if not condition:
        raise InvalidPolicyError(problem=problem)


class Spec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="kind"):
    """What every kind of policy has.

    Args:
        floor: Probability that every variant keeps, whatever is known of it: what makes a log fit for evaluating other
            policies, and notices when a variant becomes better.
        half_life_seconds: After this long a reward counts half, and what is known drifts back to the prior; None never
            forgets. It is about time, not about how often or in which order rewards are learned.

    Raises:
        InvalidPolicyError: A value is out of its range.
    """

    floor: float = 0.01
    half_life_seconds: float | None = None

    def __post_init__(self) -> None:
        demand(0 <= self.floor <= 1, f"`floor` is {self.floor}, which is no probability")
        life = self.half_life_seconds
        demand(life is None or 1 <= life < math.inf, f"`half_life_seconds` is {life}, which is below 1")

    def check_floor(self, count: int) -> None:
        """Refuse a floor that so many variants cannot all have.

        Raises:
            InvalidPolicyError: Together they would have more than 1.
        """
        # a floor of 1/3 for three variants is meant to be possible
        demand(self.floor * count <= 1 + 1e-9, f"a floor of {self.floor:g} for each of {count} variants is more than 1")

    def floored(self, shares: Array) -> Array:
        """Return probabilities of which none is below the floor: p = floor + (1 - K floor) share.

        Cutting off below and scaling back to 1, which others do, ends below the floor.

        Args:
            shares: What the method itself would give, along the last axis; they sum to 1.
        """
        floor = min(self.floor, 1 / shares.shape[-1])
        probabilities: Array = floor + (1 - shares.shape[-1] * floor) * shares
        return probabilities

    def keep_after(self, seconds: float) -> float:
        """Return how much a reward still counts that is so old."""
        if self.half_life_seconds is None:
            return 1.0
        return float(2.0 ** -(max(seconds, 0.0) / self.half_life_seconds))

    def keep_each(self, ages: Array) -> Array:
        """Return how much each reward still counts, by its age in seconds; one from the future counts as new."""
        if self.half_life_seconds is None:
            return np.ones_like(ages)
        kept: Array = np.exp2(-np.maximum(ages, 0.0) / self.half_life_seconds)
        return kept


class ContextFreeSpec(Spec, frozen=True, kw_only=True):
    """A policy that treats all requests alike, so that it ends as one weight for each variant.

    Args:
        weigh_by_propensity: Count a reward 1 / propensity times. Needed when rewards of all variants change with time
            while weights do, because a variant that was shown mostly in good times looks good; costs precision.
    """

    bounded: ClassVar[bool] = True
    """Whether rewards have to be between 0 and 1."""
    weigh_by_propensity: bool = False

    def shares(self, tallies: tuple[Tally, ...]) -> Array:
        """Return how much of the traffic each variant deserves, before the floor; `(k,)`, they sum to 1."""
        raise NotImplementedError

    def chances(self, tallies: tuple[Tally, ...]) -> Array | NotEstimable:
        """Return the probability that each variant is the best: here, of normal means without a prior."""
        if any(each.n <= 1 or each.variance <= 0 for each in tallies):
            return NotEstimable("a variant has no two different rewards yet, so nothing is known about its spread")
        errors = [math.sqrt(each.variance / (each.n - 1)) for each in tallies]
        return probability_best([each.mean for each in tallies], errors)


def winners(index: Array) -> Array:
    """Return all of the traffic for the largest along the last axis, in equal parts when several are.

    Example:
        >>> winners(np.array([0.1, 0.5, 0.5])).tolist()
        [0.0, 0.5, 0.5]
    """
    best = (index == index.max(axis=-1, keepdims=True)).astype(np.float64)
    shared: Array = best / best.sum(axis=-1, keepdims=True)
    return shared

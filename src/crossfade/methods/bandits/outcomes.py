"""`Outcomes`: decisions whose rewards are known, as columns: what a policy learns from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from crossfade.errors import InvalidDecisionLogError
from crossfade.methods.stats.distributions import Array

LARGEST = 1e100
"""Rewards beyond this, of either sign, have no squares that could be added up."""


@dataclass(frozen=True)
class Outcomes:
    """Matured decisions: each is old enough that no reward can come any more, and appears once.

    Whoever keeps the log waits until decisions have matured and leaves out what was handed over before. A decision that
    earned nothing belongs here with its reward of 0; leaving it out would make every variant look good.

    Args:
        variants: What was decided, `(n,)` names.
        rewards: What it earned, `(n,)`; larger is better.
        decided_at: When, in seconds since 1970 in UTC, `(n,)`; only policies that forget look at it.
        propensities: Probability with which it was decided, `(n,)`; needed where a policy weighs by it.
        contexts: The features as the policy orders them, `(n, d)`; see `Features.matrix`.
        ids: Of the decisions, `(n,)`: how a message names one.

    Raises:
        InvalidDecisionLogError: Columns differ in length, or a value cannot be used.

    Example:
        >>> Outcomes(("a", "b"), np.array([1.0, 0.0]), np.array([0.0, 60.0])).count
        2
    """

    variants: Sequence[str]
    rewards: Array
    decided_at: Array
    propensities: Array | None = None
    contexts: Array | None = None
    ids: Sequence[str] | None = None

    def __post_init__(self) -> None:
        for name in ("rewards", "decided_at", "propensities", "contexts"):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, np.asarray(given, dtype=np.float64))
        for name in ("rewards", "decided_at", "propensities", "contexts", "ids"):
            given = getattr(self, name)
            if given is not None and len(given) != self.count:
                problem = f"{self.count} decisions have {len(given)} {name.replace('_', ' ')}"
                raise InvalidDecisionLogError(problem=problem)
        with np.errstate(invalid="ignore"):
            self._refuse(~(np.abs(self.rewards) <= LARGEST), "no reward that is a usable number")
        self._refuse(~np.isfinite(self.decided_at), "no time")
        if self.propensities is not None:
            with np.errstate(invalid="ignore"):
                usable = (self.propensities > 0) & (self.propensities <= 1)
            self._refuse(~usable, "a propensity that is not above 0 and at most 1")

    @property
    def count(self) -> int:
        """How many decisions."""
        return len(self.variants)

    def check_rewards(self) -> None:
        """Refuse rewards that are not between 0 and 1.

        Raises:
            InvalidDecisionLogError: One is not.
        """
        self._refuse((self.rewards < 0) | (self.rewards > 1), "a reward that is not between 0 and 1")

    def rows_of(
        self, variants: Sequence[str], retired: Sequence[str]
    ) -> Iterator[np.ndarray[tuple[int], np.dtype[np.intp]]]:
        """Yield the rows of each variant; those of retired ones belong to none.

        Raises:
            InvalidDecisionLogError: A row is of something else.
        """
        places = dict.fromkeys(retired, -1) | {name: place for place, name in enumerate(variants)}
        try:
            place = np.fromiter((places[name] for name in self.variants), dtype=np.intp, count=self.count)
        except KeyError:
            unknown = [name not in places for name in self.variants]
            self._refuse(np.array(unknown), "a variant that the policy does not know")
            raise
        yield from (np.flatnonzero(place == number) for number in range(len(variants)))

    def _refuse(self, bad: np.ndarray[tuple[int], np.dtype[np.bool_]], problem: str) -> None:
        if not bad.any():
            return
        first = int(bad.argmax())
        name = f"number {first}" if self.ids is None else f"`{self.ids[first]}`"
        others = int(bad.sum()) - 1
        more = f", and {others} more" if others else ""
        variant = str(self.variants[first])[:80]
        raise InvalidDecisionLogError(problem=f"decision {name} (`{variant}`){more} has {problem}")

"""`Decision`: which variant a unit gets and why; and the count of those that could not be taken properly."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec


class Reason(StrEnum):
    """Why a variant was chosen. Of what runs, the first three take part; all others get the fallback or an override."""

    STATIC = "static"
    """Everybody gets this variant: there is no other, or it was decided."""
    TARGETING_MATCH = "targeting_match"
    """The whole segment gets this variant: there is no other."""
    SPLIT = "split"
    """The unit's slot belongs to the variant."""
    OVERRIDE = "override"
    """Somebody said that this unit gets this variant."""
    SCHEDULE = "schedule"
    """The experiment has not started yet, or it has ended."""
    PAUSED = "paused"
    """The experiment gives everybody the fallback for now."""
    HOLDOUT = "holdout"
    """The unit takes part in nothing here."""
    EXCLUDED = "excluded"
    """The unit is kept for another experiment of the layer, or for a later one."""
    NOT_TARGETED = "not_targeted"
    """The request is outside the segment."""
    NOT_COVERED = "not_covered"
    """The unit does not take part yet."""
    MISSING_UNIT = "missing_unit"
    """The request does not say who asks."""
    MISSING_CONTEXT = "missing_context"
    """There is a segment, and the request has no context to look at."""
    NOT_RUNNING = "not_running"
    """The request names an experiment that does not run on this model."""
    ERROR = "error"
    """The context could not be compared: it holds something that JSON does not have."""


COUNTED = frozenset({Reason.MISSING_UNIT, Reason.MISSING_CONTEXT, Reason.NOT_RUNNING, Reason.ERROR})
"""What a caller has to repair; everything else is as intended."""


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What one unit gets. Decisions are made once, when an allocation is compiled, and shared by all who get them.

    Args:
        experiment: Which one decided.
        variant: Who answers.
        reason: Why, as a code.
        words: Why, in a sentence.
        enrolled: Whether the unit takes part, so that its exposure counts.
        propensity: The probability of this variant among those who take part; 1 where nothing was drawn.
        revision: Of the allocation.
        value: What the variant stands for to clients of feature flags.
        missing: Of `MISSING_UNIT`: what should say who asks: `unit_id`, an attribute of the context, or `request_id`.
    """

    experiment: str
    variant: str
    reason: Reason
    words: str
    enrolled: bool = False
    propensity: float = 1.0
    revision: int = 1
    value: Any = None
    missing: str = ""


class Tally:
    """Counts decisions that had to fall back; shared by everything that one process compiles.

    Example:
        >>> tally = Tally()
        >>> tally.add("late", Reason.MISSING_UNIT)
        >>> tally.counts()
        {('late', <Reason.MISSING_UNIT: 'missing_unit'>): 1}
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, Reason]] = Counter()
        self._lock = threading.Lock()  # only those who fall back come here

    def add(self, experiment: str, reason: Reason) -> None:
        """Count one."""
        with self._lock:
            self._counts[experiment, reason] += 1

    def counts(self) -> Mapping[tuple[str, Reason], int]:
        """Return (experiment, reason) -> how many."""
        with self._lock:
            return dict(self._counts)

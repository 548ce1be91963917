"""`Evidence`: everything that an analysis of one experiment reads, from roll-ups and not from events."""

from __future__ import annotations

from dataclasses import dataclass

from crossfade.methods.stats.moments import Moments
from crossfade.methods.stats.sketch import Sketch

EVERYBODY = ""
"""The dimension whose only value, the empty one, holds all units."""
OTHER = "(other)"
"""The value of units whose own came after the most that one dimension may have."""
UNKNOWN = "(unknown)"
"""The value of units whose context did not have the dimension's attribute."""


@dataclass(frozen=True, eq=False)
class Cell:
    """What one metric is in one part of an experiment; parts merge.

    Columns of `moments`, one row per unit: the value, or numerator and denominator; then the covariate, where there is
    one. In an experiment with shadows, further columns: the value that each shadow would have had (same unit, same
    requests), in the order of the experiment's shadows; control first, so differences are paired.
    Of a quantile: how many of the unit's values are at most `cut`, and how many values it has.

    Args:
        revision: Of the allocation, under which the units were first exposed.
        variant: Which they got.
        day: Of their first exposure, `2026-11-27` (UTC).
        dimension: A declared one, or `EVERYBODY`.
        value: Of the dimension.
        metric: Its name.
        moments: Of the units.
        sketch: Of single values, for quantiles.
        cut: The frozen value that quantiles are clustered around.
    """

    revision: int
    variant: str
    day: str
    dimension: str
    value: str
    metric: str
    moments: Moments
    sketch: Sketch | None = None
    cut: float | None = None


@dataclass(frozen=True)
class Arrival:
    """How many units came to one variant on one day under one revision.

    Args:
        revision: Of the allocation.
        variant: Which.
        day: Of their first exposure.
        units: How many; those seen in two variants are not among them.
        weight: The variant's propensity under that revision.
        moved: How many more came, and were seen in another variant later: they are not analyzed, but they did come.
    """

    revision: int
    variant: str
    day: str
    units: int
    weight: float
    moved: int = 0

    @property
    def came(self) -> int:
        """How many units came, whatever happened to them later."""
        return self.units + self.moved


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known about an experiment.

    Args:
        experiment: Its name.
        cells: By revision, variant, day, dimension and metric.
        arrivals: By revision, variant and day.
        multiple: Units that were seen in two variants: excluded everywhere.
        exposures: How many events.
        outcomes: How many events that count.
        early: Outcomes before the first exposure of their unit, which are in no covariate either: they do not count.
        orphans: Outcomes whose decision or unit is not known (yet).
        unplaced: Those of them that name a decision: as nobody knows it, it may be one of another experiment.
        refused: Reason -> events that could not be used, such as a value that is not finite.
        incomplete: Why events are missing that there have been; empty when there are all.
        awaited: Why events may still be on their way, though they happened long ago.
        first_us: Time of the first exposure, None before it.
        last_us: Time of the newest event.
    """

    experiment: str
    cells: tuple[Cell, ...] = ()
    arrivals: tuple[Arrival, ...] = ()
    multiple: int = 0
    exposures: int = 0
    outcomes: int = 0
    early: int = 0
    orphans: int = 0
    unplaced: int = 0
    refused: tuple[tuple[str, int], ...] = ()
    incomplete: tuple[str, ...] = ()
    awaited: tuple[str, ...] = ()
    first_us: int | None = None
    last_us: int | None = None

"""`Batch`: the new events of one experiment, and what they make of its units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec
import numpy as np
from sqlalchemy import Connection

from crossfade.ledger.admission import problem_of_exposure, problem_of_outcome
from crossfade.ledger.changes import Base
from crossfade.ledger.columns import control_score, exposure_columns, outcome_columns, refused_values
from crossfade.ledger.counts import Counts
from crossfade.ledger.events import Exposure, Outcome
from crossfade.ledger.joining import Joined
from crossfade.ledger.measured import Measured
from crossfade.ledger.metrics import SHADOW_SCORE
from crossfade.ledger.raw import exposures_of, outcomes_of
from crossfade.ledger.sums import ExposureColumns, OutcomeColumns, sums, unusable
from crossfade.ledger.units import Origin, Units, day_of


class Batch:
    """New events of one experiment.

    Args:
        measured: The experiment; its dimensions may get new values.
        before: The units of these events, as they are stored.
        joined: The events.
    """

    def __init__(self, measured: Measured, before: Units, joined: Joined) -> None:
        self._measured = measured
        self._plan = measured.plan
        self._before = before
        self._numbers = {name: number for number, name in enumerate(before.names)}
        self._exposures: Sequence[Exposure] = joined.exposures
        self._firsts = _firsts(joined.exposures)
        exposed = {name for name, known in zip(before.names, before.known.tolist(), strict=True) if known}
        exposed |= self._firsts.keys()
        self._outcomes = [outcome for outcome in joined.outcomes if outcome.unit in exposed]
        self.early = [outcome.event for outcome in joined.outcomes if outcome.unit not in exposed]
        """Outcomes of units that have not been exposed yet: they have to wait."""
        self._columns = self._in_columns()
        self._again: set[str] = set()
        self.weights: dict[Base, float] = {}
        """The greatest propensity of the units that came, by where they came in."""

    def count(self, counts: Counts) -> None:
        """Count the new events, and values of them that cannot be used."""
        experiment = self._measured.experiment
        counts.add(experiment, "exposures", len(self._exposures))
        for reason, count in refused_values(self._plan, self._exposures, self._columns[0]).items():
            counts.refuse(experiment, reason, count)
        counts.refuse(experiment, "loss", unusable(self._plan, self._columns[1]))
        self._measured.saw(self._columns[0].at.tolist(), self._columns[1].at.tolist())

    def read_again(self, connection: Connection, counts: Counts) -> None:
        """Take all events of those units that turn out to have been exposed earlier than was known.

        Which of their values count changes with the first exposure, and sums do not know their values' times any more.
        Where the raw events of such a unit are not kept any more, it stays as it is, and that is counted.
        """
        late = self._late()
        if not late:
            return
        experiment = self._measured.experiment
        events = exposures_of(connection, experiment, sorted(late))
        ids = {event.id for event in events}
        lost = {name for name in late if self._before.decisions[self._numbers[name]] not in ids}
        counts.refuse(experiment, "late", len(lost))
        self._again = late - lost
        every = [event for event in events if event.unit in self._again and not problem_of_exposure(event)]
        outcomes = [each for each in outcomes_of(connection, experiment, every) if self._is_used(each.event)]
        self._exposures = [*(event for event in self._exposures if event.unit not in self._again), *every]
        self._outcomes = [*(each for each in self._outcomes if each.unit not in self._again), *outcomes]
        self._firsts |= _firsts(every)
        self._columns = self._in_columns()

    def after(self) -> Units:
        """Return the units as these events leave them."""
        after = self._before.copy()
        again = [self._numbers[name] for name in self._again]
        after.state[again] = 0.0
        kept = np.ones(len(after.names), dtype=np.bool_)
        kept[again] = False
        came = [*(number for name in self._firsts if not after.known[number := self._numbers[name]]), *again]
        for number in came:
            self._come(after, number)
        for event in self._exposures:
            number = self._numbers[event.unit]
            if event.variant != after.origins[number].variant:
                after.multiple[number] = True
        state, buckets = sums(self._plan, after.first, *self._columns)
        after.state += state
        for metric in self._plan.metrics:
            if metric.covariate is not None and metric.spec.covariate == SHADOW_SCORE:
                firsts = (self._firsts[after.names[number]] for number in came)
                after.state[came, metric.covariate] = [control_score(self._plan, event) for event in firsts]
        after.state[after.multiple] = 0.0
        after.buckets = after.buckets.where(kept).plus(buckets).where(~after.multiple)
        return after

    def _come(self, units: Units, number: int) -> None:
        first = self._firsts[units.names[number]]
        dimensions = _as_text(self._measured.dimensions(first.dimensions))
        units.known[number] = True
        units.first[number] = first.at_us
        units.decisions[number] = first.id
        units.origins[number] = Origin(first.revision, first.variant, dimensions)
        base = Base(first.revision, first.variant, day_of(first.at_us))
        self.weights[base] = max(self.weights.get(base, 0.0), first.propensity)

    def _late(self) -> set[str]:
        """Return the known units that these events show to have been exposed earlier."""
        first, counted = self._before.first.tolist(), self._before.counted.tolist()
        late = set()
        for name, event in self._firsts.items():
            number = self._numbers[name]
            if counted[number] and (event.at_us, event.id) < (first[number], self._before.decisions[number]):
                late.add(name)
        return late

    def _is_used(self, event: Outcome) -> bool:
        return event.name in self._plan.names and not problem_of_outcome(event.name, event.value, event.at_us)

    def _in_columns(self) -> tuple[ExposureColumns, OutcomeColumns]:
        exposures = exposure_columns(self._plan, self._exposures, self._numbers)
        return exposures, outcome_columns(self._plan, self._outcomes, self._numbers)


def _firsts(exposures: Iterable[Exposure]) -> dict[str, Exposure]:
    """Return the first exposure of each unit; at the same time, the one with the smaller id."""
    firsts: dict[str, Exposure] = {}
    for event in exposures:
        known = firsts.get(event.unit)
        if known is None or (event.at_us, event.id) < (known.at_us, known.id):
            firsts[event.unit] = event
    return firsts


@lru_cache(maxsize=10_000)
def _as_text(values: tuple[str, ...]) -> str:
    return msgspec.json.encode(values).decode()

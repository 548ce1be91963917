"""`Batch`: the new events of one experiment, and what they make of its units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec
import numpy as np

from crossfade.ledger.changes import Base
from crossfade.ledger.columns import control_score, exposure_columns, outcome_columns, refused_values
from crossfade.ledger.counts import Counts
from crossfade.ledger.events import Exposure
from crossfade.ledger.joining import Joined
from crossfade.ledger.keeping import (
    append,
    decode_exposures,
    decode_outcomes,
    encode_exposures,
    encode_outcomes,
    kept_exposures,
    kept_outcomes,
)
from crossfade.ledger.measured import Measured
from crossfade.ledger.metrics import SHADOW_SCORE
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
        self._exposed = exposure_columns(self._plan, self._exposures, self._numbers)
        self._found = outcome_columns(self._plan, self._outcomes, self._numbers)
        self.weights: dict[Base, float] = {}
        """The greatest propensity of the units that came, by where they came in."""

    def count(self, counts: Counts) -> None:
        """Count the new events, and values of them that cannot be used."""
        experiment = self._measured.experiment
        counts.add(experiment, "exposures", len(self._exposures))
        for reason, count in refused_values(self._plan, self._exposures, self._exposed).items():
            counts.refuse(experiment, reason, count)
        counts.refuse(experiment, "loss", unusable(self._plan, self._found))
        self._measured.saw(self._exposed.at.tolist(), self._found.at.tolist())

    def after(self) -> Units:
        """Return the units as these events leave them."""
        before, after = self._before, self._before.copy()
        late = self._late()
        came = [*(number for name in self._firsts if not before.known[number := self._numbers[name]]), *late]
        for number in came:
            self._come(after, number)
        self._see_variants(after)
        self._move(after, late)
        state, buckets = sums(self._plan, after.first, self._exposed, self._found)
        after.state += state
        after.buckets = after.buckets.plus(buckets).where(~after.multiple)
        for metric in self._plan.metrics:
            if metric.covariate is not None and metric.spec.covariate == SHADOW_SCORE:
                firsts = (self._firsts[after.names[number]] for number in came)
                after.state[came, metric.covariate] = [control_score(self._plan, event) for event in firsts]
        after.state[after.multiple] = 0.0
        self._keep(after)
        return after

    def _see_variants(self, units: Units) -> None:
        """Find the units that were seen in two variants."""
        for event in self._exposures:
            number = self._numbers[event.unit]
            origin = self._before.origins[number] if self._before.known[number] else units.origins[number]
            if event.variant != origin.variant:
                units.multiple[number] = True

    def _move(self, units: Units, late: list[int]) -> None:
        """Let kept events count as the earlier first exposure of their unit wants it."""
        if not late:
            return
        chosen = np.zeros(len(units.names), dtype=np.bool_)
        chosen[late] = True
        blobs = [
            (shown, found) if is_late else (b"", b"")
            for shown, found, is_late in zip(units.kept_exposures, units.kept_outcomes, chosen.tolist(), strict=True)
        ]
        exposures = decode_exposures(self._plan, [shown for shown, _ in blobs])
        outcomes = decode_outcomes(self._plan, [found for _, found in blobs])
        state, buckets = sums(self._plan, units.first, exposures, outcomes)
        old_state, old_buckets = sums(self._plan, self._before.first, exposures, outcomes)
        units.state += state - old_state
        units.buckets = units.buckets.plus(buckets).minus(old_buckets)
        for number in late:
            units.kept_exposures[number] = units.kept_outcomes[number] = b""
        self._append(units, exposures, outcomes)

    def _keep(self, units: Units) -> None:
        self._append(units, self._exposed, self._found)
        for number in np.flatnonzero(units.multiple).tolist():
            units.kept_exposures[number] = units.kept_outcomes[number] = b""

    def _append(self, units: Units, exposures: ExposureColumns, outcomes: OutcomeColumns) -> None:
        exposures = exposures.where(kept_exposures(self._plan, units.first, exposures))
        outcomes = outcomes.where(kept_outcomes(self._plan, units.first, outcomes))
        append(units.kept_exposures, exposures.units, encode_exposures(exposures))
        append(units.kept_outcomes, outcomes.units, encode_outcomes(outcomes))

    def _come(self, units: Units, number: int) -> None:
        first = self._firsts[units.names[number]]
        dimensions = _as_text(self._measured.dimensions(first.dimensions))
        units.known[number] = True
        units.first[number] = first.at_us
        units.decisions[number] = first.id
        units.origins[number] = Origin(first.revision, first.variant, dimensions)
        base = Base(first.revision, first.variant, day_of(first.at_us))
        self.weights[base] = max(self.weights.get(base, 0.0), first.propensity)

    def _late(self) -> list[int]:
        """Return the known units that these events show to have been exposed earlier."""
        first, counted = self._before.first.tolist(), self._before.counted.tolist()
        late = []
        for name, event in self._firsts.items():
            number = self._numbers[name]
            if counted[number] and (event.at_us, event.id) < (first[number], self._before.decisions[number]):
                late.append(number)
        return late


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

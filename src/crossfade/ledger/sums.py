"""From events in columns to sums by unit: the numeric half of rolling up, one pass for each metric over all events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossfade.ledger.buckets import Buckets, Integers
from crossfade.ledger.losses import losses
from crossfade.ledger.metrics import BUILT_IN, LARGEST, SHADOW_SCORE
from crossfade.ledger.plan import COUNTED, EARLY, MetricPlan, Plan
from crossfade.methods.stats.distributions import Array


@dataclass(frozen=True, eq=False)
class ExposureColumns:
    """Exposures of one experiment; answers: of whom they are, then of its paired shadows.

    Args:
        units: Number of the unit, `(n,)`.
        at: Microseconds, `(n,)`.
        values: Built-in metric -> `(answers, n)`; NaN where there is none.
    """

    units: Integers
    at: Integers
    values: dict[str, Array]

    def where(self, chosen: NDArray[np.bool_]) -> ExposureColumns:
        """Return some of them."""
        values = {name: each[:, chosen] for name, each in self.values.items()}
        return ExposureColumns(self.units[chosen], self.at[chosen], values)


@dataclass(frozen=True, eq=False)
class OutcomeColumns:
    """Outcomes of one experiment.

    Args:
        units: Number of the unit, `(n,)`.
        at: Microseconds, `(n,)`.
        names: Number of the name (`Plan.names`), `(n,)`.
        values: `(n,)`, finite.
        scores: Of their decisions, `(answers, n)`; NaN where there is none. Needed for losses only.
    """

    units: Integers
    at: Integers
    names: Integers
    values: Array
    scores: Array

    def where(self, chosen: NDArray[np.bool_]) -> OutcomeColumns:
        """Return some of them."""
        parts = (self.units[chosen], self.at[chosen], self.names[chosen], self.values[chosen], self.scores[:, chosen])
        return OutcomeColumns(*parts)


def sums(plan: Plan, first: Integers, exposures: ExposureColumns, outcomes: OutcomeColumns) -> tuple[Array, Buckets]:
    """Return what events add to the state of their units.

    Args:
        plan: What is measured.
        first: Time of each unit's first exposure, `(units,)`.
        exposures: Those before it do not count.
        outcomes: Of any time.

    Returns:
        `(units, width)`, and the buckets of quantiles.
    """
    state = np.zeros((len(first), plan.width))
    buckets = [Buckets.none()]
    early = outcomes.at < first[outcomes.units]
    in_vain = early.copy()
    counted = ~early & (outcomes.names < plan.counting)
    state[:, COUNTED] = np.bincount(outcomes.units[counted], minlength=len(first))
    for metric in plan.metrics:
        events = _Source(plan, metric, first, exposures, outcomes)
        units, values = events.values(metric.spec.source, counts=True)
        state[:, metric.count] += np.bincount(units, minlength=len(first))
        if metric.spec.kind == "quantile":
            buckets.append(Buckets.of(metric.number, units, np.clip(values[0], metric.lower, metric.upper)))
        elif metric.spec.kind == "proportion":
            values = (values > 0).astype(np.float64)
        _add(state, metric.numerators, units, values)
        if metric.spec.denominator:
            units, values = events.values(metric.spec.denominator)
            state[:, metric.count] += np.bincount(units, minlength=len(first))
            _add(state, metric.denominators, units, values)
        if metric.covariate is not None and metric.spec.covariate != SHADOW_SCORE:
            before = events.before()
            in_vain &= ~before
            values = outcomes.values[before]
            state[:, metric.covariate] = np.bincount(outcomes.units[before], values, minlength=len(first))
    state[:, EARLY] = np.bincount(outcomes.units[in_vain], minlength=len(first))
    return state, buckets[0].plus(*buckets[1:])


def unusable(plan: Plan, outcomes: OutcomeColumns) -> int:
    """Return of how many outcomes a loss cannot be, because an answer has no score, or none that is a probability."""
    lost = np.zeros(len(outcomes.units), dtype=np.bool_)
    for metric in plan.metrics:
        if metric.spec.loss:
            chosen = outcomes.names == plan.names[metric.spec.source]
            lost[chosen] |= ~_usable(_losses(metric, outcomes, chosen))
    return int(lost.sum())


@dataclass(frozen=True)
class _Source:
    """Where one metric finds its values."""

    plan: Plan
    metric: MetricPlan
    first: Integers
    exposures: ExposureColumns
    outcomes: OutcomeColumns

    def values(self, name: str, *, counts: bool = False) -> tuple[Integers, Array]:
        """Return units and values, `(answers, n)`, of the events within the window; `counts`: of the numerator."""
        if name in BUILT_IN:
            units, at, values = self.exposures.units, self.exposures.at, self._built_in(name)
        else:
            chosen = self.outcomes.names == self.plan.names[name]
            units, at = self.outcomes.units[chosen], self.outcomes.at[chosen]
            if counts and self.metric.spec.loss:
                values = _losses(self.metric, self.outcomes, chosen)
            else:
                values = np.broadcast_to(self.outcomes.values[chosen], (self.metric.answers, len(units)))
        since = at - self.first[units]
        used = (since >= 0) & (since <= self.metric.window_us) & _usable(values)
        return units[used], values[:, used]

    def before(self) -> NDArray[np.bool_]:
        """Tell which outcomes are in the covariate: those of its name in its time before the first exposure."""
        until = self.first[self.outcomes.units] - self.outcomes.at
        named = self.outcomes.names == self.plan.names[self.metric.spec.covariate]
        return np.asarray(named & (until > 0) & (until <= self.metric.covariate_us))

    def _built_in(self, name: str) -> Array:
        values = self.exposures.values[name][: self.metric.answers]
        if self.metric.answers == 1:
            return values
        # Of requests that a shadow did not answer nothing counts for anybody: both sides are about the same requests.
        values = np.broadcast_to(values, (self.metric.answers, values.shape[1]))
        return np.where(paired(self.exposures), values, np.nan)


def paired(exposures: ExposureColumns) -> NDArray[np.bool_]:
    """Tell which requests were answered by all shadows, rightly or not."""
    return np.asarray(np.isfinite(exposures.values["error"]).all(axis=0))


def _losses(metric: MetricPlan, outcomes: OutcomeColumns, chosen: NDArray[np.bool_]) -> Array:
    return losses(metric.spec.loss, outcomes.scores[: metric.answers, chosen], outcomes.values[chosen])


def _usable(values: Array) -> NDArray[np.bool_]:
    return np.asarray((np.abs(values) <= LARGEST).all(axis=0))  # which NaN is not


def _add(state: Array, columns: slice, units: Integers, values: Array) -> None:
    for column, one in zip(range(columns.start, columns.stop), values, strict=False):
        state[:, column] += np.bincount(units, one, minlength=len(state))

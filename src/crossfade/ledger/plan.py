"""`Plan`: what `Measures` mean in columns: where each metric keeps its sums of a unit, and the row it makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from crossfade.ledger.buckets import Buckets
from crossfade.ledger.metrics import BUILT_IN, SHADOW_SCORE, Measures, MetricSpec
from crossfade.methods.stats.distributions import Array

COUNTED, EARLY = 0, 1
"""Columns of the state: how many outcomes of the unit count, and how many came too early to count for anything."""
_FIRST = 2
_LONGEST_US = 10**17
"""Three thousand years, and far from the end of 64 bits."""


@dataclass(frozen=True)
class MetricPlan:
    """Where one metric keeps the sums of a unit.

    Args:
        spec: What it is.
        number: Its place among the metrics.
        answers: How many variants' answers it compares within a unit: 1 but for those with shadows.
        count: Column of how many values there are; its sums follow.
    """

    spec: MetricSpec
    number: int
    answers: int
    count: int

    @property
    def numerators(self) -> slice:
        """Columns of the sums of values (of a proportion: how many are above zero), one for each answer."""
        summed = 0 if self.spec.kind in {"quantile", "count"} else self.answers
        return slice(self.count + 1, self.count + 1 + summed)

    @property
    def denominators(self) -> slice:
        """Columns of the sums of a named denominator, one for each answer."""
        start = self.numerators.stop
        return slice(start, start + (self.answers if self.spec.denominator else 0))

    @property
    def covariate(self) -> int | None:
        """Column of what was known before; None where nothing is."""
        return self.denominators.stop if self.spec.covariate else None

    @property
    def end(self) -> int:
        """The column after its last."""
        return int(self.denominators.stop) + bool(self.spec.covariate)

    @property
    def window_us(self) -> int:
        """How long after the first exposure values count."""
        seconds = self.spec.window_seconds
        return _LONGEST_US if seconds is None else int(min(seconds * 1e6, _LONGEST_US))

    @property
    def covariate_us(self) -> int:
        """How long before the first exposure the covariate begins."""
        return int(min(self.spec.covariate_seconds * 1e6, _LONGEST_US))

    @property
    def columns(self) -> int:
        """How many columns its rows, and so its moments, have."""
        if self.spec.kind == "quantile":
            return 2
        return self.answers * (2 if self.spec.kind == "ratio" else 1) + bool(self.spec.covariate)

    def rows(self, state: Array, buckets: Buckets, cut: int | None) -> tuple[Array, NDArray[np.bool_]]:
        """Return the row of each unit, and which units have one.

        Args:
            state: Sums of the units, `(units, width)`.
            buckets: Of the units, for quantiles.
            cut: The bucket that quantiles are clustered around, if it is known.

        Returns:
            `(units, columns)`: value, or numerator and denominator; then the covariate; then values of the shadows.
        """
        values = self._values(state, buckets, cut)
        if self.covariate is not None:
            own = 2 if self.spec.kind == "ratio" else 1
            values = np.insert(values, own, state[:, self.covariate], axis=1)
        there = np.asarray(np.isfinite(values).all(axis=1))
        if self.spec.missing == "skip":
            there &= state[:, self.count] > 0
        return values, there

    def _values(self, state: Array, buckets: Buckets, cut: int | None) -> Array:
        kind, count, sums = self.spec.kind, state[:, [self.count]], state[:, self.numerators]
        if kind == "quantile":
            own = buckets.of_metric(self.number)
            below = np.zeros(len(state)) if cut is None else own.total(len(state), cut)
            return np.stack([below, own.total(len(state))], axis=1)
        if kind == "proportion":
            return (sums > 0).astype(np.float64)
        capped = np.clip(count if kind == "count" else sums, self.lower, self.upper)
        if kind != "ratio":
            return capped
        divisors = state[:, self.denominators] if self.spec.denominator else np.repeat(count, self.answers, axis=1)
        return np.stack([capped, divisors], axis=2).reshape(len(state), 2 * self.answers)  # n0, d0, n1, d1, ...

    @property
    def lower(self) -> float:
        """The lower cap, or minus infinity."""
        return -np.inf if self.spec.lower is None else self.spec.lower

    @property
    def upper(self) -> float:
        """The upper cap, or infinity."""
        return np.inf if self.spec.upper is None else self.spec.upper


@dataclass(frozen=True)
class Plan:
    """What is measured of an experiment, in columns.

    Args:
        measures: What was declared.
        metrics: Each with its columns.
    """

    measures: Measures
    metrics: tuple[MetricPlan, ...]

    @classmethod
    def of(cls, measures: Measures) -> Plan:
        """Lay out the columns."""
        metrics: list[MetricPlan] = []
        column = _FIRST
        for number, spec in enumerate(measures.metrics):
            paired = spec.depends_on_answers and spec.kind != "quantile"
            answers = 1 + len(measures.paired) if paired else 1
            metrics.append(MetricPlan(spec, number, answers, column))
            column = metrics[-1].end
        return cls(measures, tuple(metrics))

    @cached_property
    def width(self) -> int:
        """How many columns the state of a unit has."""
        return self.metrics[-1].end if self.metrics else _FIRST

    @cached_property
    def names(self) -> dict[str, int]:
        """Names of the outcomes that anything is measured of -> their numbers; those that only covariates need last."""
        used = [name for each in self.metrics for name in (each.spec.source, each.spec.denominator)]
        known = [each.spec.covariate for each in self.metrics]
        outcomes = dict.fromkeys(name for name in (*used, *known) if name and name not in BUILT_IN | {SHADOW_SCORE})
        return {name: number for number, name in enumerate(outcomes)}

    @cached_property
    def used(self) -> frozenset[str]:
        """Names of the outcomes that are used, also where only the weights of a bandit follow them."""
        return frozenset(filter(None, (*self.names, self.measures.reward)))

    @cached_property
    def counting(self) -> int:
        """Numbers below it are names of outcomes that count; the others are only covariates."""
        used = {name for each in self.metrics for name in (each.spec.source, each.spec.denominator)}
        return sum(name in used for name in self.names)

    @cached_property
    def windows(self) -> dict[str, int]:
        """Names of values that count for a while -> the longest while, in microseconds."""
        longest: dict[str, int] = {}
        for each in self.metrics:
            if each.spec.window_seconds is not None:
                for name in filter(None, (each.spec.source, each.spec.denominator)):
                    longest[name] = max(longest.get(name, 0), each.window_us)
        return longest

    @cached_property
    def needs_scores(self) -> bool:
        """Whether outcomes need the score of their decision."""
        return any(each.spec.loss for each in self.metrics)

    @cached_property
    def answerers(self) -> int:
        """How many variants' answers are compared within a unit."""
        return 1 + len(self.measures.paired)


@lru_cache(maxsize=256)
def plan_of(body: str) -> Plan:
    """Return the plan of stored measures."""
    return Plan.of(msgspec.json.decode(body, type=Measures))

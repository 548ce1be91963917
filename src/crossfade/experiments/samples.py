"""From the cells of the evidence to one estimate of each variant, by periods in which the weights were the same.

When weights change, variants get different mixtures of days; pooling them would let the days pass for an effect
(Simpson's paradox). Within a period of the same weights units are drawn alike, so variants are compared within periods,
and the periods are weighted by their units. With weights by units the sum over periods is the same martingale that
always-valid intervals are about; weights by precision would change with every look.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce

import msgspec
import numpy as np

from crossfade.ledger.evidence import Arrival, Cell
from crossfade.ledger.metrics import MetricSpec
from crossfade.methods.stats import quantiles
from crossfade.methods.stats.contrast import contrast
from crossfade.methods.stats.cuped import Adjustment, adjusted, adjustment
from crossfade.methods.stats.distributions import Array
from crossfade.methods.stats.gradient import Mean, Ratio, Statistic, estimate, linearize, quadratic
from crossfade.methods.stats.moments import Moments
from crossfade.methods.stats.sketch import Sketch
from crossfade.methods.stats.values import Contrast, Estimate, NotEstimable, Scale


@dataclass(frozen=True, eq=False)
class Sample:
    """What is known of the units of one variant in one period."""

    moments: Moments
    sketch: Sketch | None = None

    @classmethod
    def of(cls, cells: list[Cell]) -> Sample:
        """Return what cells say together, in one go: there may be thousands."""
        sketches = [cell.sketch for cell in cells if cell.sketch is not None]
        moments = [cell.moments for cell in cells]
        return cls(
            moments[0] if len(moments) == 1 else Moments.stack(moments).total(),
            reduce(Sketch.merge, sketches) if sketches else None,
        )

    @property
    def n(self) -> int:
        """How many units."""
        return int(self.moments.n)

    def merge(self, other: Sample) -> Sample:
        """Return what is known of the units of both."""
        sketch = self.sketch
        if other.sketch is not None:
            sketch = other.sketch if sketch is None else sketch.merge(other.sketch)
        return Sample(self.moments.merge(other.moments), sketch)


Samples = Mapping[int, Mapping[str, Sample]]
"""Period -> variant -> what is known."""


@dataclass(frozen=True)
class Pair:
    """Control and treatment, as estimated.

    Args:
        control: Of the one.
        treatment: Of the other.
        left_out: Units of periods in which one of the two had fewer than two.
    """

    control: Estimate | NotEstimable
    treatment: Estimate | NotEstimable
    left_out: int = 0

    def contrast(self, scale: Scale, *, cautious: bool = False) -> Contrast | NotEstimable:
        """Compare them.

        Args:
            scale: On which scale.
            cautious: Widen the standard error to the one of equal variances where that is larger, as it is when the
                smaller variant happens to vary less. While a few of its units have not yet done what is rare, Welch's
                error is far too small, and who looks early and often does not miss such a moment: of 3,000 A/A
                experiments with 50 looks, a rate of 1 % and a split of 90:10, 20 % were called significant by
                always-valid intervals, and 0.2 % with this. With equal variants nothing changes.

        Source:
            The larger of the errors of Student, Biometrika 6 (1908), and Welch, Biometrika 34 (1947).
        """
        found = contrast(self.control, self.treatment, scale)
        if not cautious or isinstance(found, NotEstimable):
            return found
        return msgspec.structs.replace(found, standard_error=found.standard_error * self._caution())

    def beyond(self, share: float, *, cautious: bool = False) -> Contrast | NotEstimable:
        """Compare the treatment with the control and a share of it more, in the metric's unit.

        Of what is rare a variance goes with the mean. Where the smaller side of such a multiple happens to have none
        of it, its variance is as small as it should be least: then it is taken from the other side, a multiple again.
        That changes nothing where both vary alike.

        Args:
            share: Of the control; -0.1 for a tenth less.
            cautious: As of `contrast`.
        """
        control, treatment, by = self.control, self.treatment, 1 + share
        if isinstance(control, NotEstimable) or isinstance(treatment, NotEstimable):
            return self.contrast("absolute")
        control = control.grown(share)
        if by > 1:
            control = control.varying(by * treatment.variance * treatment.n / control.n)
        elif 0 < by < 1:
            treatment = treatment.varying(control.variance / by * control.n / treatment.n)
        return Pair(control, treatment).contrast("absolute", cautious=cautious)

    def _caution(self) -> float:
        """Return how many times larger the standard error of equal variances is, at least 1."""
        control, treatment = self.control, self.treatment
        if isinstance(control, NotEstimable) or isinstance(treatment, NotEstimable):
            return 1.0
        apart = control.variance + treatment.variance
        pooled = treatment.n / control.n * treatment.variance + control.n / treatment.n * control.variance
        return math.sqrt(max(pooled / apart, 1.0)) if apart > 0 else 1.0


def periods(arrivals: Iterable[Arrival], variants: tuple[str, ...], *, adaptive: bool = False) -> dict[int, int]:
    """Return revision -> period: revisions that split units among the variants alike belong to one.

    Args:
        arrivals: With the weights of each revision.
        variants: Whose weights count.
        adaptive: Weights that a bandit sets are never the same twice, and there are thousands; those that agree in two
            digits are then one period.

    Source:
        Rosenbaum, Rubin: Reducing bias in observational studies using subclassification on the propensity score, JASA
        79 (1984).
    """
    known: dict[tuple[float, ...], int] = {}
    found = {}
    for revision, shares in splits(arrivals, variants).items():
        split = tuple(float(f"{share:.2g}") if adaptive else round(share, 6) for share in shares)
        found[revision] = known.setdefault(split, len(known))
    return found


def splits(arrivals: Iterable[Arrival], variants: tuple[str, ...]) -> dict[int, tuple[float, ...]]:
    """Return revision -> the share of its units that each variant should get.

    A variant without a single unit has no row that says its weight: it is what the others leave, those included that
    have left the experiment since. Revisions without any weight are not there.
    """
    weights: dict[int, dict[str, float]] = defaultdict(dict)
    for arrival in arrivals:
        weights[arrival.revision][arrival.variant] = arrival.weight
    found = {}
    for revision, everyone in sorted(weights.items()):
        given = {variant: weight for variant, weight in everyone.items() if variant in variants}
        absent = [variant for variant in variants if variant not in given]
        rest = max(1.0 - math.fsum(everyone.values()), 0.0)
        shares = [given.get(variant, rest / max(len(absent), 1)) for variant in variants]
        total = math.fsum(shares)
        if total > 0:
            found[revision] = tuple(share / total for share in shares)
    return found


def accumulate(
    cells: Iterable[Cell], period_of: Mapping[int, int], days: Iterable[str]
) -> Iterator[dict[int, dict[str, Sample]]]:
    """Yield what is known at the end of each day of the units that were first exposed until then.

    Args:
        cells: Of one metric, in one part of the experiment.
        period_of: Revision -> period; a revision that is not there is a period of its own.
        days: Ascending.
    """
    by_day: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        by_day[cell.day].append(cell)
    waiting = sorted(by_day, reverse=True)
    so_far: dict[int, dict[str, Sample]] = defaultdict(dict)
    for day in days:
        new: dict[tuple[int, str], list[Cell]] = defaultdict(list)
        while waiting and waiting[-1] <= day:
            for cell in by_day[waiting.pop()]:
                new[period_of.get(cell.revision, -1 - cell.revision), cell.variant].append(cell)
        for (number, variant), added in new.items():
            period, sample = so_far[number], Sample.of(added)
            period[variant] = period[variant].merge(sample) if variant in period else sample
        yield {number: dict(samples) for number, samples in so_far.items()}


def pooled(samples: Samples, variant: str) -> Sample | None:
    """Return what is known of a variant in all periods together, which no other variant is compared with."""
    found = [period[variant] for period in samples.values() if variant in period]
    if not found:
        return None
    total = found[0]
    for each in found[1:]:
        total = total.merge(each)
    return total


def statistic_of(metric: MetricSpec) -> Statistic:
    """Return what a metric is of its columns."""
    return Ratio(0, 1) if metric.kind == "ratio" else Mean(0)


def width_of(metric: MetricSpec) -> int:
    """Return how many columns come before the covariate."""
    return 2 if metric.kind in {"ratio", "quantile"} else 1


def value_of(sample: Sample | None, metric: MetricSpec) -> float | None:
    """Return the plain value of a sample, without any adjustment."""
    if sample is None or not sample.n:
        return None
    if metric.kind == "quantile":
        return sample.sketch.quantile(metric.level or 0.5) if sample.sketch is not None and sample.sketch.n else None
    value, _ = linearize(statistic_of(metric), sample.moments.mean)
    return value if math.isfinite(value) else None


def pair(samples: Samples, control: str, treatment: str, metric: MetricSpec) -> Pair:
    """Estimate two variants, on the periods in which both had units."""
    (of_control, of_treatment), left_out = estimates(samples, (control, treatment), metric)
    return Pair(of_control, of_treatment, left_out)


def estimates(
    samples: Samples, names: tuple[str, ...], metric: MetricSpec
) -> tuple[tuple[Estimate | NotEstimable, ...], int]:
    """Estimate variants so that they can be compared with each other; also say how many units were left out.

    Source:
        Post-stratification: Miratrix, Sekhon, Yu, JRSS B 75 (2013). Periods of constant weights are strata within which
        assignment is random whatever weights depended on, as in the adaptively weighted designs of Zhang, Janson,
        Murphy (NeurIPS 2020).
    """
    usable = [period for period in samples.values() if all(name in period and period[name].n > 1 for name in names)]
    total = sum(period[name].n for period in samples.values() for name in names if name in period)
    left_out = total - sum(period[name].n for period in usable for name in names)
    if not usable:
        return (_absent(samples, names),) * len(names), left_out
    if metric.kind == "quantile":
        return tuple(_quantile(usable, name, names, metric) for name in names), left_out
    shares = _shares(usable, names)
    fitted, usual = _adjustment(usable, shares, names, metric), Usual.of(usable, names)
    cells = {name: [period[name].moments for period in usable] for name in names}
    return tuple(_mean(cells[name], shares, metric, fitted, usual) for name in names), left_out


def _absent(samples: Samples, names: tuple[str, ...]) -> NotEstimable:
    for name in names:
        if not any(name in period and period[name].n for period in samples.values()):
            return NotEstimable(f"`{name}` has no units yet")
    return NotEstimable("in no period of the same weights all variants have two units")


def _shares(usable: list[Mapping[str, Sample]], names: tuple[str, ...]) -> Array:
    units = np.array([sum(period[name].n for name in names) for period in usable], dtype=np.float64)
    shares: Array = units / units.sum()
    return shares


def _mean(
    cells: list[Moments], shares: Array, metric: MetricSpec, fitted: Adjustment | None, usual: Usual
) -> Estimate | NotEstimable:
    """Estimate one variant from its cells, one for each period."""
    statistic = statistic_of(metric)
    moments = _weighted(cells, shares)
    if len(cells) == 1:
        return estimate(moments, statistic) if fitted is None else adjusted(moments, statistic, fitted)
    _, gradient = linearize(statistic, moments.mean)
    lent = [usual.lent(cell, gradient) for cell in cells]
    moments = _weighted([cell for cell, _ in lent], shares)
    found = estimate(moments, statistic) if fitted is None else adjusted(moments, statistic, fitted)
    if isinstance(found, NotEstimable):
        return found
    parts = np.array([quadratic(cell, gradient, gradient) for cell, _ in lent]) * shares**2
    return msgspec.structs.replace(found, df=_degrees(parts, np.array([df for _, df in lent])))


def _weighted(cells: list[Moments], shares: Array) -> Moments:
    """Return moments whose mean is the weighted mean of the cells' means, and whose variance is that of this mean."""
    if len(cells) == 1:
        return cells[0]
    n = sum(int(cell.n) for cell in cells)
    mean = sum((share * cell.mean for share, cell in zip(shares, cells, strict=True)), np.zeros(cells[0].mean.shape))
    variance = sum(
        (share**2 * cell.covariance / int(cell.n) for share, cell in zip(shares, cells, strict=True)),
        np.zeros(cells[0].m2.shape),
    )
    return Moments(np.asarray(n), mean, variance * n * (n - 1))


@dataclass(frozen=True, eq=False)
class Usual:
    """What varies inside of variants and periods, together.

    A period counts by all of its units, also where one variant had few: the first hundred of a canary, none of whom
    happened to do what is rare, would be certain that nobody does. So a variant varies in no period less than usual.
    """

    covariance: Array
    df: int

    @classmethod
    def of(cls, usable: list[Mapping[str, Sample]], names: tuple[str, ...]) -> Usual:
        """Return it for these variants and periods."""
        cells = [period[name].moments for period in usable for name in names]
        df = sum(int(cell.n) - 1 for cell in cells)
        return cls(np.sum([cell.m2 for cell in cells], axis=0) / df, df)

    def lent(self, cell: Moments, gradient: Array) -> tuple[Moments, int]:
        """Return a cell that varies as usual at least, and the degrees of freedom with which that is known."""
        own, df = float(gradient @ cell.covariance @ gradient), int(cell.n) - 1
        usual = float(gradient @ self.covariance @ gradient)
        if own >= usual:
            return cell, df
        covariance = cell.covariance * (usual / own) if own > 0 else self.covariance
        return Moments(cell.n, cell.mean, covariance * df), self.df


def _degrees(parts: Array, df: Array) -> float:
    """Return the degrees of freedom of a sum of variances (Satterthwaite)."""
    total = float(parts.sum())
    if not total > 0:
        return float(df.sum())
    return 1 / float(((parts / total) ** 2 / df).sum())


def _adjustment(
    usable: list[Mapping[str, Sample]], shares: Array, names: tuple[str, ...], metric: MetricSpec
) -> Adjustment | None:
    if not metric.covariate:
        return None
    within = [Moments.stack([period[name].moments for name in names]).within() for period in usable]
    mean = sum((share * each.mean for share, each in zip(shares, within, strict=True)), np.zeros(within[0].mean.shape))
    together = Moments(np.asarray(sum(int(each.n) for each in within)), mean, np.sum([each.m2 for each in within], 0))
    return adjustment(together, statistic_of(metric), (Mean(width_of(metric)),))


def _quantile(
    usable: list[Mapping[str, Sample]], name: str, names: tuple[str, ...], metric: MetricSpec
) -> Estimate | NotEstimable:
    """Return the mean of the periods' quantiles, of those periods that have enough values of every variant."""
    by_period = [{each: quantile(period[each], metric) for each in names} for period in usable]
    complete = [
        place
        for place, found in enumerate(by_period)
        if not any(isinstance(each, NotEstimable) for each in found.values())
    ]
    if not complete:
        return by_period[-1][name] if isinstance(by_period[-1][name], NotEstimable) else _first_refusal(by_period[-1])
    shares = _shares([usable[place] for place in complete], names)
    found = [by_period[place][name] for place in complete]
    parts = [each for each in found if isinstance(each, Estimate)]
    if len(parts) == 1:
        return parts[0]
    values, variances = (np.array([getattr(each, field) for each in parts]) for field in ("value", "variance"))
    df = _degrees(shares**2 * variances, np.array([each.df for each in parts]))
    return Estimate.plain(
        float(shares @ values), float(shares**2 @ variances), sum(usable[place][name].n for place in complete), df
    )


def _first_refusal(found: Mapping[str, Estimate | NotEstimable]) -> NotEstimable:
    return next(each for each in found.values() if isinstance(each, NotEstimable))


def quantile(sample: Sample, metric: MetricSpec) -> Estimate | NotEstimable:
    """Estimate a quantile of single values; values of the same unit may resemble each other."""
    if sample.sketch is None or not sample.sketch.n:
        return NotEstimable("there are no values yet")
    level, mean = metric.level or 0.5, sample.moments.mean
    share = float(mean[0] / mean[1]) if mean[1] > 0 else 0.0
    alone = bool(sample.moments.m2[1, 1] == 0 and mean[1] == 1)  # one value of every unit: nothing to resemble
    effect: float | NotEstimable = 1.0
    if not alone:
        if not 0 < share < 1:
            return NotEstimable("it is not known yet how much the values of a unit resemble each other")
        # the frozen cut is near the quantile, not at it, so it is measured against the variance at its own level
        effect = quantiles.design_effect(sample.moments, share)
    if isinstance(effect, NotEstimable):
        return effect
    found = quantiles.of_sketch(sample.sketch, level, design_effect=effect)
    return found if isinstance(found, NotEstimable) else msgspec.structs.replace(found, n=sample.n)

"""Margins of guardrails: whether a treatment is worse by less or by more, also of what hardly ever happens."""

from __future__ import annotations

import msgspec

from crossfade.experiments.looking import Schedule
from crossfade.experiments.samples import Pair, Samples, pooled, value_of
from crossfade.experiments.shadows import Paired
from crossfade.ledger.metrics import ERROR, EXPOSURES, FALLBACK, MetricSpec
from crossfade.methods.stats.contrast import shifted
from crossfade.methods.stats.non_inferiority import Direction, NonInferiority, non_inferiority
from crossfade.methods.stats.proportions import Count, error_at, error_at_ratio
from crossfade.methods.stats.values import Contrast, Estimate, NotEstimable, Scale

RARE = 20
"""Successes or failures of a variant below which the error at the margin counts, and not the one that was seen."""
NO_SHARE = NotEstimable(
    "the control had none of it, and no share of nothing is a margin; more units help only once it has some, and a "
    "`margin_absolute` instead of a `margin` needs none"
)


def within_margin(
    both: Pair | Paired, samples: Samples, treatment: str, metric: MetricSpec, schedule: Schedule
) -> NonInferiority | NotEstimable | None:
    """Test a guardrail against its margin; None where it has none.

    Args:
        both: Control and treatment, estimated.
        samples: From what.
        treatment: Its name.
        metric: Which.
        schedule: When was looked.
    """
    margin = metric.margin if metric.margin_absolute is None else metric.margin_absolute
    if metric.role != "guardrail" or margin is None:
        return None
    if schedule.refusal is not None:
        return schedule.refusal
    good: Direction = "increase" if metric.direction == "up" else "decrease"
    if metric.margin is not None and isinstance(both.control, Estimate) and both.control.baseline == 0:
        return NO_SHARE
    scale: Scale = "relative" if metric.margin_absolute is None else "absolute"
    found = both.contrast(scale, cautious=schedule.cautious)
    size = abs(both.control.baseline) if scale == "relative" and isinstance(both.control, Estimate) else 1.0
    contrast = _with_error(found, both, _counts(both, samples, treatment, metric, schedule), metric, size)
    return non_inferiority(contrast, margin, good, schedule.infer, schedule.question.analysis.alpha)


def beyond_margin(
    both: Pair | Paired, samples: Samples, treatment: str, metric: MetricSpec, schedule: Schedule, *, cautious: bool
) -> Contrast | NotEstimable:
    """Return by how much a treatment differs from the worst that is acceptable: from the control, without a margin.

    A relative margin is a multiple of the control here, and no quotient, so that there is an answer where the control
    has none of it, and as early as there is one at all.

    Args:
        both: Control and treatment, estimated.
        samples: From what.
        treatment: Its name.
        metric: Which.
        schedule: Of whose question.
        cautious: Whether it may be looked at early; see `Pair.contrast`.
    """
    if metric.margin_absolute is None and metric.margin is None:
        return both.contrast("absolute", cautious=cautious)
    counts, worst = _counts(both, samples, treatment, metric, schedule), _worst(metric)
    if metric.margin_absolute is not None:
        found = _with_error(both.contrast("absolute", cautious=cautious), both, counts, metric)
        return found if isinstance(found, NotEstimable) else shifted(found, -worst)
    below_zero = isinstance(both.control, Estimate) and both.control.baseline < 0
    return _with_error(both.beyond(-worst if below_zero else worst, cautious=cautious), both, counts, metric)


def _worst(metric: MetricSpec) -> float:
    """Return the worst difference that a margin accepts, on its scale."""
    margin = (metric.margin if metric.margin_absolute is None else metric.margin_absolute) or 0.0
    return -margin if metric.direction == "up" else margin


def _with_error(
    found: Contrast | NotEstimable,
    both: Pair | Paired,
    counts: tuple[Count, Count] | None,
    metric: MetricSpec,
    size: float = 1.0,
) -> Contrast | NotEstimable:
    """Return a contrast of rates that are next to 0 or 1 with the error that it has at the margin, if that is larger.

    Args:
        found: The contrast.
        both: Of what.
        counts: How many did it, of control and treatment.
        metric: Whose margin.
        size: What the contrast was divided by.
    """
    if counts is None or min(min(each.successes, each.n - each.successes) for each in counts) >= RARE:
        return found
    control, treatment = counts
    worst, absolute = _worst(metric), metric.margin_absolute is not None
    if not (abs(worst) < 1 if absolute else 1 + worst > 0):
        return found
    error = (error_at(*counts, worst) if absolute else error_at_ratio(*counts, 1 + worst)) / size
    if isinstance(found, Contrast):
        return msgspec.structs.replace(found, standard_error=max(found.standard_error, error))
    known = isinstance(both.control, Estimate) and isinstance(both.treatment, Estimate)
    if not (known and absolute and error > 0):
        return found
    df, rate = float(control.n + treatment.n - 2), control.rate  # nothing varied: all of both did it, or none
    return Contrast("absolute", treatment.rate - rate, error, df, control.n, treatment.n, rate)


def _counts(
    both: Pair | Paired, samples: Samples, treatment: str, metric: MetricSpec, schedule: Schedule
) -> tuple[Count, Count] | None:
    """Return of how many units or requests how many did it, of control and treatment; None where it is no rate."""
    rate_of_requests = metric.source in {ERROR, FALLBACK} and metric.denominator in {"", EXPOSURES}
    if metric.kind != "proportion" and not (metric.kind == "ratio" and rate_of_requests):
        return None
    control = pooled(samples, schedule.question.against)
    other = control if isinstance(both, Paired) else pooled(samples, treatment)
    if control is None or other is None:
        return None
    shadow = both.treatment if isinstance(both, Paired) else None
    rates = value_of(control, metric), shadow.value if isinstance(shadow, Estimate) else value_of(other, metric)
    found = []
    for rate, sample in zip(rates, (control, other), strict=True):
        n = round(sample.n * (float(sample.moments.mean[1]) if metric.kind == "ratio" else 1.0))
        if rate is None or not n:
            return None
        found.append(Count(min(round(rate * n), n), n))
    return found[0], found[1]

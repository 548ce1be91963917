"""Margins of guardrails: whether a treatment is worse by less or by more, also of what hardly ever happens."""

from __future__ import annotations

import math

import msgspec

from crossfade.experiments.looking import Schedule
from crossfade.experiments.samples import Pair, Samples, pooled, value_of
from crossfade.experiments.shadows import Paired
from crossfade.ledger.metrics import ERROR, EXPOSURES, FALLBACK, MetricSpec
from crossfade.methods.stats.contrast import shifted
from crossfade.methods.stats.non_inferiority import Direction, NonInferiority, non_inferiority
from crossfade.methods.stats.proportions import Count, error_at
from crossfade.methods.stats.values import Contrast, Estimate, NotEstimable

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
    if metric.margin_absolute is not None:
        contrast = _at_margin(both, samples, treatment, metric, schedule, cautious=schedule.cautious)
    elif isinstance(both.control, Estimate) and both.control.baseline == 0:
        return NO_SHARE
    else:
        contrast = both.contrast("relative", cautious=schedule.cautious)
    return non_inferiority(contrast, margin, good, schedule.infer, schedule.question.analysis.alpha)


def beyond_margin(
    both: Pair | Paired, samples: Samples, treatment: str, metric: MetricSpec, schedule: Schedule
) -> Contrast | NotEstimable:
    """Return by how much a treatment differs from the worst that is acceptable: from the control, without a margin.

    A relative margin is a multiple of the control here, and no quotient, so that there is an answer where the control
    has none of it, and as early as there is one at all. For looks at any time.
    """
    if metric.margin_absolute is not None:
        found = _at_margin(both, samples, treatment, metric, schedule, cautious=True)
        return found if isinstance(found, NotEstimable) else shifted(found, -_worst(metric))
    if metric.margin is None or not isinstance(both.control, Estimate):
        return both.contrast("absolute", cautious=True)
    worse = math.copysign(metric.margin, both.control.value)
    return both.times(1 + (worse if metric.direction == "down" else -worse)).contrast("absolute", cautious=True)


def _worst(metric: MetricSpec) -> float:
    """Return the worst difference that an absolute margin accepts."""
    margin = metric.margin_absolute or 0.0
    return -margin if metric.direction == "up" else margin


def _at_margin(
    both: Pair | Paired, samples: Samples, treatment: str, metric: MetricSpec, schedule: Schedule, *, cautious: bool
) -> Contrast | NotEstimable:
    """Return the difference; of rates that are next to 0 or 1 with the error that it has at the margin, if larger."""
    found, worst = both.contrast("absolute", cautious=cautious), _worst(metric)
    counts = _counts(both, samples, treatment, metric, schedule)
    if (
        counts is None
        or not abs(worst) < 1
        or min(min(each.successes, each.n - each.successes) for each in counts) >= RARE
    ):
        return found
    control, other = counts
    error = error_at(control, other, worst)
    if isinstance(found, Contrast):
        return msgspec.structs.replace(found, standard_error=max(found.standard_error, error))
    if not error > 0:
        return found
    df, rate = float(control.n + other.n - 2), control.rate  # nothing varied: all of both did it, or none
    return Contrast("absolute", other.rate - rate, error, df, control.n, other.n, rate)


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

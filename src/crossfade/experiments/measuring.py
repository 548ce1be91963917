"""One metric of one treatment against the control: from what is known of both to a `Comparison`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from crossfade.experiments.looking import Schedule
from crossfade.experiments.margins import beyond_margin, within_margin
from crossfade.experiments.question import Question
from crossfade.experiments.report import Arm, Belief, Comparison, Look
from crossfade.experiments.samples import Pair, Samples, accumulate, pair, pooled, value_of
from crossfade.experiments.shadows import Paired, paired
from crossfade.ledger.evidence import Cell
from crossfade.ledger.metrics import MetricSpec
from crossfade.methods.stats.bayesian import posterior
from crossfade.methods.stats.confidence_sequence import confidence_sequence, log_evidence, mixture, running
from crossfade.methods.stats.exact import LARGEST, barnard
from crossfade.methods.stats.moments import Moments
from crossfade.methods.stats.proportions import Count, newcombe
from crossfade.methods.stats.values import Alternative, Effect, Estimate, NotEstimable, Scale

SPARSE = 20
"""Expected successes or failures of a variant below which two proportions are compared exactly."""
UNSEEN = NotEstimable("nobody saw the answers of a shadow, so they cannot have changed this")
NO_QUANTILE = NotEstimable(
    "single values are kept of what answered and not of shadows, so there are no quantiles of them; a `mean` or a "
    "`ratio` of the same values is compared"
)
UNTIMED = NotEstimable(
    "a copy is answered after the answer, alone and by a warm model, so how long that takes says nothing about what "
    "people would wait; compare latency in a split"
)
LARGEST_E = 1e300
"""Stands for all larger e-values, so that reports stay JSON."""


@dataclass(frozen=True)
class Compared:
    """Who is compared with the control.

    Args:
        treatment: Its name.
        shadow: Its place among the shadows, if it is one.
        seen: Whether units got it.
    """

    treatment: str
    shadow: int | None = None
    seen: bool = True

    def both(self, samples: Samples, control: str, metric: MetricSpec) -> Pair | Paired:
        """Return control and treatment, as known from these samples: on the same units where that can be."""
        untimed = self.shadow is not None and metric.depends_on_latency
        found = None if self.shadow is None or untimed else paired(samples, control, self.shadow, metric)
        if found is not None:
            return found
        if self.seen:
            return pair(samples, control, self.treatment, metric)
        no_quantile = metric.kind == "quantile" and metric.depends_on_answers
        reason = UNTIMED if untimed else NO_QUANTILE if no_quantile else UNSEEN
        return Pair(reason, reason)


@dataclass(frozen=True, eq=False)
class Seen:
    """Control and treatment at one look.

    Args:
        both: Estimated.
        samples: From what.
        look: Place of the look in the schedule.
    """

    both: Pair | Paired
    samples: Samples
    look: int


def everyone(question: Question) -> tuple[Compared, ...]:
    """Return whom the control is compared with."""
    places = {name: place for place, name in enumerate(question.shadows)}
    return tuple(Compared(name, places.get(name), name in question.variants) for name in question.treatments)


def measure(
    metric: MetricSpec, cells: Sequence[Cell], schedule: Schedule, period_of: dict[int, int], days: Iterable[str]
) -> tuple[list[Comparison], Samples]:
    """Compare every treatment with the control by one metric.

    Args:
        metric: Which.
        cells: Of the metric, in one part of the experiment.
        schedule: When was looked.
        period_of: Revision -> period of the same weights.
        days: All days, ascending.

    Returns:
        The comparisons, not corrected for their number and not read yet, and what is known now.
    """
    ascending = tuple(days)
    history = dict(zip(ascending, accumulate(cells, period_of, ascending), strict=True))
    present: Samples = history[ascending[-1]] if ascending else {}
    looked = [history[day] for day in schedule.days]
    made = [compare(each, metric, looked, present, schedule) for each in everyone(schedule.question)]
    return made, present


def compare(
    compared: Compared, metric: MetricSpec, looked: Sequence[Samples], present: Samples, schedule: Schedule
) -> Comparison:
    """Compare one treatment with the control.

    Args:
        compared: The treatment.
        metric: Which.
        looked: What was known at each look.
        present: What is known now; what is believed and what harms is asked of this.
        schedule: When was looked.
    """
    question, control = schedule.question, schedule.question.against
    judged = question.analysis.scales.get(metric.name, "absolute")
    seen = [Seen(compared.both(samples, control, metric), samples, place) for place, samples in enumerate(looked)]
    now = Seen(compared.both(present, control, metric), present, len(seen) - 1)
    last = seen[-1] if seen else now
    over_time = [effect_of(each, judged, metric, compared, schedule) for each in seen]
    effect = over_time[-1] if over_time else effect_of(last, judged, metric, compared, schedule)
    of_control, on_same_units = _arm(present, metric, control), isinstance(now.both, Paired)
    return Comparison(
        metric=metric.name,
        kind=metric.kind,
        role=metric.role,
        direction=metric.direction,
        control=of_control,
        treatment=Arm(compared.treatment, of_control.units, _value(now.both.treatment))
        if on_same_units
        else _arm(present, metric, compared.treatment),
        paired=on_same_units,
        judged=judged,
        absolute=effect if judged == "absolute" else effect_of(last, "absolute", metric, compared, schedule),
        relative=_relative(last, metric, compared, schedule) if judged == "absolute" else effect,
        p_value=_p_value(over_time, schedule),
        e_value=_e_value(last, judged, effect, schedule),
        adjusted_p=None,
        reading="unknown",
        variance_reduction=_reduction(last.both) if metric.covariate and not on_same_units else None,
        belief=_belief(now.both, metric, question),
        non_inferiority=within_margin(last.both, last.samples, compared.treatment, metric, schedule),
        excess_p=_excess(seen, compared, metric, schedule),
        harmful=False,
        harm_p=_harm(now, compared, metric, schedule),
        left_out=last.both.left_out,
        looks=tuple(_looks(schedule.days, seen, over_time)),
    )


def effect_of(
    seen: Seen, scale: Scale, metric: MetricSpec, compared: Compared, schedule: Schedule
) -> Effect | NotEstimable:
    """Return the effect on one scale at one look, by the chosen method.

    Two plain proportions that are looked at once have methods of their own: Newcombe's interval, and Barnard's exact
    test where few units did it, or few did not.
    """
    spec, control = schedule.question.analysis, schedule.question.against
    plain = metric.kind == "proportion" and not metric.covariate and isinstance(seen.both, Pair)
    if spec.method == "fixed" and schedule.refusal is None and plain and scale == "absolute" and len(seen.samples) == 1:
        (period,) = seen.samples.values()
        if control in period and compared.treatment in period:
            of_control, of_treatment = (_count(period[name].moments) for name in (control, compared.treatment))
            return _proportions(of_control, of_treatment, spec.alpha)
    return schedule.infer(seen.both.contrast(scale, cautious=schedule.cautious), spec.alpha, look=seen.look)


def _count(moments: Moments) -> Count:
    return Count(round(float(moments.mean[0]) * int(moments.n)), int(moments.n))


def _proportions(control: Count, treatment: Count, alpha: float) -> Effect | NotEstimable:
    found = newcombe(control, treatment, alpha)
    if isinstance(found, NotEstimable):
        return found
    share = (control.successes + treatment.successes) / (control.n + treatment.n)
    rarest = min(control.n, treatment.n) * min(share, 1 - share)
    if max(control.n, treatment.n) > LARGEST or rarest >= SPARSE:
        return found
    return msgspec.structs.replace(found, p_value=barnard(control, treatment))


def _relative(seen: Seen, metric: MetricSpec, compared: Compared, schedule: Schedule) -> Effect | NotEstimable:
    """Return the relative effect by the logarithm where there is one, else by the delta method."""
    found = effect_of(seen, "log", metric, compared, schedule)
    return found if isinstance(found, Effect) else effect_of(seen, "relative", metric, compared, schedule)


def _arm(samples: Samples, metric: MetricSpec, variant: str) -> Arm:
    sample = pooled(samples, variant)
    return Arm(variant, sample.n if sample else 0, value_of(sample, metric))


def _value(estimate: Estimate | NotEstimable) -> float | None:
    return estimate.value if isinstance(estimate, Estimate) else None


def _p_value(over_time: Sequence[Effect | NotEstimable], schedule: Schedule) -> float | None:
    """Return the p-value so far: of the present look, or of the most convincing planned look that points the same way.

    A planned look whose bound was crossed stays crossed. Always-valid p-values would, too, but the correction by
    e-values holds for those of one moment.
    """
    last = over_time[-1] if over_time else None
    if not isinstance(last, Effect):
        return None
    if schedule.question.analysis.method != "group_sequential":
        return last.p_value
    found = [each for each in over_time if isinstance(each, Effect)]
    return min(each.p_value for each in found if (each.effect > 0) == (last.effect > 0))


def _e_value(seen: Seen, judged: Scale, effect: Effect | NotEstimable, schedule: Schedule) -> float | None:
    spec, contrast = schedule.question.analysis, seen.both.contrast(judged, cautious=schedule.cautious)
    if spec.method != "always_valid" or isinstance(effect, NotEstimable) or isinstance(contrast, NotEstimable):
        return None
    z = contrast.value / contrast.standard_error
    evidence = float(log_evidence(z, contrast.n, mixture(spec.alpha, spec.tuning)))
    return math.exp(min(evidence, math.log(LARGEST_E)))


def _reduction(both: Pair | Paired) -> float | None:
    if isinstance(both.control, NotEstimable) or isinstance(both.treatment, NotEstimable):
        return None
    before = both.control.baseline_variance + both.treatment.baseline_variance
    return 1 - (both.control.variance + both.treatment.variance) / before if before > 0 else None


def _belief(both: Pair | Paired, metric: MetricSpec, question: Question) -> Belief | NotEstimable:
    relative = both.contrast("relative")
    if isinstance(relative, NotEstimable):  # the prior is of the relative effect
        return relative
    found = posterior(both.contrast("absolute"), question.analysis.prior, question.analysis.alpha)
    if isinstance(found, NotEstimable):
        return found
    up = metric.direction == "up"
    losses = (found.loss_of_treatment, found.loss_of_control)
    return Belief(
        chance_better=found.chance_to_beat if up else 1 - found.chance_to_beat,
        loss_of_treatment=losses[0 if up else 1],
        loss_of_control=losses[1 if up else 0],
        lower=found.lower,
        upper=found.upper,
    )


def _excess(seen: Sequence[Seen], compared: Compared, metric: MetricSpec, schedule: Schedule) -> float | None:
    """Return the p-value of "no worse than is acceptable" by the chosen method, as `_p_value` does."""
    if metric.role != "guardrail":
        return None
    spec = schedule.question.analysis
    found = (
        schedule.infer(
            beyond_margin(each.both, each.samples, compared.treatment, metric, schedule, cautious=schedule.cautious),
            spec.alpha,
            _bad(metric),
            look=each.look,
        )
        for each in (seen if spec.method == "group_sequential" else seen[-1:])
    )
    return min((each.p_value for each in found if isinstance(each, Effect)), default=None)


def _harm(now: Seen, compared: Compared, metric: MetricSpec, schedule: Schedule) -> float | None:
    """Return the same to be asked at any time, whatever the method, because harm cannot wait for a planned look."""
    if metric.role != "guardrail":
        return None
    spec = schedule.question.analysis
    found = confidence_sequence(
        beyond_margin(now.both, now.samples, compared.treatment, metric, schedule, cautious=True),
        schedule.question.decision.harm_alpha,
        _bad(metric),
        tuning=spec.tuning,
        smallest=spec.smallest_units,
    )
    return found.p_value if isinstance(found, Effect) else None


def _bad(metric: MetricSpec) -> Alternative:
    return "less" if metric.direction == "up" else "greater"


def _looks(days: Sequence[str], seen: Sequence[Seen], over_time: Sequence[Effect | NotEstimable]) -> Iterable[Look]:
    """Yield each look with what all looks until then say together."""
    together: Effect | NotEstimable | None = None
    smallest: float | None = None
    for day, each, effect in zip(days, seen, over_time, strict=True):
        units = _units(each.both)
        if isinstance(effect, NotEstimable):
            yield Look(day, units, note=effect.reason)
            continue
        smallest = effect.p_value if smallest is None else min(smallest, effect.p_value)
        if together is None or isinstance(together, Effect):
            together = effect if together is None else running(together, effect)
        apart = isinstance(together, NotEstimable)
        yield Look(
            day=day,
            units=units,
            effect=effect.effect,
            lower=effect.lower,
            upper=effect.upper,
            p_value=effect.p_value,
            running_lower=together.lower if isinstance(together, Effect) else None,
            running_upper=together.upper if isinstance(together, Effect) else None,
            running_p=smallest,
            note=together.reason if apart and isinstance(together, NotEstimable) else "",
        )


def _units(both: Pair | Paired) -> int:
    if isinstance(both, Paired):
        return both.control.n if isinstance(both.control, Estimate) else 0
    return sum(each.n for each in (both.control, both.treatment) if isinstance(each, Estimate))

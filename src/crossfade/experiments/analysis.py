"""`analyze`: from the evidence of an experiment to a report, and to what follows from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from crossfade.experiments.analysis_spec import Correction
from crossfade.experiments.decision import Findings, decide
from crossfade.experiments.health import health
from crossfade.experiments.looking import Schedule, schedule
from crossfade.experiments.measuring import compare, everyone, measure
from crossfade.experiments.question import Question
from crossfade.experiments.report import AnalysisReport, Comparison, Ranking, Reading, SegmentComparison
from crossfade.experiments.reports import words
from crossfade.experiments.samples import Samples, accumulate, estimates, periods
from crossfade.ledger.evidence import EVERYBODY, Cell, Evidence
from crossfade.ledger.metrics import Direction, MetricSpec
from crossfade.methods.stats.best_arm import probability_best
from crossfade.methods.stats.multiplicity import benjamini_hochberg, holm
from crossfade.methods.stats.values import Effect, Estimate, NotEstimable

Part = tuple[str, str, str]
"""Metric, dimension and value."""


def analyze(evidence: Evidence, question: Question, now: datetime) -> AnalysisReport:
    """Say what the evidence of an experiment means.

    A pure function: the same evidence gives the same report. Whatever cannot be estimated says why.

    Args:
        evidence: From roll-ups.
        question: Who is compared by what, how it is judged, and what follows.
        now: The present time.

    Raises:
        InvalidAnalysisError: The question contradicts itself.
        MissingExtraError: scipy is not installed.
    """
    question = question.checked()
    arrivals = tuple(each for each in evidence.arrivals if each.variant in question.variants)
    cells = _by_part(evidence.cells, question)
    days = tuple(sorted({each.day for each in arrivals} | {cell.day for part in cells.values() for cell in part}))
    period_of = periods(evidence.arrivals, question.variants, adaptive=question.adaptive)
    due = schedule(question, arrivals, now)
    comparisons, rankings, segments = [], [], []
    for metric in question.metrics:
        made, present = measure(metric, cells.get((metric.name, EVERYBODY, ""), ()), due, period_of, days)
        comparisons += made
        if len(question.treatments) > 1:
            rankings.append(_ranking(metric, present, question))
        segments += _segments(metric, cells, due, period_of)
    comparisons = _corrected(comparisons, question)
    checked = health(evidence, question, now)
    findings = Findings(question, comparisons, checked, arrivals, now)
    return AnalysisReport(
        experiment=question.experiment,
        at=now,
        method=question.analysis.method,
        alpha=question.analysis.alpha,
        correction=question.analysis.corrects_by,
        control=question.against,
        treatments=question.treatments,
        decision=decide(findings),
        health=checked,
        comparisons=tuple(comparisons),
        rankings=tuple(rankings),
        segments=tuple(segments),
        notes=tuple(_notes(question, period_of, comparisons)),
    )


def _by_part(cells: Iterable[Cell], question: Question) -> dict[Part, list[Cell]]:
    """Sort cells, and leave out those of variants, metrics and dimensions that nobody asked about."""
    metrics = {metric.name for metric in question.metrics}
    dimensions = {EVERYBODY, *question.dimensions}
    found: dict[Part, list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.variant in question.variants and cell.metric in metrics and cell.dimension in dimensions:
            found[cell.metric, cell.dimension, cell.value].append(cell)
    return found


def _corrected(comparisons: Sequence[Comparison], question: Question) -> list[Comparison]:
    """Adjust the p-values of each role for how many there are, and read them.

    Roles are families of their own: looking at a further secondary metric must not hide what a primary one shows.
    """
    spec, found = question.analysis, list(comparisons)
    for role in ("primary", "secondary", "guardrail"):
        places = [place for place, each in enumerate(found) if each.role == role and each.p_value is not None]
        adjusted = _adjust([found[place].p_value or 0.0 for place in places], spec.corrects_by)
        for place, p_value in zip(places, adjusted, strict=True):
            each = found[place]
            reading = _reading(each.effect, p_value, spec.alpha, each.direction)
            found[place] = msgspec.structs.replace(each, adjusted_p=p_value, reading=reading)
    return _with_harm(found, question)


def _with_harm(comparisons: Sequence[Comparison], question: Question) -> list[Comparison]:
    """Say which guardrails are harmed: worse, and by more than their margin, corrected for how many there are.

    The correction is Holm's, unless there is none: one-sided p-values are not made from e-values.
    """
    spec = question.analysis
    excess = {place: each.excess_p for place, each in enumerate(comparisons) if each.excess_p is not None}
    adjusted = _adjust(list(excess.values()), "none" if spec.corrects_by == "none" else "holm")
    beyond = dict(zip(excess, adjusted, strict=True))
    return [
        msgspec.structs.replace(each, harmful=each.reading == "worse" and beyond.get(place, 1.0) <= spec.alpha)
        for place, each in enumerate(comparisons)
    ]


def _adjust(p_values: list[float], correction: Correction) -> list[float]:
    """Return adjusted p-values.

    Always-valid p-values of one moment are 1 / e-value, and for those the step-up rule of Benjamini and Hochberg is
    e-BH, which holds for any dependence.
    """
    if not p_values or correction == "none":
        return p_values
    found = holm(p_values) if correction == "holm" else benjamini_hochberg(p_values)
    return [float(each) for each in found]


def _reading(effect: Effect | NotEstimable, p_value: float, alpha: float, direction: Direction) -> Reading:
    if isinstance(effect, NotEstimable):
        return "unknown"
    if p_value > alpha:
        return "unclear"
    return "better" if (effect.effect > 0) == (direction == "up") else "worse"


def _ranking(metric: MetricSpec, present: Samples, question: Question) -> Ranking:
    """Return how likely each variant is the best, with flat priors, on the periods that all variants share."""
    drawn = tuple(name for name in question.variants if name not in question.shadows)
    if len(drawn) < 3:  # the errors of shadows are not independent, as all of them answered the same requests
        return Ranking(metric.name, reason="shadows answer the same requests, so their effects tell which is the best")
    found, _ = estimates(present, drawn, metric)
    sign = 1.0 if metric.direction == "up" else -1.0
    known = [each for each in found if isinstance(each, Estimate) and each.variance > 0]
    if len(known) < len(found):
        refusals = [each.reason for each in found if isinstance(each, NotEstimable)]
        return Ranking(metric.name, reason=refusals[0] if refusals else "the values of a variant do not vary")
    chances = probability_best([sign * each.value for each in known], [each.variance**0.5 for each in known])
    return Ranking(metric.name, tuple(zip(drawn, map(float, chances), strict=True)))


def _segments(
    metric: MetricSpec, cells: dict[Part, list[Cell]], due: Schedule, period_of: dict[int, int]
) -> list[SegmentComparison]:
    """Compare within every segment, at the present look only; corrected over all of them."""
    parts = sorted(part for part in cells if part[0] == metric.name and part[1] != EVERYBODY)
    spec, found = due.question.analysis, []
    for _, dimension, value in parts:
        here = cells[metric.name, dimension, value]
        (samples,) = accumulate(here, period_of, due.days[-1:] or (max(cell.day for cell in here),))
        looked = [samples] if due.days else []
        made = (compare(each, metric, looked, samples, due.present) for each in everyone(due.question))
        found += [(dimension, value, each) for each in made]
    p_values = [each.p_value for _, _, each in found]
    adjusted = iter(_adjust([p_value for p_value in p_values if p_value is not None], spec.corrects_by))
    segments = []
    for (dimension, value, each), p_value in zip(found, p_values, strict=True):
        corrected = None if p_value is None else next(adjusted)
        reading = "unknown" if corrected is None else _reading(each.effect, corrected, spec.alpha, metric.direction)
        segments.append(
            SegmentComparison(
                dimension,
                value,
                metric.name,
                each.control,
                each.treatment,
                each.judged,
                each.effect,
                corrected,
                reading,
            )
        )
    return segments


def _notes(question: Question, period_of: dict[int, int], comparisons: Sequence[Comparison]) -> Iterable[str]:
    changed = len(set(period_of.values()))
    if changed > 1:
        yield (
            f"The weights of the variants changed: there are {changed} periods of different weights. Effects compare "
            "variants within periods and weight the periods by their units. The plain values of variants are not "
            "comparable, because the variants got different mixtures of days."
        )
    if question.adaptive:
        yield (
            "The weights followed the outcomes, as those of a bandit do. Plain means of adaptively collected data are "
            "biased; effects are compared within periods of the same weights, where units were still drawn at random."
        )
    if not question.sticky:
        yield (
            "Every request is a unit of its own. Where the same people ask again and again, their requests are alike, "
            "there is less evidence than these numbers claim, and who came back because of a variant is in all of them."
        )
    reduced = dict.fromkeys(each.metric for each in comparisons if each.variance_reduction is not None)
    if reduced:
        yield (
            f"Effects on {words.listed([*reduced])} are adjusted for what was known before (CUPED). The values of "
            "variants are as they were, so an effect is not their difference."
        )
    if any(each.adjusted_p not in {None, each.p_value} for each in comparisons):
        yield (
            "Intervals are of one comparison alone; `p`, and what is found, are corrected for how many there are of a "
            "role. So an interval may leave out zero where nothing is found."
        )
    left_out = max((each.left_out for each in comparisons), default=0)
    if left_out:
        some = "One unit is" if left_out == 1 else f"Up to {left_out:,} units are"
        yield f"{some} in no comparison: in their period a variant had hardly any units."
    if any(look.note and look.effect is not None for each in comparisons for look in each.looks):
        yield "The intervals of some looks do not meet: an effect changes over time. See the timelines."
    if question.analysis.method == "always_valid" and any(metric.window_seconds is None for metric in question.metrics):
        yield (
            "Outcomes count whenever they arrive. Late ones also change what earlier days show; the present look is "
            "computed from all that is known now."
        )

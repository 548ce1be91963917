"""The parts of a report as tables of text, which Markdown, HTML and the terminal lay out each in its way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from crossfade.experiments.report import AnalysisReport, Belief, Comparison
from crossfade.experiments.reports import words
from crossfade.methods.stats.values import Effect, NotEstimable

ACTIONS = {
    "ship": "Ship",
    "keep": "Keep the control",
    "review": "A person should look",
    "stop": "Stop",
    "continue": "Go on measuring",
}
MOST_SEGMENTS = 100
"""Rows that a table of segments shows; all of them are in the values of the report."""
METHODS = {
    "always_valid": "valid however often one looks",
    "group_sequential": "at planned looks",
    "fixed": "once, at the planned end",
}


@dataclass(frozen=True)
class Table:
    """Rows of text under headings.

    Args:
        title: What it shows.
        headings: Of the columns.
        rows: As many cells as headings.
        note: What one should know about it.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def headline(report: AnalysisReport) -> str:
    """Return the decision in a few words."""
    decision = report.decision
    about = f" `{decision.variant}`" if decision.variant and decision.action in {"ship", "review", "stop"} else ""
    return f"{ACTIONS[decision.action]}{about}"


def method(report: AnalysisReport) -> str:
    """Say how the numbers were made."""
    correction = "" if report.correction in {"", "none"} else f", corrected by {report.correction}"
    return f"{report.method} ({METHODS[report.method]}), alpha {report.alpha:g}{correction}"


def tables(report: AnalysisReport) -> Iterable[Table]:
    """Yield everything that there is to show."""
    yield effects(report)
    if any(isinstance(each.belief, Belief) for each in report.comparisons):
        yield beliefs(report)
    if any(each.role == "guardrail" for each in report.comparisons):
        yield guardrails(report)
    if report.rankings:
        yield _rankings(report)
    if len(report.health.units) > 1:
        yield _arrivals(report)
    if report.segments:
        yield _segments(report)


def effects(report: AnalysisReport) -> Table:
    """The effect of every treatment on every metric."""
    headings = ("metric", "treatment", "units", report.control, "value", "effect", "relative", "interval", "p", "found")
    return Table("Effects", headings, tuple(map(_effect_row, report.comparisons)))


def _effect_row(each: Comparison) -> tuple[str, ...]:
    found = words.shown(each)
    tested = each.adjusted_p if each.adjusted_p is not None else each.p_value
    reason = f": {each.effect.reason}" if isinstance(each.effect, NotEstimable) else ""
    reduced = (
        f" (variance {words.percent(-(each.variance_reduction or 0.0))})"
        if (each.variance_reduction or 0) > 0.005
        else ""
    )
    return (
        f"{each.metric} ({each.role})",
        each.treatment.variant,
        f"{each.control.units:,}" if each.paired else f"{each.control.units:,} / {each.treatment.units:,}",
        words.arm(each.control, each.kind),
        words.arm(each.treatment, each.kind),
        words.effect(each.absolute),
        words.effect(each.relative),
        words.interval(found),
        words.p(tested),
        f"{words.READINGS[each.reading]}{reason}{reduced}",
    )


def beliefs(report: AnalysisReport) -> Table:
    """The Bayesian reading."""
    rows = tuple(
        (
            each.metric,
            each.treatment.variant,
            words.chance(each.belief.chance_better),
            words.number(each.belief.loss_of_treatment),
            words.number(each.belief.loss_of_control),
        )
        for each in report.comparisons
        if isinstance(each.belief, Belief)
    )
    headings = ("metric", "treatment", "chance to be better", "expected loss if chosen", "if not chosen")
    note = "What to believe, given the prior. Unlike the intervals it promises nothing about how often it is wrong."
    return Table("Chance to be better", headings, rows, note)


def guardrails(report: AnalysisReport) -> Table:
    """What must not become worse."""
    rows = tuple(
        (each.metric, each.treatment.variant, words.within(each), words.p(each.harm_p))
        for each in report.comparisons
        if each.role == "guardrail"
    )
    return Table("Guardrails", ("metric", "treatment", "within its margin", "p of harm"), rows)


def _rankings(report: AnalysisReport) -> Table:
    variants = tuple(name for name, _ in report.health.units)
    rows = []
    for each in report.rankings:
        chances = dict(each.chances)
        cells = (words.chance(chances.get(name)) for name in variants)
        rows.append((each.metric, *cells, each.reason))
    return Table("Probability of being the best", ("metric", *variants, "why there is none"), tuple(rows))


def _arrivals(report: AnalysisReport) -> Table:
    expected = dict(report.health.expected)
    rows = tuple(
        (variant, f"{units:,}", f"{came:,}", f"{expected.get(variant, 0.0):,.0f}")
        for (variant, units), (_, came) in zip(report.health.units, report.health.arrived, strict=True)
    )
    note = (
        f"Sample ratio: {words.p_is(report.health.sequential_sample_ratio_p)} over all looks, "
        f"{words.p(report.health.sample_ratio_p)} at this one."
    )
    return Table("Units", ("variant", "units", "arrived", "expected"), rows, note)


def _segments(report: AnalysisReport) -> Table:
    telling = sorted(report.segments, key=lambda each: each.reading not in {"better", "worse"})
    chosen = telling[:MOST_SEGMENTS] if len(telling) > MOST_SEGMENTS else report.segments
    rows = tuple(
        (
            f"{each.dimension} = {each.value}",
            each.metric,
            each.treatment.variant,
            f"{each.control.units:,} / {each.treatment.units:,}",
            words.effect(each.effect),
            words.interval(each.effect),
            words.p(each.adjusted_p),
            words.READINGS[each.reading] + ("" if isinstance(each.effect, Effect) else f": {each.effect.reason}"),
        )
        for each in chosen
    )
    headings = ("segment", "metric", "treatment", "units", "effect", "interval", "p", "found")
    note = "Exploratory: corrected for the number of segments, and still no more than an idea for the next experiment."
    if len(chosen) < len(report.segments):
        note += f" These are {len(chosen)} of {len(report.segments):,}, significant ones first."
    return Table("Segments", headings, rows, note)

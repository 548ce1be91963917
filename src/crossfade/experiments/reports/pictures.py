"""The pictures of a report: all effects in one forest plot, and one effect over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from crossfade.core.charts import Bar, Point, Tone, forest, timeline
from crossfade.experiments.report import AnalysisReport, Comparison, Reading, SegmentComparison
from crossfade.experiments.reports import words
from crossfade.methods.stats.values import Effect, NotEstimable

_TONES: dict[Reading, Tone] = {"better": "good", "worse": "bad", "unclear": "plain", "unknown": "plain"}


def forest_of(report: AnalysisReport) -> str:
    """Draw the effects of all comparisons relative to the control."""
    several = len(report.treatments) > 1
    bars = [
        _bar(f"{each.metric} · {each.treatment.variant}" if several else each.metric, _relative(each), each.reading)
        for each in report.comparisons
    ]
    return forest(bars, title=f"{report.experiment}: effects relative to {report.control}", form=_percent)


def forest_of_segments(report: AnalysisReport, segments: Sequence[SegmentComparison], title: str) -> str:
    """Draw the effects of one metric within segments, on the scale that is judged."""
    several = len(report.treatments) > 1
    bars = [
        _bar(
            f"{each.dimension} = {each.value}" + (f" · {each.treatment.variant}" if several else ""),
            each.effect,
            each.reading,
        )
        for each in segments
    ]
    return forest(bars, title=title, form=_form(segments[0].judged == "absolute" if segments else True))


def timeline_of(comparison: Comparison) -> str:
    """Draw one effect over time, on the scale that is judged."""
    points = [
        Point(look.day, look.effect, *_ends(look.lower, look.upper))
        if look.effect is not None
        else Point(look.day, None)
        for look in comparison.looks
    ]
    title = f"{comparison.metric}: effect of {comparison.treatment.variant} over time"
    return timeline(points, title=title, form=_form(comparison.judged == "absolute"))


def _relative(comparison: Comparison) -> Effect | NotEstimable:
    return comparison.relative


def _bar(label: str, found: Effect | NotEstimable, reading: Reading) -> Bar:
    if isinstance(found, NotEstimable):
        return Bar(label, None, note=found.reason)
    verdict = f"  {reading}" if reading in {"better", "worse"} else ""
    note = f"{words.effect(found)} [{words.interval(found)}]{verdict}"
    return Bar(label, found.effect, *found.interval, note, _TONES[reading])


def _ends(lower: float | None, upper: float | None) -> tuple[float, float]:
    return float("-inf") if lower is None else lower, float("inf") if upper is None else upper


def _form(absolute: bool) -> Callable[[float], str]:
    return words.signed if absolute else _percent


def _percent(value: float) -> str:
    return words.percent(value, sign=True)

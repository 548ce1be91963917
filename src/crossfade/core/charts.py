"""Pictures of effects as SVG, without any package: a forest plot of intervals, and a timeline of one interval.

They need no style sheet and no script. Text and lines take the colour of the text around them, so they are legible on
light and on dark pages; what a colour says is said in words, too. Whatever comes from outside is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape as _escape
from statistics import median
from typing import Literal

Tone = Literal["good", "bad", "plain"]
COLOURS: dict[Tone, str] = {"good": "#1f8a70", "bad": "#d1495b", "plain": "currentColor"}
"""Distinct from white and from near-black alike (contrast above 3); words beside them say the same."""
_FONT = "font-family='system-ui,sans-serif' font-size='13'"
_WIDTH, _LEFT, _RIGHT = 900, 230, 310
_ROW, _TOP, _BOTTOM = 26, 12, 34
_LONGEST, _LONGEST_NOTE = 30, 42
"""Characters of a label and of a note that fit; the whole of them is in their tooltips."""
_FARTHEST = 1e300
"""Axes end here, so that distances on them are numbers."""
_DOTS = 60
"""Looks up to which each has a dot."""


@dataclass(frozen=True)
class Bar:
    """One row of a forest plot.

    Args:
        label: What it is about.
        value: The estimate; None when there is none.
        lower: Lower end of the interval; may be infinite.
        upper: Upper end of the interval; may be infinite.
        note: What stands beside it in words: the numbers, or why there are none.
        tone: Whether it is good or bad.
    """

    label: str
    value: float | None
    lower: float = -math.inf
    upper: float = math.inf
    note: str = ""
    tone: Tone = "plain"


@dataclass(frozen=True)
class Point:
    """One look of a timeline.

    Args:
        label: When.
        value: The estimate; None when there was none.
        lower: Lower end of the interval.
        upper: Upper end of the interval.
    """

    label: str
    value: float | None
    lower: float = -math.inf
    upper: float = math.inf


def text(value: object) -> str:
    """Return a text as it may stand in SVG and HTML: escaped, and without characters that XML does not have."""
    return _escape("".join(each if _is_xml(ord(each)) else "\ufffd" for each in str(value)))


def _is_xml(code: int) -> bool:
    return code in {9, 10, 13} or 32 <= code < 0xD800 or 0xE000 <= code < 0xFFFE or code >= 0x10000


def forest(bars: Sequence[Bar], *, title: str, form: Callable[[float], str] = "{:g}".format, zero: float = 0.0) -> str:
    """Draw intervals below each other around a line of no effect.

    Args:
        bars: From top to bottom.
        title: Read out by screen readers, and the tooltip.
        form: How a value of the axis is written.
        zero: Where the line of no effect is.
    """
    height = _TOP + _ROW * max(len(bars), 1) + _BOTTOM
    if not bars:
        return _picture(height, title, "nothing to show", [_label(_WIDTH / 2, height / 2, "nothing to show", "middle")])
    low, high = _span([(bar.value, bar.lower, bar.upper) for bar in bars], zero)
    x = _scale(low, high, _LEFT, _WIDTH - _RIGHT)
    bottom = _TOP + _ROW * len(bars)
    measured = any(bar.value is not None for bar in bars)
    parts = list(_axis(low, high, x, bottom, form)) if measured else []
    parts.append(_line(x(zero), _TOP, x(zero), bottom, "stroke-width='1.5' stroke-opacity='.7'"))
    for place, bar in enumerate(bars):
        parts += _bar(bar, _TOP + _ROW * (place + 0.5), x, low, high)
    told = "; ".join(f"{bar.label}: {bar.note or form(bar.value or 0.0)}" for bar in bars)
    return _picture(height, title, told, parts)


def timeline(
    points: Sequence[Point], *, title: str, form: Callable[[float], str] = "{:g}".format, zero: float = 0.0
) -> str:
    """Draw how an interval narrows from look to look, and the line of no effect.

    Args:
        points: In order of time.
        title: Read out by screen readers, and the tooltip.
        form: How a value of the axis is written.
        zero: Where the line of no effect is.
    """
    height, left, right, bottom = 240, 86, 44, 206
    there = [point for point in points if point.value is not None]
    if not there:
        reason = "no look has an interval yet"
        return _picture(2 * _BOTTOM, title, reason, [_label(_WIDTH / 2, _BOTTOM, reason, "middle")])
    low, high = _span([(point.value, point.lower, point.upper) for point in there], zero)
    y = _scale(low, high, bottom, _TOP)
    step = (_WIDTH - left - right) / max(len(points), 1)
    xs = [left + step * (place + 0.5) for place in range(len(points))]
    parts = [
        part
        for tick in _ticks(low, high, 5)
        for part in (
            _line(left, y(tick), _WIDTH - right, y(tick), "stroke-opacity='.15'"),
            _label(left - 8, y(tick) + 4, form(tick), "end"),
        )
    ]
    every = max(1, math.ceil(len(points) / 8))
    shown = range(0, len(points), every)
    parts += [_label(xs[place], height - 12, points[place].label, "middle") for place in shown]
    parts.append(_line(left, y(zero), _WIDTH - right, y(zero), "stroke-width='1.5' stroke-opacity='.7'"))
    for run in _runs(points):
        parts += _band([(xs[place], points[place]) for place in run], y, low, high)
    last = there[-1]
    told = f"{len(there)} looks; the last, {last.label}: {form(last.value or 0.0)}, "
    return _picture(height, title, f"{told}{form(last.lower)} to {form(last.upper)}", parts)


def _runs(points: Sequence[Point]) -> list[list[int]]:
    """Return the places of points that follow each other without a gap."""
    runs: list[list[int]] = [[]]
    for place, point in enumerate(points):
        if point.value is None:
            runs.append([])
        else:
            runs[-1].append(place)
    return [run for run in runs if run]


def _band(run: Sequence[tuple[float, Point]], y: Callable[[float], float], low: float, high: float) -> list[str]:
    upper = [(x, y(_clip(point.upper, low, high))) for x, point in run]
    lower = [(x, y(_clip(point.lower, low, high))) for x, point in run]
    value = [(x, y(_clip(point.value or 0.0, low, high))) for x, point in run]
    parts = [f"<polygon points='{_path([*upper, *lower[::-1]])}' fill='#3b7dd8' fill-opacity='.22' stroke='none'/>"]
    parts += [
        f"<polyline points='{_path(line)}' fill='none' stroke='#3b7dd8' stroke-width='{width}'/>"
        for line, width in ((upper, 1), (lower, 1), (value, 2))
        if len(run) > 1
    ]
    if len(run) == 1:
        parts.append(_stroke(*lower[0], *upper[0], "#3b7dd8"))
    dots = value if len(run) <= _DOTS else value[-1:]
    return [*parts, *(f"<circle cx='{x:.1f}' cy='{at:.1f}' r='2.5' fill='#3b7dd8'/>" for x, at in dots)]


def _path(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _bar(bar: Bar, y: float, x: Callable[[float], float], low: float, high: float) -> list[str]:
    parts = [
        _label(_LEFT - 14, y + 4, _cut(bar.label, _LONGEST), "end", bar.label),
        _label(_WIDTH - _RIGHT + 14, y + 4, _cut(bar.note, _LONGEST_NOTE), "start", bar.note),
    ]
    if bar.value is None:
        return parts
    colour = COLOURS[bar.tone]
    left, right = x(_clip(bar.lower, low, high)), x(_clip(bar.upper, low, high))
    parts.append(_stroke(left, y, right, y, colour))
    for end, at, toward in ((bar.lower, left, 1), (bar.upper, right, -1)):
        if low <= end <= high:
            parts.append(_stroke(at, y - 4, at, y + 4, colour))
        else:  # it goes on beyond the picture
            tip = [(at, y), (at + 8 * toward, y - 5), (at + 8 * toward, y + 5)]
            parts.append(f"<polygon points='{_path(tip)}' fill='{colour}'/>")
    if low <= bar.value <= high:
        parts.append(f"<rect x='{x(bar.value) - 4:.1f}' y='{y - 4:.1f}' width='8' height='8' fill='{colour}'/>")
    return parts


def _cut(words: str, longest: int) -> str:
    return words if len(words) <= longest else f"{words[: longest - 1]}…"


def _axis(
    low: float, high: float, x: Callable[[float], float], bottom: float, form: Callable[[float], str]
) -> Iterable[str]:
    for tick in _ticks(low, high, 5):
        yield _line(x(tick), _TOP, x(tick), bottom, "stroke-opacity='.15'")
        yield _label(x(tick), bottom + 18, form(tick), "middle")


def _span(intervals: Iterable[tuple[float | None, float, float]], zero: float) -> tuple[float, float]:
    """Return what the axis shows: everything, unless one very wide interval would make all others dots."""
    rows = [row for row in intervals if row[0] is not None and math.isfinite(row[0])]
    values = [value for value, _, _ in rows if value is not None]
    widths = [abs(end - zero) for _, lower, upper in rows for end in (lower, upper) if math.isfinite(end)]
    most = max([1.5 * abs(value - zero) for value in values] + [4 * median(widths)] if widths else [1.0])
    ends = [end for _, lower, upper in rows for end in (lower, upper) if math.isfinite(end)]
    low = max(min([zero, *values, *ends]), zero - most)
    high = min(max([zero, *values, *ends]), zero + most)
    low, high = _clip(low, -_FARTHEST, _FARTHEST), _clip(high, -_FARTHEST, _FARTHEST)
    pad = 0.04 * (high - low) if high - low > 1 / _FARTHEST else 1e-3
    return low - pad, high + pad


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Return round values between two ends."""
    rough = (high - low) / count
    size = 10.0 ** math.floor(math.log10(rough))
    step = next((size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough), rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [place * step for place in range(first, last + 1)]


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='currentColor' {style}/>"


def _stroke(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{colour}' stroke-width='2'/>"


def _label(x: float, y: float, words: str, anchor: str, whole: str = "") -> str:
    tooltip = f"<title>{text(whole)}</title>" if whole and whole != words else ""
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' fill='currentColor'>{text(words)}{tooltip}</text>"


def _picture(height: float, title: str, told: str, parts: Iterable[str]) -> str:
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' role='img' viewBox='0 0 {_WIDTH} {height:g}' width='{_WIDTH}' "
        f"height='{height:g}' style='max-width:100%;height:auto' {_FONT}>"
        f"<title>{text(title)}</title><desc>{text(told)}</desc>{''.join(parts)}</svg>"
    )

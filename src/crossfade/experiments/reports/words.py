"""Numbers and findings as people say them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from crossfade.experiments.report import Arm, Comparison
from crossfade.methods.stats.non_inferiority import NonInferiority
from crossfade.methods.stats.values import Effect, NotEstimable

ABSENT = "-"
READINGS = {
    "better": "significantly better",
    "worse": "significantly worse",
    "unclear": "not significantly different",
    "unknown": "not estimable",
}


def number(value: float | None) -> str:
    """Return a number with four significant digits.

    Example:
        >>> number(1234567.0), number(0.000123), number(None)
        ('1,234,567', '0.000123', '-')
    """
    if value is None:
        return ABSENT
    if not math.isfinite(value):
        return "∞" if value > 0 else "-∞" if value < 0 else ABSENT
    if 1000 <= abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def signed(value: float | None) -> str:
    """Return a number with its sign."""
    text = number(value)
    return f"+{text}" if value is not None and value > 0 else text


def percent(value: float | None, *, sign: bool = False) -> str:
    """Return a fraction as a percentage.

    Example:
        >>> percent(0.05123, sign=True), percent(0.00012), percent(12.5)
        ('+5.12 %', '0.012 %', '1,250 %')
    """
    if value is None or not math.isfinite(value):
        return number(value)
    digits = number(value * 100) if abs(value) >= 10 else f"{value * 100:.3g}"
    return f"{'+' if sign and value > 0 else ''}{digits} %"


def p(value: float | None) -> str:
    """Return a p-value.

    Example:
        >>> p(0.04), p(1e-9)
        ('0.04', '< 0.0001')
    """
    if value is None:
        return ABSENT
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def p_is(value: float | None) -> str:
    """Return what a p-value is, for sentences.

    Example:
        >>> p_is(0.04), p_is(1e-9)
        ('p = 0.04', 'p < 0.0001')
    """
    told = p(value)
    return f"p {told}" if told.startswith("<") else f"p = {told}"


def chance(value: float | None) -> str:
    """Return a probability as a percentage that never says "certain".

    Example:
        >>> chance(0.5), chance(0.99999), chance(1e-9)
        ('50.0 %', '> 99.9 %', '< 0.1 %')
    """
    if value is None:
        return ABSENT
    return "> 99.9 %" if value > 0.999 else "< 0.1 %" if value < 0.001 else f"{value * 100:.1f} %"


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence has them.

    Example:
        >>> listed(["a", "b", "c"])
        '`a`, `b` and `c`'
    """
    quoted = [f"`{name}`" for name in names]
    return " and ".join(filter(None, (", ".join(quoted[:-1]), quoted[-1])))


def rounded(count: int) -> str:
    """Return a number of units as roughly as it is known.

    Example:
        >>> rounded(12_345)
        '12,000'
    """
    if count < 100:
        return f"{count:,}"
    step = 10 ** (len(str(count)) - 2)
    return f"{-(-count // step) * step:,}" if count % step > step / 2 else f"{count // step * step:,}"


def duration(seconds: float) -> str:
    """Return a duration in the largest unit that says something.

    Example:
        >>> duration(5_400), duration(3 * 86_400)
        ('90 minutes', '3 days')
    """
    if not math.isfinite(seconds):
        return "ever"
    for size, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= 2 * size or (seconds >= size and seconds % size == 0):
            count = round(seconds / size)
            return f"{count:,} {name}{'' if count == 1 else 's'}"
    count = math.ceil(max(seconds, 0.0))
    return f"{count} second{'' if count == 1 else 's'}"


def effect(found: Effect | NotEstimable) -> str:
    """Return an effect as people read it: relative ones in percent."""
    if isinstance(found, NotEstimable):
        return ABSENT
    return signed(found.effect) if found.scale == "absolute" else percent(found.effect, sign=True)


def interval(found: Effect | NotEstimable) -> str:
    """Return an interval as people read it."""
    if isinstance(found, NotEstimable):
        return ABSENT
    ends = found.interval
    if found.scale == "absolute":
        return f"{signed(ends[0])} to {signed(ends[1])}"
    return f"{percent(ends[0], sign=True)} to {percent(ends[1], sign=True)}"


def arm(found: Arm, kind: str) -> str:
    """Return what one variant did."""
    return percent(found.value) if kind == "proportion" else number(found.value)


def shown(comparison: Comparison) -> Effect | NotEstimable:
    """Return the effect that people are shown: the judged one, relative where it can be."""
    if comparison.judged == "absolute" and isinstance(comparison.relative, Effect):
        return comparison.relative
    return comparison.effect


def sentence(comparison: Comparison) -> str:
    """Say what was found of one metric of one treatment."""
    name = f"`{comparison.treatment.variant}` is {READINGS[comparison.reading]} on `{comparison.metric}`"
    found = shown(comparison)
    if isinstance(comparison.effect, NotEstimable):
        return f"{name}: {comparison.effect.reason}"
    if isinstance(found, NotEstimable):
        return name
    level = f"{100 * (1 - found.alpha):.4g} %"
    tested = comparison.adjusted_p if comparison.adjusted_p is not None else comparison.p_value
    return f"{name} ({effect(found)}, {level} interval {interval(found)}, {p_is(tested)})"


def within(comparison: Comparison) -> str:
    """Say whether a guardrail is within its margin."""
    found, name = comparison.non_inferiority, f"`{comparison.treatment.variant}` on `{comparison.metric}`"
    if comparison.spotless:
        return f"`{comparison.treatment.variant}` had no `{comparison.metric}` in {comparison.treatment.units:,} units"
    if found is None and comparison.harmful:
        return sentence(comparison)
    if found is None:
        return f"{name} is {READINGS[comparison.reading]}, and has no margin"
    if isinstance(found, NotEstimable):
        return f"{name} is not shown to be within its margin: {found.reason}"
    return f"{name} is {_by_margin(found, comparison)}"


def _by_margin(found: NonInferiority, comparison: Comparison) -> str:
    direction = "lower" if comparison.direction == "up" else "higher"
    told = number if found.scale == "absolute" else percent
    margin, worst = told(found.margin), told(abs(found.worst))
    if comparison.harmful:
        by = comparison.relative if found.scale == "relative" else comparison.absolute
        return f"worse by more than its margin of {margin} ({effect(by)})"
    if found.shown:
        at_most = f"at most {worst} {direction}" if _is_worse(found, comparison) else "no worse at all"
        return f"within its margin of {margin} ({at_most})"
    return f"not shown to be within its margin of {margin}: it may be {worst} {direction}"


def _is_worse(found: NonInferiority, comparison: Comparison) -> bool:
    return found.worst < 0 if comparison.direction == "up" else found.worst > 0

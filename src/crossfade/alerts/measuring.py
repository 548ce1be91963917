"""`measure`: whether a rule holds, for what, and why; or that nobody can know.

What cannot be known never begins an alert and never ends one: no traffic, a number that is none, a source that does not
answer are no sign of health, and none of illness.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import NamedTuple

from crossfade.alerts.burn import burn_rate
from crossfade.alerts.conditions import (
    BurnRate,
    Condition,
    CounterGrows,
    FactHolds,
    FailuresAbove,
    GaugeAbove,
    QuantileAbove,
    ShareBelow,
)
from crossfade.alerts.rule import AlertRule
from crossfade.alerts.signals import Key, Known, Signals
from crossfade.errors import CrossfadeError
from crossfade.settings import SloSettings
from crossfade.traffic.health import Health


class Truth(StrEnum):
    """Whether a condition holds."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Finding(NamedTuple):
    """Whether a condition holds for something.

    Attributes:
        labels: What.
        truth: Whether.
        reason: The numbers, in words.
        value: The number; None where there is none.
    """

    labels: dict[str, str]
    truth: Truth
    reason: str
    value: float | None = None


class Findings(NamedTuple):
    """What a rule has found.

    Attributes:
        items: For what it was looked at; of everything else nothing is known, unless `complete`.
        complete: Whatever is not among the items does not hold.
        problem: Why the rule could not be evaluated at all; empty when it could.
        failed: Whether that is because something failed, and not because there is nothing to ask in this process.
    """

    items: tuple[Finding, ...]
    complete: bool = False
    problem: str = ""
    failed: bool = False


def measure(rule: AlertRule, signals: Signals, slo: SloSettings, min_requests: int) -> Findings:
    """Evaluate one rule; whatever its source does is no exception here.

    Args:
        rule: Which.
        signals: What it may read.
        slo: The service levels.
        min_requests: Of rules without a service level: fewer requests say nothing.
    """
    try:
        return _measure(rule.condition, signals, slo, min_requests)
    except CrossfadeError as error:
        return Findings((), problem=str(error), failed=True)
    except Exception as error:  # noqa: BLE001 - a bug that one rule meets must not blind all others
        return Findings((), problem=f"{type(error).__name__}: {error}"[:300], failed=True)


def _measure(condition: Condition, signals: Signals, slo: SloSettings, min_requests: int) -> Findings:
    match condition:
        case BurnRate():
            found = _of_models(signals, lambda model: _burning(condition, signals, slo, model))
        case QuantileAbove() | FailuresAbove():
            seconds = condition.seconds
            found = _of_models(
                signals, lambda model: _slow_or_failing(condition, signals.window(model, seconds), min_requests)
            )
        case GaugeAbove():
            found = _of_series(condition, signals.level(condition.metric), "is")
        case CounterGrows():
            found = _of_series(condition, signals.increase(condition.metric, condition.seconds), "grew by")
        case ShareBelow():
            found = _of_shares(condition, signals.increase(condition.metric, condition.seconds))
        case FactHolds():
            found = _of_facts(condition, signals.known(condition.source))
    return found


def _of_facts(condition: FactHolds, known: list[Known] | None) -> Findings:
    if known is None:
        return Findings((), problem=f"no part of this process tells of `{condition.source}`")
    items = (_checked(Finding(each.labels, Truth.YES, each.reason, each.value)) for each in known)
    return Findings(tuple(items), complete=True)


def _of_models(signals: Signals, look: Callable[[str], Finding]) -> Findings:
    return Findings(tuple(_checked(look(model)._replace(labels={"model": model})) for model in signals.models()))


def _burning(condition: BurnRate, signals: Signals, slo: SloSettings, model: str) -> Finding:
    rules = slo.of_model(model)
    long, short = (signals.window(model, seconds) for seconds in (condition.long_seconds, condition.short_seconds))
    if condition.sli == "errors":
        objective, counts = rules.availability, [(each.errors, each.requests) for each in (long, short)]
    else:
        objective = rules.latency
        counts = [(each.slower_than(rules.latency_seconds), each.answered) for each in (long, short)]
    if counts[0][1] < rules.min_requests:
        return Finding({}, Truth.UNKNOWN, f"{counts[0][1]} requests are too few to say")
    rates = [burn_rate(bad, of, objective) for bad, of in counts]
    in_words = ", ".join(
        "nothing happened" if rate is None else f"{rate:.3g} times too fast ({bad:,} of {of:,})"
        for rate, (bad, of) in zip(rates, counts, strict=True)
    )
    windows = f"{condition.long_seconds:,} s and {condition.short_seconds:,} s"
    reason = f"the budget of {1 - objective:.3g} goes, over {windows}: {in_words}"
    known = [rate for rate in rates if rate is not None]
    if len(known) < len(rates):
        return Finding({}, Truth.UNKNOWN, reason)
    return Finding({}, _truth(min(known) > condition.factor), reason, min(known))


def _slow_or_failing(condition: QuantileAbove | FailuresAbove, found: Health, min_requests: int) -> Finding:
    if isinstance(condition, QuantileAbove):
        count, value = found.answered, found.quantile(condition.fraction)
        took = f"{condition.fraction:.0%} of {count:,} answers took up to {_number(value)} s"
        what = f"{took}; {condition.above:g} s are allowed"
    else:
        count, value = found.requests, found.error_rate
        what = f"{found.errors:,} of {count:,} requests failed; {condition.above:.3g} of them may"
    if count < min_requests or value is None:
        return Finding({}, Truth.UNKNOWN, f"{count} requests are too few to say")
    return Finding({}, _truth(value > condition.above), what, value if math.isfinite(value) else None)


def _of_series(condition: GaugeAbove | CounterGrows, series: dict[Key, float] | None, verb: str) -> Findings:
    if series is None:
        return Findings((Finding({}, Truth.UNKNOWN, "there is nothing to compare with yet"),))
    found: dict[Key, float] = {}
    for key, value in series.items():
        labels = dict(key)
        if condition.where.items() <= labels.items():
            group = tuple((name, labels.get(name, "")) for name in condition.by)
            found[group] = _worst(found.get(group), value)
    return Findings(
        tuple(_judged(condition, dict(group), value, verb) for group, value in found.items()), complete=True
    )


def _judged(condition: GaugeAbove | CounterGrows, labels: dict[str, str], value: float, verb: str) -> Finding:
    if math.isnan(value):
        return Finding(labels, Truth.UNKNOWN, f"`{condition.metric}` is no number")
    reason = f"`{condition.metric}` {verb} {_number(value)}; {condition.above:g} is allowed"
    return Finding(labels, _truth(value > condition.above), reason, value if math.isfinite(value) else None)


def _of_shares(condition: ShareBelow, series: dict[Key, float] | None) -> Findings:
    if series is None:
        return Findings((Finding({}, Truth.UNKNOWN, "there is nothing to compare with yet"),))
    totals: dict[Key, tuple[float, float]] = {}
    for key, value in series.items():
        labels = dict(key)
        group = tuple((name, labels.get(name, "")) for name in condition.by)
        good, of = totals.get(group, (0.0, 0.0))
        totals[group] = (good + value * (labels.get(condition.label) != condition.other), of + value)
    found = []
    for group, (good, of) in totals.items():
        if not of >= condition.at_least:
            found.append(Finding(dict(group), Truth.UNKNOWN, f"{of:g} questions are too few to say"))
            continue
        reason = f"{good / of:.3g} of {of:,.0f}; it should be {condition.below:g} at least"
        found.append(Finding(dict(group), _truth(good / of < condition.below), reason, good / of))
    return Findings(tuple(found), complete=True)


def counters(rules: Iterable[AlertRule]) -> list[str]:
    """List the counters whose history these rules need."""
    conditions = (rule.condition for rule in rules)
    return sorted({each.metric for each in conditions if isinstance(each, CounterGrows | ShareBelow)})


def _worst(known: float | None, value: float) -> float:
    return value if known is None or math.isnan(known) else max(known, value)


def _checked(finding: Finding) -> Finding:
    """Return a finding whose number is one."""
    if finding.value is not None and not math.isfinite(finding.value):
        return finding._replace(truth=Truth.UNKNOWN, value=None)
    return finding


def _truth(holds: bool) -> Truth:
    return Truth.YES if holds else Truth.NO


def _number(value: float | None) -> str:
    return "no" if value is None else "more than can be told" if math.isinf(value) else f"{value:.4g}"

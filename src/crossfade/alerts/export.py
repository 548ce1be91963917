"""`rules_file`: the catalogue as a rule file of Prometheus: recording rules for service levels, and alerting rules.

The same rule, the same thresholds, the same metrics. Two things differ by nature: Prometheus sees every server, while
the evaluator sees the numbers of its own server and the health of all; and without data an expression of Prometheus is
empty, so an alert there ends where ours waits.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from crossfade.alerts.catalogue import catalogue
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
from crossfade.settings import Settings, SloRules
from crossfade.traffic.health import SECONDS

_REQUESTS = "crossfade_requests_total"
_DURATION = "crossfade_inference_duration_seconds"
FIRING = "crossfade_alerts_firing"
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def rules_file(settings: Settings) -> str:
    """Return the rule file as YAML.

    Example:
        >>> rules_file(Settings()).splitlines()[0]
        'groups:'
    """
    rules = catalogue(settings)
    lines = ["groups:", "  - name: crossfade-service-levels", "    rules:"]
    for name, expression in _recordings(rules, settings):
        lines += [f"      - record: {name}", f"        expr: {_quoted(expression)}"]
    lines += ["  - name: crossfade", "    rules:"]
    for rule in rules:
        lines += _alerting(rule, settings)
    return "\n".join(lines) + "\n"


def expression(condition: Condition, settings: Settings, name: str) -> str:
    """Return a condition as PromQL.

    Args:
        condition: Which.
        settings: The service levels.
        name: Of its rule.
    """
    match condition:
        case BurnRate():
            found = " or ".join(_burning(condition, rules, models) for rules, models in _levels(settings))
        case QuantileAbove():
            found = (
                f"histogram_quantile({condition.fraction:g}, sum by (model, le) "
                f"(rate({_DURATION}_bucket{_braces(_ANSWERS)}[{span(condition.seconds)}]))) > {condition.above:g}"
                f" and {_enough(condition.seconds, settings.slo.min_requests)}"
            )
        case FailuresAbove():
            found = (
                f"{_failed(condition.seconds)} > {condition.above:g}"
                f" and {_enough(condition.seconds, settings.slo.min_requests)}"
            )
        case GaugeAbove():
            series = f"{condition.metric}{_braces(_equal(condition.where))}"
            found = f"{_over('max', condition.by)} ({series}) > {condition.above:g}"
        case CounterGrows():
            series = f"{condition.metric}{_braces(_equal(condition.where))}[{span(condition.seconds)}]"
            found = f"{_over('max', condition.by)} (increase({series})) > {condition.above:g}"
        case ShareBelow():
            found = _share(condition)
        case FactHolds() if condition.shown is not None:
            found = expression(condition.shown, settings, name)
        case FactHolds():
            found = f'max by (model) ({FIRING}{{alert="{name}"}}) > 0'
    return found


def span(seconds: int) -> str:
    """Return a length of time as Prometheus writes it.

    Example:
        >>> span(300), span(21_600), span(259_200), span(90)
        ('5m', '6h', '3d', '90s')
    """
    size, unit = next((size, unit) for size, unit in _UNITS if seconds % size == 0)
    return f"{seconds // size}{unit}"


def bucket(seconds: float) -> str:
    """Return the bucket of latency that a target falls into, as its label: the histogram knows no other bounds.

    Example:
        >>> bucket(0.1), bucket(0.2), bucket(99.0)
        ('0.1', '0.25', '+Inf')
    """
    return next((str(bound) for bound in SECONDS if bound >= seconds), "+Inf")


_MODELS = 'model!=""'
_ANSWERS = ('stage="total"', _MODELS)


def _alerting(rule: AlertRule, settings: Settings) -> Iterator[str]:
    yield f"      - alert: {rule.name}"
    yield f"        expr: {_quoted(expression(rule.condition, settings, rule.name))}"
    if rule.for_seconds and not isinstance(rule.condition, FactHolds):
        yield f"        for: {span(int(rule.for_seconds))}"
    yield "        labels:"
    yield f"          severity: {rule.severity}"
    yield "        annotations:"
    summary = rule.summary.replace("{labels}", "{{ if $labels.model }}{{ $labels.model }}{{ else }}Crossfade{{ end }}")
    yield f"          summary: {_quoted(summary)}"
    yield f"          description: {_quoted(rule.meaning)}"


def _recordings(rules: Iterable[AlertRule], settings: Settings) -> Iterator[tuple[str, str]]:
    burning = [rule.condition for rule in rules if isinstance(rule.condition, BurnRate)]
    windows = sorted({(each.sli, seconds) for each in burning for seconds in (each.long_seconds, each.short_seconds)})
    for sli, seconds in windows:
        if sli == "errors":
            yield f"crossfade:sli_errors:ratio_rate{span(seconds)}", _failed(seconds)
        else:  # one rule for all: Prometheus warns of several that record the same
            slow = " or ".join(_slow(seconds, level, models) for level, models in _levels(settings))
            yield f"crossfade:sli_latency:ratio_rate{span(seconds)}", slow


def _levels(settings: Settings) -> Iterator[tuple[SloRules, str]]:
    """Yield service levels, each with a matcher of the models that it holds for."""
    own = settings.slo.models
    others = "|".join(sorted(name.replace(".", "\\\\.") for name in own))
    yield settings.slo, f'model!~"{others}"' if own else _MODELS
    for name in sorted(own):
        yield settings.slo.of_model(name), f'model="{name}"'


def _burning(condition: BurnRate, level: SloRules, models: str) -> str:
    objective = level.availability if condition.sli == "errors" else level.latency
    allowed = f"{round(condition.factor * (1 - objective), 12):g}"
    both = " and ".join(
        f"crossfade:sli_{condition.sli}:ratio_rate{span(seconds)}{{{models}}} > {allowed}"
        for seconds in (condition.long_seconds, condition.short_seconds)
    )
    return f"({both} and {_enough(condition.long_seconds, level.min_requests, models)})"


def _enough(seconds: int, count: int, models: str = _MODELS) -> str:
    return f"sum by (model) (increase({_REQUESTS}{{{models}}}[{span(seconds)}])) >= {count}"


def _failed(seconds: int) -> str:
    window = span(seconds)
    of = f"sum by (model) (rate({_REQUESTS}{{{_MODELS}}}[{window}]))"
    return f'sum by (model) (rate({_REQUESTS}{{code="5xx",{_MODELS}}}[{window}])) / {of}'


def _slow(seconds: int, level: SloRules, models: str) -> str:
    window, answers = span(seconds), ('stage="total"', _MODELS, models)
    within = _braces((f'le="{bucket(level.latency_seconds)}"', *dict.fromkeys(answers)))
    fast = f"sum by (model) (rate({_DURATION}_bucket{within}[{window}]))"
    return f"1 - {fast} / sum by (model) (rate({_DURATION}_count{_braces(dict.fromkeys(answers))}[{window}]))"


def _share(condition: ShareBelow) -> str:
    window = span(condition.seconds)
    over = _over("sum", condition.by)
    of = f"{over} (increase({condition.metric}[{window}]))"
    part = f'{over} (increase({condition.metric}{{{condition.label}!="{condition.other}"}}[{window}]))'
    return f"{part} / {of} < {condition.below:g} and {of} >= {condition.at_least}"


def _over(what: str, by: tuple[str, ...]) -> str:
    return f"{what} by ({', '.join(by)})" if by else what


def _equal(where: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f'{label}="{value}"' for label, value in where.items())


def _braces(matchers: Iterable[str]) -> str:
    inside = ",".join(matchers)
    return f"{{{inside}}}" if inside else ""


def _quoted(text: str) -> str:
    """Return text as YAML: a JSON string is one."""
    return json.dumps(text, ensure_ascii=False)

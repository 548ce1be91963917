"""What can be checked: one struct for each kind, with what all have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from crossfade.errors import InvalidMetricError, WebhookRefusedError
from crossfade.ledger.metrics import MetricSpec
from crossfade.notifications.addresses import literal, objection, target_of

Event = Literal["errors", "slow", "unsafe", "fallbacks"]
EVENTS: tuple[Event, ...] = ("errors", "slow", "unsafe", "fallbacks")
"""Bad events of requests, most telling first."""
Series = Literal[
    "error_rate",
    "refused_rate",
    "fallback_rate",
    "unsafe_rate",
    "requests_per_second",
    "p50_seconds",
    "p95_seconds",
    "p99_seconds",
    "queue_depth",
    "memory_bytes",
]
MAX_QUERY = 10_000
_LONGEST = 86_400.0
_MOST = 10**6


class _Limits(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """How often a check is made, and how many results of a kind it may have in a step.

    Args:
        interval_seconds: From one measurement to the next.
        failure_limit: Failed measurements that are forgiven; one more, and the rollout is rolled back.
        inconclusive_limit: Measurements that decide nothing at the end of a step; one more, and it waits for a person.
        error_limit: Measurements in a row that could not be made; one more, and it waits for a person.
        success_count: Measurements that have to pass before a step is over; 0: one is enough.
        success_in_a_row: So many in a row are enough, too; 0: they never are.
    """

    interval_seconds: float = 10.0
    failure_limit: int = 0
    inconclusive_limit: int = 0
    error_limit: int = 4
    success_count: int = 0
    success_in_a_row: int = 0


class ErrorRateCheck(_Limits, frozen=True, tag_field="check", tag="error_rate"):
    """Does the new version fail more often than the old one, at the same time? May be asked after every request.

    Args:
        name: A slug.
        events: What is bad: `errors` (failed or refused requests), `slow` (above the old version's p99 at the start),
            `unsafe` answers, `fallbacks` (somebody else had to answer).
        alpha: How likely a version that is no worse may be rolled back, over the whole rollout.
        tolerated: How many times as often as the old version is still acceptable.
        margin: To go on, it has to be shown that bad events are less than (1 + margin) times as frequent; None: it is
            enough that nothing speaks against it.
    """

    name: str
    events: tuple[Event, ...] = EVENTS
    alpha: float = 0.01
    tolerated: float = 1.0
    margin: float | None = None


class MetricCheck(_Limits, frozen=True, tag_field="check", tag="metric"):
    """Is a metric of the ledger no worse? By a one-sided confidence sequence, so it may be asked at any time.

    Args:
        name: A slug.
        metric: What is measured; its `margin` says how much worse, relative to the old version, is acceptable, or its
            `margin_absolute` in its unit; that has to be shown before the rollout goes on.
        alpha: How likely a metric that is no worse may bring the rollout back.
    """

    name: str
    metric: MetricSpec
    alpha: float = 0.01

    @property
    def guardrail(self) -> MetricSpec:
        """The metric as something that must not become worse."""
        return msgspec.structs.replace(self.metric, role="guardrail")


class ThresholdCheck(_Limits, frozen=True, tag_field="check", tag="threshold"):
    """Is a number within its limits?

    Args:
        name: A slug.
        series: One of the new version's health windows; or
        query: A query for Prometheus whose only result counts. `{model}`, `{version}` and `{rollout}` are filled in.
        window_seconds: Of the health window.
        minimum: The number may not be smaller.
        maximum: The number may not be larger.
    """

    name: str
    series: Series | None = None
    query: str = ""
    window_seconds: float = 60.0
    minimum: float | None = None
    maximum: float | None = None


class ExperimentCheck(_Limits, frozen=True, tag_field="check", tag="experiment"):
    """Has an experiment decided for the new version?

    Args:
        name: A slug.
        experiment: Its name.
    """

    name: str
    experiment: str


class WebhookCheck(_Limits, frozen=True, tag_field="check", tag="webhook"):
    """Does somebody's service agree? It is sent the rollout, signed, and answers `{"result": "pass", "reason": "..."}`.

    Args:
        name: A slug.
        url: Where.
    """

    name: str
    url: str


CheckSpec = ErrorRateCheck | MetricCheck | ThresholdCheck | ExperimentCheck | WebhookCheck


def problems_of_check(check: CheckSpec) -> Iterator[str]:
    """Say what is wrong with a check by itself."""
    if not 0 < check.interval_seconds <= _LONGEST:
        yield f"is made every {check.interval_seconds} seconds, and up to {_LONGEST:g} is possible"
    for field in ("failure_limit", "inconclusive_limit", "error_limit", "success_count", "success_in_a_row"):
        if not 0 <= getattr(check, field) <= _MOST:
            yield f"has the `{field}` {getattr(check, field)}, and 0 to {_MOST} is possible"
    if isinstance(check, ErrorRateCheck):
        yield from _problems_of_error_rate(check)
    elif isinstance(check, ThresholdCheck):
        yield from _problems_of_threshold(check)
    elif isinstance(check, MetricCheck):
        yield from _problems_of_metric(check)
    elif isinstance(check, WebhookCheck):
        yield from _problems_of_webhook(check)


def _problems_of_error_rate(check: ErrorRateCheck) -> Iterator[str]:
    if not check.events or len(set(check.events)) != len(check.events):
        yield "names each of its events once, and at least one"
    if not 0 < check.alpha < 0.5:
        yield f"has the alpha {check.alpha}, and 0 to 0.5 is possible"
    if not 0 < check.tolerated <= 100:
        yield f"tolerates {check.tolerated} times as many bad events, and up to 100 is possible"
    if check.margin is not None and not 0 < check.margin <= 100:
        yield f"has the margin {check.margin}, and above 0 to 100 is possible"


def _problems_of_threshold(check: ThresholdCheck) -> Iterator[str]:
    if (check.series is None) == (not check.query):
        yield "needs either a `series` or a `query`"
    if len(check.query) > MAX_QUERY:
        yield f"has a query of more than {MAX_QUERY} characters"
    if check.minimum is None and check.maximum is None:
        yield "needs a `minimum`, a `maximum`, or both"
    if not 0 < check.window_seconds <= 3600:
        yield f"has a window of {check.window_seconds} seconds, and up to 3600 is possible"
    for value in (check.minimum, check.maximum):
        if value is not None and not -1e300 < value < 1e300:
            yield f"has a limit that is no number: {value}"
    if check.minimum is not None and check.maximum is not None and check.minimum > check.maximum:
        yield f"wants at least {check.minimum:g} and at most {check.maximum:g}, which no number is"


def _problems_of_metric(check: MetricCheck) -> Iterator[str]:
    try:
        check.guardrail.checked()
    except InvalidMetricError as error:
        yield f"has a metric that cannot be: {error.message}"
    if check.metric.kind == "quantile":
        yield "has a quantile, which has no one-sided test; use `slow` of an error rate, or a threshold"
    if not 0 < check.alpha < 0.5:
        yield f"has the alpha {check.alpha}, and 0 to 0.5 is possible"


def _problems_of_webhook(check: WebhookCheck) -> Iterator[str]:
    try:
        host = target_of(check.url).host
    except WebhookRefusedError as error:
        yield f"has a URL that is never called: {error.facts['problem']}"
        return
    # a name is looked up when it is asked: its addresses are those of that moment
    if literal(host) is not None and (why := objection(host, private=True)):
        yield f"has a URL that is never called: its address is {why}"

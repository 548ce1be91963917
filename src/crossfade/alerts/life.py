"""`advance`: the life of one alert, as a pure function of what is known at each look.

| it is | the condition | then |
|---|---|---|
| not there, resolved | holds | pending; firing at once when the rule waits for nothing |
| pending | holds for `for_seconds` without a break | firing |
| pending | does not hold, or nobody knows | not there; resolved, when it was that before |
| firing | does not hold, for as long as it has to be well | resolved |
| firing | nobody knows | firing; resolved after `alerts.unknown_seconds`, and the reason says so |

How long it has to be well doubles with each time that it began to fire within an hour, so that something that comes and
goes is one alert, and not a message every minute.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec.structs import replace

from crossfade.alerts.measuring import Finding, Truth
from crossfade.alerts.record import Alert, AlertStatus, about, alert_id
from crossfade.alerts.rule import AlertRule
from crossfade.settings import AlertSettings

HOUR = timedelta(hours=1)
FLAPPING = 3
"""Times that it began to fire within an hour."""


def advance(
    alert: Alert | None, finding: Finding, rule: AlertRule, now: datetime, settings: AlertSettings
) -> Alert | None:
    """Return an alert as it is after one more look; None when there is none.

    Args:
        alert: As it was; None when there was none.
        finding: What is known now.
        rule: Whose alert it is.
        now: The present moment.
        settings: How long what has to last.
    """
    if finding.truth is Truth.YES:
        return _holding(alert, finding, rule, now)
    if alert is None or alert.status is AlertStatus.RESOLVED:
        return alert
    if alert.status is AlertStatus.PENDING:
        return None if alert.resolved_at is None else replace(alert, status=AlertStatus.RESOLVED)
    return (_unknown if finding.truth is Truth.UNKNOWN else _well)(alert, finding, now, settings)


def quiet(alert: Alert, now: datetime, settings: AlertSettings) -> timedelta:
    """Return how long an alert has to be well before it is over."""
    times = sum(now - each < HOUR for each in alert.firings)
    doubled = settings.resolve_seconds * 2.0 ** min(max(times - 1, 0), 20)
    return timedelta(seconds=max(settings.resolve_seconds, min(HOUR.total_seconds(), doubled)))


def _unknown(alert: Alert, finding: Finding, now: datetime, settings: AlertSettings) -> Alert:
    since = alert.unknown_since or now
    if now - since >= timedelta(seconds=settings.unknown_seconds):
        return _over(alert, now, f"nothing has been known for {settings.unknown_seconds:g} s: {finding.reason}")
    return replace(alert, unknown_since=since, well_since=None, reason=finding.reason)


def _well(alert: Alert, finding: Finding, now: datetime, settings: AlertSettings) -> Alert:
    since = alert.well_since or now
    if now - since >= quiet(alert, now, settings):
        return _over(replace(alert, value=finding.value), now, finding.reason)
    return replace(alert, well_since=since, unknown_since=None)  # its reason and number stay those that it fires for


def _holding(alert: Alert | None, finding: Finding, rule: AlertRule, now: datetime) -> Alert:
    if alert is None:
        alert = Alert(
            id=alert_id(rule.name, finding.labels),
            rule=rule.name,
            severity=rule.severity,
            labels=finding.labels,
            status=AlertStatus.PENDING,
            summary=rule.summary.format(labels=about(finding.labels)),
            reason=finding.reason,
            value=finding.value,
            since=now,
        )
    elif alert.status is AlertStatus.RESOLVED:
        alert = replace(alert, status=AlertStatus.PENDING, since=now)
    alert = replace(alert, reason=finding.reason, value=finding.value, well_since=None, unknown_since=None)
    if alert.status is AlertStatus.PENDING and now - alert.since >= timedelta(seconds=rule.for_seconds):
        firings = (*(each for each in alert.firings if now - each < HOUR), now)
        flapping = len(firings) >= FLAPPING
        return replace(
            alert,
            status=AlertStatus.FIRING,
            severity=rule.severity,
            fired_at=now,
            resolved_at=None,
            firings=firings,
            flapping=flapping,
        )
    return alert


def _over(alert: Alert, now: datetime, reason: str) -> Alert:
    return replace(
        alert, status=AlertStatus.RESOLVED, resolved_at=now, reason=reason, well_since=None, unknown_since=None
    )

"""`Board`: alerts and groups as they are stored; every write belongs to the transaction of the evaluator."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection, delete, insert, select, update

from crossfade.alerts.grouping import Group, Note, group_of, plan
from crossfade.alerts.life import advance
from crossfade.alerts.measuring import Finding, Findings, Truth
from crossfade.alerts.record import Alert, AlertStatus, Silence, alert_id
from crossfade.alerts.rule import AlertRule
from crossfade.settings import AlertSettings
from crossfade.storage.changes import commit_change
from crossfade.storage.tables import alert_groups, alerts
from crossfade.storage.times import to_text

PRINCIPAL = "alerts"
"""Who makes alerts fire and be over."""
_FRESH = timedelta(seconds=60)
_AUDITED = {AlertStatus.FIRING: "alert.fire", AlertStatus.RESOLVED: "alert.resolve"}


def read_alerts(connection: Connection) -> dict[str, Alert]:
    """Return all alerts by their id."""
    found = (msgspec.json.decode(body, type=Alert) for body in connection.scalars(select(alerts.c.body)))
    return {alert.id: alert for alert in found}


def progressed(
    known: Mapping[str, Alert],
    found: Iterable[tuple[AlertRule, Findings]],
    now: datetime,
    settings: AlertSettings,
) -> dict[str, Alert | None]:
    """Return every alert as it is after a look; None for those that are no more. Pure.

    Args:
        known: As they were.
        found: Rules with what they have found.
        now: The present moment.
        settings: How long what has to last.
    """
    after: dict[str, Alert | None] = dict(known)
    rules = {}
    for rule, findings in found:
        rules[rule.name] = True
        items = {alert_id(rule.name, each.labels): each for each in findings.items}
        for key, alert in known.items():
            if alert.rule == rule.name and key not in items:
                items[key] = _absent(alert, findings)
        for key, finding in items.items():
            after[key] = advance(known.get(key), finding, rule, now, settings)
    for key, alert in known.items():
        if alert.rule not in rules:  # disabled, or of another release
            after[key] = replace(alert, status=AlertStatus.RESOLVED, resolved_at=alert.resolved_at or now)
        old = alert.status is AlertStatus.RESOLVED and now - (alert.resolved_at or now) > timedelta(
            seconds=settings.keep_seconds
        )
        if old and after[key] == alert:
            after[key] = None
    return {key: alert for key, alert in after.items() if alert is not None or key in known}


def _absent(alert: Alert, findings: Findings) -> Finding:
    if findings.complete:
        return Finding(alert.labels, Truth.NO, "it is no longer so")
    return Finding(alert.labels, Truth.UNKNOWN, findings.problem or "nothing was heard of it")


def save_alerts(
    connection: Connection, known: Mapping[str, Alert], after: Mapping[str, Alert | None], now: datetime
) -> bool:
    """Write what has changed, with an audit entry for what began to fire or is over; tell whether anything has."""
    changed = False
    for key, alert in after.items():
        before = known.get(key)
        if alert is None:
            connection.execute(delete(alerts).where(alerts.c.id == key))
            changed = True
        elif before is None or _differs(before, alert):
            _save_alert(connection, before, alert, now)
            changed = True
    return changed


def _differs(before: Alert, after: Alert) -> bool:
    """Tell whether more than a number has changed: numbers alone are not worth a write at every look."""
    same = replace(after, value=before.value, reason=before.reason)
    return same != before or (after.status is AlertStatus.FIRING and before.reason != after.reason)


def _save_alert(connection: Connection, before: Alert | None, alert: Alert, now: datetime) -> None:
    moved = before is None or before.status is not alert.status
    values = {"status": alert.status.value, "body": msgspec.json.encode(alert).decode()}
    if before is None:
        connection.execute(insert(alerts).values(id=alert.id, changed_at=to_text(now), **values))
    else:
        stamp = {"changed_at": to_text(now)} if moved else {}
        connection.execute(update(alerts).where(alerts.c.id == alert.id).values(**values, **stamp))
    came_back = before is not None and before.status is AlertStatus.PENDING and alert.status is AlertStatus.RESOLVED
    if moved and alert.status in _AUDITED and not came_back:
        details = {"rule": alert.rule, "labels": alert.labels, "severity": alert.severity, "reason": alert.reason}
        commit_change(
            connection,
            kind="alert",
            model="",
            subject=alert.id,
            principal=PRINCIPAL,
            action=_AUDITED[alert.status],
            details=details,
            now=now,
        )


def notify(
    connection: Connection,
    found: Iterable[Alert],
    silences: Iterable[Silence],
    now: datetime,
    settings: AlertSettings,
) -> tuple[list[Note], bool]:
    """Work out which groups have to be told of, and store that; return the messages, and whether groups changed."""
    silences = tuple(silences)
    known = {
        group.key: group
        for group in (msgspec.json.decode(body, type=Group) for body in connection.scalars(select(alert_groups.c.body)))
    }
    members: dict[str, list[Alert]] = defaultdict(list)
    for alert in found:
        silenced = any(silence.covers(alert, now) for silence in silences)
        members[group_of(alert, settings)[0]].append(replace(alert, silenced=silenced))
    notes: list[Note] = []
    changed = False
    for key in sorted({*known, *members}):
        before = known.get(key)
        after, note = plan(before, members.get(key, ()), now, settings)
        if note is not None:
            notes.append(note)
        if after != before:
            changed = True
            connection.execute(delete(alert_groups).where(alert_groups.c.key == key))
            if after is not None:
                connection.execute(insert(alert_groups).values(key=key, body=msgspec.json.encode(after).decode()))
    return notes, changed

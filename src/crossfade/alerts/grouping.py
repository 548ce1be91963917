"""`plan`: when a group of alerts is told of, as a pure function.

Alerts of the same severity whose labels `alerts.group_by` are equal share one message: the first waits a moment for
company, further ones keep a distance, and what has not changed is repeated after hours. A silenced alert is in no
message; nobody is told that something is over who was not told that it had begun.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from textwrap import shorten
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from crossfade.alerts.record import Alert, AlertStatus, about
from crossfade.core.hashing import canonical_json, sha256
from crossfade.notifications.event import Event
from crossfade.settings import AlertSettings

MAX_TOLD = 50
"""Alerts that are named in one message."""
_MAX_SUMMARY = 500


class Group(msgspec.Struct, frozen=True):
    """What has been told of a group.

    Args:
        key: Of the group.
        severity: Of its alerts.
        labels: That its alerts share.
        waiting_since: When its first alert began to fire.
        told_at: When the last message went out; None before the first.
        told: Alert -> when the firing that was told of began.
    """

    key: str
    severity: str
    labels: dict[str, str]
    waiting_since: datetime
    told_at: datetime | None = None
    told: dict[str, datetime] = {}


class Note(NamedTuple):
    """One message about a group."""

    severity: str
    labels: Mapping[str, str]
    firing: tuple[Alert, ...]
    resolved: tuple[Alert, ...]

    def event(self, now: datetime) -> Event:
        """Return it as an event for channels."""
        named = [*self.firing, *self.resolved]
        first = named[0]
        more = f", and {len(named) - 1} more" if len(named) > 1 else ""
        over = "" if self.firing else "resolved: "
        return Event(
            "alert.firing" if self.firing else "alert.resolved",
            about(dict(self.labels)),
            shorten(f"{over}{first.rule}: {first.summary} ({first.reason}){more}", _MAX_SUMMARY, placeholder=" ..."),
            now,
            self.severity,
            self.labels.get("model", ""),
            {
                "firing": [_told(alert) for alert in self.firing[:MAX_TOLD]],
                "resolved": [_told(alert) for alert in self.resolved[:MAX_TOLD]],
                "firing_count": len(self.firing),
                "resolved_count": len(self.resolved),
            },
        )


def group_of(alert: Alert, settings: AlertSettings) -> tuple[str, dict[str, str]]:
    """Return the key of an alert's group, and the labels that its members share."""
    labels = {name: alert.labels.get(name, "") for name in settings.group_by}
    return sha256(canonical_json([alert.severity, labels])), {name: value for name, value in labels.items() if value}


def plan(
    group: Group | None, members: Iterable[Alert], now: datetime, settings: AlertSettings
) -> tuple[Group | None, Note | None]:
    """Return a group as it is afterwards, and the message that is due.

    Args:
        group: What has been told; None when nothing was and nothing waits.
        members: Alerts of the group, with `silenced` as it is now.
        now: The present moment.
        settings: Waits and intervals.
    """
    members = sorted(members, key=lambda alert: (alert.fired_at or now, alert.rule, alert.id))
    told = {} if group is None else group.told
    active = {alert.id: alert for alert in members if alert.status is AlertStatus.FIRING}
    firing = tuple(alert for alert in active.values() if not alert.silenced)
    over = tuple(alert for alert in members if alert.id in told and alert.id not in active and not alert.silenced)
    if not firing and not over:
        rest = {key: at for key, at in told.items() if key in active}
        return (None if group is None or not rest else replace(group, told=rest)), None
    if group is None:
        first = members[0]
        key, labels = group_of(first, settings)
        group = Group(key, first.severity, labels, waiting_since=now)
    fresh = any(told.get(alert.id) != alert.fired_at for alert in firing)
    if not _due(group, now, settings, changed=fresh or bool(over)):
        return group, None
    known = {alert.id: alert.fired_at or now for alert in firing}
    silenced = {key: at for key, at in told.items() if key in active and key not in known}
    after = replace(group, told_at=now, told=known | silenced) if known or silenced else None
    return after, Note(group.severity, group.labels, firing, over)


def _due(group: Group, now: datetime, settings: AlertSettings, *, changed: bool) -> bool:
    if group.told_at is None:
        return now - group.waiting_since >= timedelta(seconds=settings.group_wait_seconds)
    pause = settings.group_interval_seconds if changed else settings.repeat_seconds
    return now - group.told_at >= timedelta(seconds=pause)


def _told(alert: Alert) -> dict[str, object]:
    shown = ("id", "rule", "labels", "summary", "reason", "value", "flapping")
    times = {"fired_at": alert.fired_at, "resolved_at": alert.resolved_at}
    at = {name: None if moment is None else moment.isoformat() for name, moment in times.items()}
    return {name: getattr(alert, name) for name in shown} | at

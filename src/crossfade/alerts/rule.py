"""`AlertRule`: what shall be known, how soon, and what to do about it."""

from __future__ import annotations

import msgspec

from crossfade.alerts.conditions import Condition


class AlertRule(msgspec.Struct, frozen=True):
    """One rule of the catalogue.

    Args:
        name: As people and Prometheus know it.
        severity: `info`, `ticket` or `page`.
        summary: One sentence; `{labels}` in it becomes what the alert is about.
        meaning: What it means, and what to do.
        condition: When it is so.
        for_seconds: How long it has to be so without a break.
    """

    name: str
    severity: str
    summary: str
    meaning: str
    condition: Condition
    for_seconds: float = 0.0

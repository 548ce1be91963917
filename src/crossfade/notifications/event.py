"""`Event`: something that happened and that somebody may want to know at once."""

from __future__ import annotations

from datetime import datetime
from enum import IntEnum
from typing import Any

import msgspec

from crossfade.core.identity import new_id


class Severity(IntEnum):
    """How soon a person has to look."""

    INFO = 0
    """It happened; nothing has to be done."""
    TICKET = 1
    """Within days."""
    PAGE = 2
    """Now."""

    @property
    def word(self) -> str:
        """As it is written everywhere: `info`, `ticket`, `page`."""
        return self.name.lower()


class Event(msgspec.Struct, frozen=True):
    """One thing that happened.

    Args:
        kind: What, as a dotted name: `rollout.rolled_back`, `alert.firing`.
        subject: What it is about, for example `churn:2.1.0`.
        summary: One sentence for people.
        at: When.
        severity: `info`, `ticket` or `page`.
        model: Whose; empty for none.
        details: Facts, JSON values only, without secrets.
        id: The same whenever the same event is sent again, so that receivers can tell.

    Example:
        >>> from datetime import UTC
        >>> Event("rollout.step", "churn:2.1.0", "10 % of traffic", datetime(2026, 1, 1, tzinfo=UTC)).severity
        'info'
    """

    kind: str
    subject: str
    summary: str
    at: datetime
    severity: str = "info"
    model: str = ""
    details: dict[str, Any] = {}
    id: str = msgspec.field(default_factory=new_id)

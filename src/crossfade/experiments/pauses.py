"""Pauses: how long an experiment has given everybody the champion, by the log of what happened to it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select

from crossfade.experiments.history import entries_of
from crossfade.experiments.record import Status
from crossfade.storage.tables import audit
from crossfade.storage.times import from_text

_PAUSE = f"experiment.{Status.PAUSED.value}"
_END_PAUSES = tuple(f"experiment.{status.value}" for status in (Status.RUNNING, Status.STOPPED, Status.DECIDED))


def paused_seconds(connection: Connection, name: str, begun: datetime, until: datetime) -> float:
    """Return how long an experiment has been paused since units could take part.

    Args:
        connection: To the database.
        name: Of the experiment.
        begun: When they could for the first time: a pause before that was none for them.
        until: When it ended, or the present time: to there a pause that goes on counts.
    """
    steps = select(audit.c.action, audit.c.at).where(entries_of(name), audit.c.action.in_((_PAUSE, *_END_PAUSES)))
    total, since = 0.0, None
    for action, text in connection.execute(steps.order_by(audit.c.seq)):
        at = min(max(from_text(text), begun), until)
        if action == _PAUSE:
            since = at
        elif since is not None:
            total, since = total + (at - since).total_seconds(), None
    return total if since is None else total + (until - since).total_seconds()

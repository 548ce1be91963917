"""`EventCounts`: what has become of the events of this process; written by several threads, each its own part."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

EXPOSURE, OUTCOME = "exposure", "outcome"


def _none() -> Counter[str]:
    return Counter({EXPOSURE: 0, OUTCOME: 0})


@dataclass
class EventCounts:
    """Counts by kind of event (`exposure`, `outcome`).

    Attributes:
        acked: Promised: outcomes that are durable, exposures that were taken.
        spooled: Written to the journal of this process.
        shipped: Brought to the database, by this process, of whatever journal; those it had already are not counted.
        dropped: Exposures that were lost for want of room, or could not be written.
        refused: Reason -> events that came to the database and are of no use: what they belong to, or measure, is
            unknown, or their id was that of another one.
        truncated_bytes: Of journals whose process ended in the middle of a record.
        spool_bytes: In files that are not yet in the database.
        unshipped_since: When the oldest event that waits was written, on the monotonic clock; None when none waits.
    """

    acked: Counter[str] = field(default_factory=_none)
    spooled: Counter[str] = field(default_factory=_none)
    shipped: Counter[str] = field(default_factory=_none)
    dropped: Counter[str] = field(default_factory=_none)
    refused: Counter[str] = field(default_factory=Counter)
    truncated_bytes: int = 0
    spool_bytes: int = 0
    unshipped_since: float | None = None

    def oldest_unshipped_seconds(self, clock: Callable[[], float] = time.monotonic) -> float:
        """Return how long the oldest event has waited for the database."""
        since = self.unshipped_since
        return 0.0 if since is None else max(0.0, clock() - since)

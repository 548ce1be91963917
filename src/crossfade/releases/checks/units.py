"""How many units have come to each side of a rollout, where no process reports requests."""

from __future__ import annotations

from sqlalchemy import func, select

from crossfade.releases.rollout import CANDIDATE, STABLE
from crossfade.storage.database import Database
from crossfade.storage.tables import arrivals


def units_of(database: Database, rollout: str) -> tuple[int, int]:
    """Return how many units are known of the new and of the old version."""
    counts = select(arrivals.c.variant, func.sum(arrivals.c.units)).where(arrivals.c.experiment == rollout)
    with database.read() as connection:
        found = {row[0]: int(row[1]) for row in connection.execute(counts.group_by(arrivals.c.variant))}
    return found.get(CANDIDATE, 0), found.get(STABLE, 0)

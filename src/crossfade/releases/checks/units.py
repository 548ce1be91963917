"""How many units have come to each side of a rollout, where no process reports requests."""

from __future__ import annotations

from sqlalchemy import func, select

from crossfade.releases.rollout import CANDIDATE, STABLE
from crossfade.storage.database import Database
from crossfade.storage.tables import arrivals


def units_of(database: Database, rollout: str) -> tuple[int, int]:
    """Return how many units have had the new and the old version.

    An analysis leaves out whoever has had both; here they count for both, or nobody would ever come to a step whose
    units have all had the old version before.
    """
    sums = func.sum(arrivals.c.units), func.sum(arrivals.c.moved)
    counts = select(arrivals.c.variant, *sums).where(arrivals.c.experiment == rollout)
    with database.read() as connection:
        found = {row[0]: (int(row[1]), int(row[2])) for row in connection.execute(counts.group_by(arrivals.c.variant))}
    new, old = found.get(CANDIDATE, (0, 0)), found.get(STABLE, (0, 0))
    both = new[1] + old[1]
    return new[0] + both, old[0] + both

"""How many units came to each variant on each day: what tells whether they came in the proportions that were meant."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, delete, select

from crossfade.ledger.changes import Base
from crossfade.ledger.evidence import Arrival
from crossfade.storage.tables import arrivals
from crossfade.storage.upsert import upsert


def arrive(
    connection: Connection,
    experiment: str,
    changed: Mapping[Base, tuple[int, int]],
    weights: Mapping[Base, float],
) -> None:
    """Add units that came, or take back those that are not counted any more.

    Args:
        connection: From `Database.write`.
        experiment: Its name.
        changed: By how many units that are counted, and that were seen in another variant later.
        weights: The greatest propensity that was seen there; within a revision it is always the same.
    """
    old = {Base(each.revision, each.variant, each.day): each for each in _stored(connection, experiment)}
    rows = []
    for base, (units, moved) in changed.items():
        known = old.get(base) or Arrival(*base, units=0, weight=0.0)
        rows.append(
            {
                "experiment": experiment,
                **base._asdict(),
                "units": known.units + units,
                "weight": max(weights.get(base, 0.0), known.weight),
                "moved": known.moved + moved,
            }
        )
    upsert(connection, arrivals, rows)


def read_arrivals(connection: Connection, experiment: str) -> tuple[Arrival, ...]:
    """Return all arrivals of an experiment, by revision, day and variant."""
    return tuple(each for each in _stored(connection, experiment) if each.came)


def forget_arrivals(connection: Connection, experiment: str) -> None:
    """Forget all arrivals of an experiment."""
    connection.execute(delete(arrivals).where(arrivals.c.experiment == experiment))


def _stored(connection: Connection, experiment: str) -> list[Arrival]:
    named = ("revision", "variant", "day", "units", "weight", "moved")
    columns = tuple(arrivals.c[name] for name in named)
    query = select(*columns).where(arrivals.c.experiment == experiment)
    ordered = query.order_by(arrivals.c.revision, arrivals.c.day, arrivals.c.variant)
    return [Arrival(*row) for row in connection.execute(ordered)]

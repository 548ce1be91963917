"""How many events there were, and what became of those that could not be used."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import Connection, delete, select

from crossfade.storage.tables import ledger_counts
from crossfade.storage.upsert import upsert

NOBODY = ""
"""The experiment of events that belong to none that is measured."""
REFUSED = "refused/"
"""What the names of refusals begin with."""


UNKNOWN_EXPERIMENT = "unknown_experiment"
"""Why events belong to `NOBODY`."""
CONFLICTING_ID = "conflicting_id"
"""Why outcomes are not even among the raw events: another one has their id, and says something else."""


class Counts:
    """Counts to be added: by experiment and name."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, experiment: str, name: str, count: int = 1) -> None:
        """Count something, or take it back with a count below zero."""
        if count:
            self._counts[experiment, name] += count

    def refuse(self, experiment: str, reason: str, count: int = 1) -> None:
        """Count events that cannot be used."""
        self.add(experiment, REFUSED + reason, count)

    def refusals(self) -> Counter[str]:
        """Return how many events were refused, by reason."""
        found: Counter[str] = Counter()
        for (_, name), count in self._counts.items():
            if name.startswith(REFUSED):
                found[name.removeprefix(REFUSED)] += count
        return found

    def write(self, connection: Connection) -> None:
        """Add them to what is stored."""
        rows = [{"experiment": key[0], "name": key[1], "count": count} for key, count in sorted(self._counts.items())]
        upsert(connection, ledger_counts, [row for row in rows if row["count"]], add="count")


def read_counts(connection: Connection, experiment: str) -> dict[str, int]:
    """Return all counts of an experiment that are not zero."""
    query = select(ledger_counts.c.name, ledger_counts.c.count).where(ledger_counts.c.experiment == experiment)
    return {name: count for name, count in connection.execute(query) if count}


def forget_counts(connection: Connection, experiment: str) -> None:
    """Begin to count anew what can be counted again from raw events."""
    again = ledger_counts.c.name != REFUSED + CONFLICTING_ID
    connection.execute(delete(ledger_counts).where(ledger_counts.c.experiment == experiment, again))

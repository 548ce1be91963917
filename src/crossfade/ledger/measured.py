"""`Measured`: an experiment that the ledger rolls up, and what its first events have fixed for all later ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, select, update

from crossfade.ledger.evidence import OTHER, UNKNOWN
from crossfade.ledger.metrics import is_text
from crossfade.ledger.plan import Plan, plan_of
from crossfade.ledger.raw import chunks
from crossfade.storage.tables import measures

MAX_VALUES = 100
"""Of one dimension: later ones are `OTHER`, so that a million distinct values cost nothing."""
MAX_VALUE = 64
"""Characters; longer values are `OTHER`, too."""


class Frozen(msgspec.Struct):
    """What was fixed by the first events.

    Args:
        cuts: Metric -> the bucket that its quantile is clustered around.
        values: Dimension -> the values that have cells of their own.
    """

    cuts: dict[str, int] = {}
    values: dict[str, list[str]] = {}


@dataclass
class Measured:
    """An experiment within one transaction.

    Args:
        plan: What is measured.
        frozen: What has been fixed; it may get more.
        first_us: Time of the first exposure.
        last_us: Time of the newest event.
    """

    plan: Plan
    frozen: Frozen
    first_us: int | None = None
    last_us: int | None = None

    @property
    def experiment(self) -> str:
        """Its name."""
        return self.plan.measures.experiment

    def cut(self, metric: int) -> int | None:
        """Return the bucket that a metric's quantile is clustered around, if it is known yet."""
        return self.frozen.cuts.get(self.plan.metrics[metric].spec.name)

    def dimensions(self, given: dict[str, str]) -> tuple[str, ...]:
        """Return the value of each dimension that a unit is counted under."""
        return tuple(self._value(name, given.get(name)) for name in self.plan.measures.dimensions)

    def saw(self, exposures: Sequence[int], others: Sequence[int]) -> None:
        """Remember when exposures, and other events, happened."""
        self.first_us = min((time for time in (self.first_us, *exposures) if time is not None), default=None)
        self.last_us = max((time for time in (self.last_us, *exposures, *others) if time is not None), default=None)

    def save(self, connection: Connection) -> None:
        """Write down what was fixed."""
        found = {
            "frozen": msgspec.json.encode(self.frozen).decode(),
            "first_us": self.first_us,
            "last_us": self.last_us,
        }
        connection.execute(update(measures).where(measures.c.experiment == self.experiment).values(**found))

    def _value(self, dimension: str, value: str | None) -> str:
        if value is None:
            return UNKNOWN
        known = self.frozen.values.setdefault(dimension, [])
        if value in known:
            return value
        if len(known) >= MAX_VALUES or len(value) > MAX_VALUE or not is_text(value):
            return OTHER
        known.append(value)
        return value


def load(connection: Connection, experiments: Iterable[str]) -> dict[str, Measured]:
    """Return those of the experiments that are measured."""
    columns = (measures.c.body, measures.c.frozen, measures.c.first_us, measures.c.last_us)
    found = {}
    for chunk in chunks(experiments):
        for body, frozen, first, last in connection.execute(select(*columns).where(measures.c.experiment.in_(chunk))):
            one = Measured(plan_of(body), msgspec.json.decode(frozen, type=Frozen), first, last)
            found[one.experiment] = one
    return found

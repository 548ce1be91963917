"""`Units`: what is kept of each unit: its first exposure, and the sums of its values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, delete, select

from crossfade.ledger.buckets import Buckets, Integers
from crossfade.ledger.plan import Plan
from crossfade.ledger.raw import chunks
from crossfade.methods.stats.distributions import Array
from crossfade.storage.tables import units
from crossfade.storage.upsert import upsert

DAY_US = 86_400_000_000
NEVER = 2**62
"""Time of the first exposure of a unit that has none."""

_columns = tuple(column for column in units.columns if column.name != "experiment")
_values = msgspec.json.Decoder(tuple[str, ...])


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Where a unit came from: what its first exposure decides.

    Args:
        revision: Of the allocation.
        variant: Which it got.
        dimensions: JSON array: the value of each dimension.
    """

    revision: int
    variant: str
    dimensions: str

    def values(self) -> tuple[str, ...]:
        """Return the value of each dimension."""
        return _values.decode(self.dimensions)


_NOWHERE = Origin(0, "", "[]")


@dataclass(eq=False)
class Units:
    """Units of one experiment, numbered.

    Args:
        names: Of each.
        known: Whether it has been exposed.
        multiple: Whether it was seen in two variants.
        first: When it was exposed first, `NEVER` if it was not.
        decisions: Id of that exposure.
        origins: What that decided.
        state: Its sums, `(units, width)`.
        buckets: Its values, for quantiles.
        kept_exposures: Those that would count otherwise if it had been exposed earlier (`ledger.keeping`).
        kept_outcomes: The same.
    """

    names: list[str]
    known: NDArray[np.bool_]
    multiple: NDArray[np.bool_]
    first: Integers
    decisions: list[str]
    origins: list[Origin]
    state: Array
    buckets: Buckets
    kept_exposures: list[bytes]
    kept_outcomes: list[bytes]

    @classmethod
    def unknown(cls, plan: Plan, names: Sequence[str]) -> Units:
        """Return units of which nothing is known."""
        count = len(names)
        return cls(
            names=list(names),
            known=np.zeros(count, dtype=np.bool_),
            multiple=np.zeros(count, dtype=np.bool_),
            first=np.full(count, NEVER, dtype=np.int64),
            decisions=[""] * count,
            origins=[_NOWHERE] * count,
            state=np.zeros((count, plan.width)),
            buckets=Buckets.none(),
            kept_exposures=[b""] * count,
            kept_outcomes=[b""] * count,
        )

    def copy(self) -> Units:
        """Return units that may be changed while these stay."""
        return Units(
            names=self.names,
            known=self.known.copy(),
            multiple=self.multiple.copy(),
            first=self.first.copy(),
            decisions=self.decisions.copy(),
            origins=self.origins.copy(),
            state=self.state.copy(),
            buckets=self.buckets,
            kept_exposures=self.kept_exposures.copy(),
            kept_outcomes=self.kept_outcomes.copy(),
        )

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Which units are in cells: those that were exposed, in one variant."""
        return self.known & ~self.multiple

    @property
    def moved(self) -> NDArray[np.bool_]:
        """Which units were exposed, and were seen in another variant later."""
        return self.known & self.multiple


def day_of(at_us: int) -> str:
    """Return the day of a time, `2026-11-27` (UTC)."""
    return _day(at_us // DAY_US)


@lru_cache(maxsize=1_000)
def _day(number: int) -> str:
    return str(np.datetime64(number, "D"))


def read_units(connection: Connection, plan: Plan, names: Sequence[str]) -> Units:
    """Return units by name; nothing is known of those that have not been exposed."""
    found = Units.unknown(plan, names)
    numbers = {name: number for number, name in enumerate(names)}
    rows: list[Row[Any]] = []
    query = select(*_columns).where(units.c.experiment == plan.measures.experiment)
    for chunk in chunks(names):
        rows += connection.execute(query.where(units.c.unit.in_(chunk))).all()
    return _filled(found, rows, [numbers[row[0]] for row in rows])


def scan_units(connection: Connection, plan: Plan, where: Any, at_once: int = 20_000) -> Iterator[Units]:
    """Yield the units of an experiment for which a condition holds, in groups."""
    query = select(*_columns).where(units.c.experiment == plan.measures.experiment, where)
    with connection.execute(query, execution_options={"yield_per": at_once}) as result:
        for rows in result.partitions():
            yield _filled(Units.unknown(plan, [row[0] for row in rows]), rows, list(range(len(rows))))


def write_units(connection: Connection, experiment: str, changed: Units, numbers: Sequence[int]) -> None:
    """Write those of the units that have these numbers."""
    width = changed.state.shape[1] * 8
    state = changed.state[numbers].astype("<f8").tobytes()
    buckets = changed.buckets.encoded(len(changed.names))
    rows = [
        {
            "experiment": experiment,
            "unit": changed.names[number],
            "variant": changed.origins[number].variant,
            "revision": changed.origins[number].revision,
            "first_us": first,
            "decision": changed.decisions[number],
            "dimensions": changed.origins[number].dimensions,
            "multiple": multiple,
            "state": state[place * width : (place + 1) * width],
            "buckets": buckets[number],
            "kept_exposures": changed.kept_exposures[number],
            "kept_outcomes": changed.kept_outcomes[number],
        }
        for place, (number, first, multiple) in enumerate(
            zip(numbers, changed.first[numbers].tolist(), changed.multiple[numbers].tolist(), strict=True)
        )
    ]
    upsert(connection, units, rows)


def forget_units(connection: Connection, experiment: str) -> None:
    """Forget all units of an experiment."""
    connection.execute(delete(units).where(units.c.experiment == experiment))


def _filled(found: Units, rows: Sequence[Row[Any]], numbers: list[int]) -> Units:
    if not rows:
        return found
    _, variants, revisions, first, decisions, dimensions, multiple, state, buckets, *kept = zip(*rows, strict=True)
    found.known[numbers] = True
    found.multiple[numbers] = multiple
    found.first[numbers] = first
    found.state[numbers] = np.frombuffer(b"".join(state), dtype="<f8").reshape(len(rows), -1)
    blobs = [b""] * len(found.names)
    known: dict[tuple[int, str, str], Origin] = {}
    for place, number in enumerate(numbers):
        key = (revisions[place], variants[place], dimensions[place])
        found.origins[number] = known.get(key) or known.setdefault(key, Origin(*key))
        found.decisions[number] = decisions[place]
        blobs[number] = buckets[place]
        found.kept_exposures[number], found.kept_outcomes[number] = kept[0][place], kept[1][place]
    found.buckets = Buckets.decoded(blobs)
    return found

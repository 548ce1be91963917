"""Raw events, read back: of decisions that outcomes name, and of units that have to be counted anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, exists, func, select

from crossfade.ledger.columns import JoinedOutcome
from crossfade.ledger.events import Exposure, Outcome, ShadowAnswer
from crossfade.storage.tables import exposures, outcomes

AT_ONCE = 4_000
"""Names in one statement; SQLite and PostgreSQL allow several times that."""

_dimensions = msgspec.json.Decoder(dict[str, str])
_context = msgspec.json.Decoder(dict[str, float])
_shadows = msgspec.json.Decoder(tuple[ShadowAnswer, ...])
_outcome_columns = tuple(outcomes.c[name] for name in Outcome.__struct_fields__)
_columns = tuple(exposures.c[name] for name in Exposure.__struct_fields__)

T = TypeVar("T")


def chunks(items: Iterable[T], size: int = AT_ONCE) -> Iterator[list[T]]:
    """Yield the items in lists of at most `size`."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def exposures_by_id(connection: Connection, ids: Iterable[str]) -> dict[str, Exposure]:
    """Return the exposures that there are, by id."""
    found = {}
    for chunk in chunks(ids):
        for row in connection.execute(select(*_columns).where(exposures.c.id.in_(chunk))):
            found[row[0]] = _exposure(row)
    return found


def exposures_of(connection: Connection, experiment: str, units: Iterable[str]) -> list[Exposure]:
    """Return all exposures of units of an experiment."""
    return [
        _exposure(row)
        for chunk in chunks(units)
        for row in connection.execute(
            select(*_columns).where(exposures.c.experiment == experiment, exposures.c.unit.in_(chunk))
        )
    ]


def outcomes_of(connection: Connection, experiment: str, decisions: Sequence[Exposure]) -> list[JoinedOutcome]:
    """Return all outcomes of units of an experiment: those of their decisions, and those that name the units.

    Args:
        connection: Of a transaction.
        experiment: Which one.
        decisions: All exposures of the units.
    """
    by_id = {event.id: event for event in decisions}
    found = []
    for chunk in chunks(by_id):
        for row in connection.execute(select(*_outcome_columns).where(outcomes.c.decision.in_(chunk))):
            event = Outcome(*row)
            found.append(JoinedOutcome(event, by_id[event.decision].unit, by_id[event.decision]))
    of_units = select(*_outcome_columns).where(outcomes.c.experiment == experiment, outcomes.c.decision == "")
    for chunk in chunks({event.unit for event in decisions}):
        for row in connection.execute(of_units.where(outcomes.c.unit.in_(chunk))):
            event = Outcome(*row)
            found.append(JoinedOutcome(event, event.unit))
    return found


def outcomes_without_exposure(connection: Connection, experiment: str) -> Iterator[Outcome]:
    """Yield the outcomes that name units of an experiment which were never exposed."""
    exposed = (exposures.c.experiment == experiment) & (exposures.c.unit == outcomes.c.unit)
    named = (outcomes.c.experiment == experiment) & (outcomes.c.decision == "")
    query = select(*_outcome_columns).where(named, ~exists().where(exposed))
    with connection.execute(query, execution_options={"yield_per": AT_ONCE}) as rows:
        for row in rows:
            yield Outcome(*row)


def count_exposures(connection: Connection, experiment: str) -> int:
    """Return how many exposures of an experiment are kept."""
    return int(connection.execute(select(func.count()).where(exposures.c.experiment == experiment)).scalar_one())


def units_after(connection: Connection, experiment: str, unit: str | None, limit: int) -> list[str]:
    """Return the next units of an experiment that have exposures, in the database's order; None begins."""
    where = exposures.c.experiment == experiment
    if unit is not None:
        where &= exposures.c.unit > unit
    query = select(exposures.c.unit).where(where).distinct().order_by(exposures.c.unit).limit(limit)
    return list(connection.execute(query).scalars())


def _exposure(row: Sequence[Any]) -> Exposure:
    decoded = (_dimensions.decode(row[-3]), _context.decode(row[-2]), _shadows.decode(row[-1]))
    fields: list[Any] = [*row[:-3], *decoded]
    return Exposure(*fields)

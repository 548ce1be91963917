"""Raw events, read back: the decisions that outcomes name, and everything, to roll it up anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, func, select

from crossfade.ledger.events import Exposure, Outcome, ShadowAnswer
from crossfade.storage.tables import exposures, outcomes

AT_ONCE = 4_000
"""Names in one statement; SQLite and PostgreSQL allow several times that."""

ROWS_AT_ONCE = 20_000
"""Rows of one group when everything is read."""

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


def outcomes_by_id(connection: Connection, ids: Iterable[str]) -> dict[str, Outcome]:
    """Return the outcomes that there are, by id."""
    found = {}
    for chunk in chunks(ids):
        for row in connection.execute(select(*_outcome_columns).where(outcomes.c.id.in_(chunk))):
            found[row[0]] = _outcome(row)
    return found


def all_exposures(connection: Connection, experiment: str) -> Iterator[list[Exposure]]:
    """Yield all exposures of an experiment, in groups, in the order of their ids."""
    query = select(*_columns).where(exposures.c.experiment == experiment).order_by(exposures.c.id).limit(ROWS_AT_ONCE)
    last = ""
    while rows := connection.execute(query.where(exposures.c.id > last)).all():
        yield [_exposure(row) for row in rows]
        last = rows[-1][0]


def outcomes_of_decisions(connection: Connection, ids: Iterable[str]) -> list[Outcome]:
    """Return the outcomes of decisions."""
    found = []
    for chunk in chunks(ids):
        rows = connection.execute(select(*_outcome_columns).where(outcomes.c.decision.in_(chunk)))
        found += [_outcome(row) for row in rows]
    return found


def outcomes_of_units(connection: Connection, experiment: str) -> Iterator[list[Outcome]]:
    """Yield the outcomes that name units of an experiment, in groups."""
    query = select(*_outcome_columns).where(outcomes.c.experiment == experiment, outcomes.c.decision == "")
    with connection.execute(query, execution_options={"yield_per": ROWS_AT_ONCE}) as result:
        for rows in result.partitions():
            yield [_outcome(row) for row in rows]


def count_exposures(connection: Connection, experiment: str) -> int:
    """Return how many exposures of an experiment are kept."""
    return int(connection.execute(select(func.count()).where(exposures.c.experiment == experiment)).scalar_one())


def _outcome(row: Sequence[Any]) -> Outcome:
    return Outcome(*row)


def _exposure(row: Sequence[Any]) -> Exposure:
    decoded = (_dimensions.decode(row[-3]), _context.decode(row[-2]), _shadows.decode(row[-1]))
    fields: list[Any] = [*row[:-3], *decoded]
    return Exposure(*fields)

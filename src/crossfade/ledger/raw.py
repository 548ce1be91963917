"""Raw events, read back: the decisions that outcomes name, and everything, to roll it up anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, func, select

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


def all_exposures(connection: Connection, experiment: str) -> Iterator[list[Exposure]]:
    """Yield all exposures of an experiment, in groups, in the order of their ids."""
    query = select(*_columns).where(exposures.c.experiment == experiment)
    for rows in _in_order(connection, query, exposures.c.id):
        yield [_exposure(row) for row in rows]


def all_outcomes(connection: Connection) -> Iterator[list[Outcome]]:
    """Yield all outcomes of all experiments, in groups, in the order of their ids."""
    for rows in _in_order(connection, select(*_outcome_columns), outcomes.c.id):
        yield [_outcome(row) for row in rows]


def count_exposures(connection: Connection, experiment: str) -> int:
    """Return how many exposures of an experiment are kept."""
    return int(connection.execute(select(func.count()).where(exposures.c.experiment == experiment)).scalar_one())


def _in_order(connection: Connection, query: Select[Any], key: ColumnElement[str]) -> Iterator[Sequence[Row[Any]]]:
    """Yield rows in groups. Each is a statement of its own: others are executed in between."""
    last: str | None = None
    while True:
        behind = query if last is None else query.where(key > last)
        rows = connection.execute(behind.order_by(key).limit(ROWS_AT_ONCE)).all()
        if not rows:
            return
        yield rows
        last = rows[-1][0]


def _outcome(row: Sequence[Any]) -> Outcome:
    return Outcome(*row)


def _exposure(row: Sequence[Any]) -> Exposure:
    decoded = (_dimensions.decode(row[-3]), _context.decode(row[-2]), _shadows.decode(row[-1]))
    fields: list[Any] = [*row[:-3], *decoded]
    return Exposure(*fields)

"""Letting go of raw events that are old; what was derived from them stays."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Table, delete, select

from crossfade.ledger.waiting import let_go
from crossfade.storage.database import Database
from crossfade.storage.tables import exposures, outcomes

PAGE = 2_000
"""Looked at in one read, deleted in one transaction: others write in between."""


def prune(database: Database, before_us: int) -> Iterator[int]:
    """Delete events that happened before a time, one page at each step; yield how many of it were deleted.

    Outcomes that have waited for their exposure since then are let go of, too, and counted.

    The tables have no index by time, which would cost every insertion more than this costs once a day: both are read
    from one end to the other in the order of their keys.

    Raises:
        DatabaseUnavailableError: The database does not answer; what is deleted by then stays deleted.

    Example:
        >>> sum(prune(database, before_us=0))  # doctest: +SKIP
        0
    """
    for table in (exposures, outcomes):
        yield from _prune(database, table, before_us)
    with database.write() as connection:
        waited = let_go(connection, before_us)
    yield waited


def _prune(database: Database, table: Table, before_us: int) -> Iterator[int]:
    after = ""
    while True:
        page = select(table.c.id, table.c.at_us).where(table.c.id > after).order_by(table.c.id).limit(PAGE)
        with database.read() as connection:
            rows = connection.execute(page).all()
        if not rows:
            return
        old = [row.id for row in rows if row.at_us < before_us]
        if old:
            with database.write() as connection:
                connection.execute(delete(table).where(table.c.id.in_(old)))
        yield len(old)
        after = rows[-1].id

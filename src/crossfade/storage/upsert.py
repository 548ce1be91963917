"""Writing many rows whether they are there or not, on both databases."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import psycopg


def upsert(connection: Connection, table: Table, rows: Sequence[dict[str, Any]], *, add: str = "") -> None:
    """Insert rows, or replace those with the same primary key.

    Args:
        connection: From `Database.write`.
        table: Where.
        rows: Complete rows of plain values, the same columns in each.
        add: A column whose value is added to the one that is there, instead of replacing it.
    """
    if not rows:
        return
    columns = tuple(rows[0])
    # To the driver directly: what SQLAlchemy does to each row costs several times what the database does with it.
    if connection.dialect.name == "sqlite":
        names = [column.name for column in table.columns if column.name in columns]
        connection.exec_driver_sql(_sqlite(table, columns, add), [tuple(row[name] for name in names) for row in rows])
    else:
        connection.exec_driver_sql(_postgresql(table, columns, add), list(rows))


@lru_cache(maxsize=64)
def _sqlite(table: Table, columns: tuple[str, ...], add: str) -> str:
    insert = sqlite.insert(table)
    statement = insert.on_conflict_do_update(index_elements=_key(table), set_=_new(insert, table, columns, add))
    return str(statement.compile(dialect=sqlite.dialect(), column_keys=list(columns)))


@lru_cache(maxsize=64)
def _postgresql(table: Table, columns: tuple[str, ...], add: str) -> str:
    insert = postgresql.insert(table)
    statement = insert.on_conflict_do_update(index_elements=_key(table), set_=_new(insert, table, columns, add))
    dialect: Dialect = psycopg.dialect()  # type: ignore[no-untyped-call]
    return str(statement.compile(dialect=dialect, column_keys=list(columns)))


def _key(table: Table) -> list[str]:
    return [column.name for column in table.primary_key]


def _new(insert: sqlite.Insert | postgresql.Insert, table: Table, columns: tuple[str, ...], add: str) -> dict[str, Any]:
    """Return what replaces the columns of a row that is there."""
    new: dict[str, Any] = {name: insert.excluded[name] for name in columns}
    if add:
        new[add] = table.columns[add] + insert.excluded[add]
    return {name: value for name, value in new.items() if name not in _key(table)}

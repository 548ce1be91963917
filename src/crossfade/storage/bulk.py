"""Many rows at once into a table whose first column is its key: those with a known key are left alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError


def insert_new(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> set[str]:
    """Insert the rows whose key is not in the table, and return these keys.

    PostgreSQL gets them by COPY into a temporary table, which is several times faster than statements; SQLite has no
    faster way than one prepared statement.

    Args:
        connection: Inside a write transaction, so that nobody else inserts meanwhile.
        table: Its first column is its key, a text.
        rows: Values of all columns, in their order; keys occur once.

    Raises:
        sqlalchemy.exc.DBAPIError: The database refuses.

    Example:
        >>> insert_new(connection, outcomes, [("7", 0, "landed", 1.0, "", "late", "x")])  # doctest: +SKIP
        {'7'}
    """
    if not rows:
        return set()
    if connection.dialect.name == "postgresql":
        return _copy(connection, table, rows)
    key = table.columns[0].name
    asked = msgspec.json.encode([row[0] for row in rows]).decode()
    known = connection.exec_driver_sql(
        f"SELECT {key} FROM {table.name} WHERE {key} IN (SELECT value FROM json_each(?))",  # noqa: S608 - our names
        (asked,),
    )
    held = set(known.scalars())
    new = [row for row in rows if row[0] not in held]
    if new:
        places = ",".join("?" * len(table.columns))
        connection.exec_driver_sql(f"INSERT INTO {table.name} VALUES ({places})", new)  # noqa: S608 - our names
    return {row[0] for row in new}


def _copy(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> set[str]:
    import psycopg

    key, stage = table.columns[0].name, f"new_{table.name}"
    connection.exec_driver_sql(
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {stage} (LIKE {table.name}) ON COMMIT DELETE ROWS"
    )
    statement = f"COPY {stage} FROM STDIN"
    try:
        driver: Any = connection.connection.driver_connection
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except psycopg.Error as error:  # SQLAlchemy sees nothing of a COPY, so nothing has translated this
        raise DBAPIError.instance(statement, None, error, psycopg.Error) from error
    inserted = connection.exec_driver_sql(
        f"INSERT INTO {table.name} SELECT * FROM {stage} ON CONFLICT DO NOTHING RETURNING {key}"  # noqa: S608
    )
    return set(inserted.scalars())

"""Writing rows whether they are there or not, on both databases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def upsert(connection: Connection, table: Table, rows: Sequence[dict[str, Any]], *, add: str = "") -> None:
    """Insert rows, or replace those with the same primary key.

    Args:
        connection: From `Database.write`.
        table: Where.
        rows: Complete rows, the same columns in each.
        add: A column whose value is added to the one that is there, instead of replacing it.
    """
    if not rows:
        return
    insert = sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)
    key = [column.name for column in table.primary_key]
    new: dict[str, Any] = {name: insert.excluded[name] for name in rows[0] if name not in key}
    if add:
        new[add] = table.c[add] + insert.excluded[add]
    connection.execute(insert.on_conflict_do_update(index_elements=key, set_=new), list(rows))

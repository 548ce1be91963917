"""Rows written whether they are there or not, on both databases."""

from sqlalchemy import select

from crossfade.storage.tables import ledger_counts, rollups
from crossfade.storage.upsert import upsert

COUNT = ledger_counts.c["count"]


def row(name, count):
    return {"experiment": "flights", "name": name, "count": count}


def stored(connection):
    return {name: count for name, count in connection.execute(select(ledger_counts.c.name, COUNT))}  # noqa: C416


def test_rows_are_inserted_or_replaced(database):
    with database.write() as connection:
        upsert(connection, ledger_counts, [row("a", 1), row("b", 2)])
        upsert(connection, ledger_counts, [row("b", 3), row("c", 4)])
        assert stored(connection) == {"a": 1, "b": 3, "c": 4}


def test_a_column_can_be_added_to(database):
    with database.write() as connection:
        upsert(connection, ledger_counts, [row("a", 1)], add="count")
        upsert(connection, ledger_counts, [row("a", 5), row("b", 2)], add="count")
        upsert(connection, ledger_counts, [row("a", -2)], add="count")
        assert stored(connection) == {"a": 4, "b": 2}


def test_columns_may_come_in_any_order(database):
    with database.write() as connection:
        upsert(connection, ledger_counts, [{"count": 7, "name": "a", "experiment": "flights"}])
        assert stored(connection) == {"a": 7}


def test_no_rows_are_no_work(database):
    with database.write() as connection:
        upsert(connection, ledger_counts, [])
        assert stored(connection) == {}


def test_bytes_and_any_text_come_back_as_they_went_in(database):
    text, data = "zażółć 𝄞 \\ ' \" %s :x ?", bytes(range(256))
    given = {
        "experiment": "x",
        "revision": 2**62,
        "variant": "v",
        "day": "2026-11-27",
        "dimension": text,
        "value": text,
    }
    given |= {"metric": "m", "n": 1, "mean": data, "m2": b"", "peak": data, "sketch": data}
    with database.write() as connection:
        upsert(connection, rollups, [given] * 2)
        assert connection.execute(select(rollups)).one()._asdict() == given

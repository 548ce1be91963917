import pytest
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, IntegrityError

from crossfade.errors import DatabaseUnavailableError
from crossfade.storage.bulk import insert_new
from crossfade.storage.tables import outcomes


def row(key, value=1.0, unit="u"):
    return (key, 5, "late", value, "", "e", unit)


def insert(database, *rows):
    with database.write() as connection:
        return insert_new(connection, outcomes, rows)


def stored(database):
    with database.read() as connection:
        return {each.id: each.value for each in connection.execute(select(outcomes))}


def test_new_rows_are_told_and_known_ones_left_alone(database):
    assert insert(database) == set()
    assert insert(database, row("a", 1.0), row("b", 2.0)) == {"a", "b"}
    assert insert(database, row("b", 9.0), row("c", 3.0)) == {"c"}
    assert insert(database, row("c", 9.0)) == set()
    assert stored(database) == {"a": 1.0, "b": 2.0, "c": 3.0}


def test_twice_in_one_transaction(database):
    with database.write() as connection:
        assert insert_new(connection, outcomes, [row("a")]) == {"a"}
        assert insert_new(connection, outcomes, [row("a"), row("b")]) == {"b"}
    assert set(stored(database)) == {"a", "b"}


def test_values_arrive_as_they_were(database):
    odd = ["\t\n\\N\\.\r", "", "äöü \U0001f600", "'; DROP TABLE outcomes; --", '"quoted",comma']
    numbers = [0.1 + 0.2, 1e-308, -0.0, 1.7976931348623157e308, 5e-324]
    insert(database, *(row(f"k{index}", *pair) for index, pair in enumerate(zip(numbers, odd, strict=True))))
    with database.read() as connection:
        found = connection.execute(select(outcomes).order_by(outcomes.c.id)).all()
    assert [(each.value, each.unit) for each in found] == list(zip(numbers, odd, strict=True))


def test_many(database):
    rows = [row(f"{number:06}") for number in range(12_000)]
    assert len(insert(database, *rows[::2])) == 6_000
    assert insert(database, *rows) == {each[0] for each in rows[1::2]}


def test_what_the_database_refuses_is_an_error_and_leaves_nothing(database):
    with pytest.raises((IntegrityError, DBAPIError)):
        insert(database, row("a"), row("b", None))
    assert stored(database) == {}
    assert insert(database, row("a")) == {"a"}


def test_a_connection_that_breaks_is_an_unavailable_database(postgres_url):
    from crossfade.storage.database import open_database
    from crossfade.storage.migrate import migrate

    database = open_database(postgres_url)
    migrate(database)

    def insert_after_the_end():
        with database.write() as connection:
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
            with database.read() as other:
                other.exec_driver_sql(f"SELECT pg_terminate_backend({pid})")
            insert_new(connection, outcomes, [row("a")])

    with pytest.raises(DatabaseUnavailableError):
        insert_after_the_end()
    assert insert(database, row("a")) == {"a"}
    database.close()

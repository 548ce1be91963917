"""What is particular to one database; what both promise is in `crossfade.testing.database`."""

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError, OperationalError, ProgrammingError

import crossfade.storage.database
from crossfade.errors import (
    DatabaseDamagedError,
    DatabaseLostError,
    DatabaseMovedError,
    DatabaseUnavailableError,
    MissingExtraError,
    SettingsError,
    StorageFullError,
)
from crossfade.storage.database import open_database
from crossfade.storage.migrate import migrate
from crossfade.storage.sqlite_file import Witness
from crossfade.storage.tables import models
from tests import servers

ROW = {"name": "churn", "created_at": "2026-01-31T09:30:00.000000Z", "created_by": "ada"}


def file_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


# --- opening


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mysql://host/name", "`mysql` is not supported"),
        ("not a url", "not a database URL"),
        ("", "not a database URL"),
        ("sqlite:", "name a file"),
        ("sqlite://", "name a file"),
        ("sqlite:///", "name a file"),
        ("sqlite:///:memory:", "name a file"),
    ],
)
def test_a_url_of_no_supported_database_is_refused(url, problem):
    with pytest.raises(SettingsError, match=problem) as raised:
        open_database(url)
    assert raised.value.facts["field"] == "storage.database_url"


def test_a_refused_url_does_not_show_its_password():
    with pytest.raises(SettingsError) as raised:
        open_database("oracle://scott:tiger@host/name")
    assert "tiger" not in str(raised.value)


def test_the_postgres_driver_is_an_extra(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "psycopg"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError) as raised:
        open_database("postgresql://host/name")
    assert raised.value.hint == "pip install 'crossfade[postgres]'"


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg", "postgresql+psycopg2"])
def test_every_spelling_of_postgres_means_the_one_driver(postgres_url, scheme):
    database = open_database(postgres_url.replace("postgresql", scheme, 1), pool_size=1)
    assert database.dialect == "postgresql"
    assert database.where.startswith("the database test_")
    migrate(database)
    assert database.revision() == 0
    database.close()


# --- SQLite


def test_the_file_is_for_its_owner_only(sqlite, sqlite_url):
    path = file_of(sqlite_url)
    with sqlite.write() as connection:
        connection.execute(models.insert(), ROW)
        files = sorted(path.parent.iterdir())
        assert [each.name for each in files] == ["crossfade.db", "crossfade.db-shm", "crossfade.db-wal"]
        assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("transaction", ["read", "write"])
def test_every_connection_is_durable_and_checks_foreign_keys(sqlite, transaction):
    with getattr(sqlite, transaction)() as connection:
        values = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "query_only")
        }
    assert values["journal_mode"] == "wal"
    assert values["synchronous"] == 2  # FULL
    assert values["foreign_keys"] == 1
    assert values["busy_timeout"] >= 30_000
    assert values["query_only"] == (transaction == "read")


def test_a_path_may_hold_any_character(tmp_path):
    path = tmp_path / "a b#c%20d?mode=memory é&e" / "x'y.db"
    database = open_database(f"sqlite:///{path}", pool_size=1)
    migrate(database)
    assert path.exists()
    database.close()


def test_a_path_may_be_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    database = open_database("sqlite:///some/where.db", pool_size=1)
    monkeypatch.chdir("/")
    migrate(database)
    assert (tmp_path / "some" / "where.db").exists()
    database.close()


def test_a_path_that_cannot_be_made_is_unavailable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseUnavailableError, match="file"):
        open_database(f"sqlite:///{tmp_path / 'file' / 'x.db'}")


def test_a_file_that_is_no_database_is_unavailable(tmp_path):
    (tmp_path / "x.db").write_bytes(b"something else entirely" * 100)
    with pytest.raises(DatabaseUnavailableError, match="not a database"):
        open_database(f"sqlite:///{tmp_path / 'x.db'}")


def test_a_file_system_without_shared_memory_is_unavailable(tmp_path, monkeypatch):
    real = crossfade.storage.database._connect_sqlite

    def memory(path, *, query_only):
        real(path, query_only=query_only).close()
        return sqlite3.connect(":memory:")  # which cannot be switched to write-ahead logging either

    monkeypatch.setattr(crossfade.storage.database, "_connect_sqlite", memory)
    with pytest.raises(DatabaseUnavailableError, match="local disk"):
        open_database(f"sqlite:///{tmp_path / 'x.db'}")


def test_a_locked_file_is_waited_for_and_then_unavailable(tmp_path, monkeypatch):
    monkeypatch.setattr(crossfade.storage.database, "WAIT_SECONDS", 0.2)
    with contextlib.closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as other:
        other.execute("CREATE TABLE t (x)")
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailableError, match="locked"):
            open_database(f"sqlite:///{tmp_path / 'x.db'}")
        assert time.monotonic() - began >= 0.2
        other.execute("ROLLBACK")
        open_database(f"sqlite:///{tmp_path / 'x.db'}").close()


def test_a_deleted_file_is_an_error_and_not_an_empty_database(sqlite, sqlite_url):
    sqlite.close()
    for path in file_of(sqlite_url).parent.iterdir():
        path.unlink()
    for transaction in (sqlite.read, sqlite.write):
        with pytest.raises(DatabaseMovedError, match="is gone"), transaction():
            pass
    with pytest.raises(DatabaseMovedError):
        sqlite.revision()
    assert not file_of(sqlite_url).exists()


@pytest.mark.parametrize("other", [None, "a copy"])
def test_a_file_that_is_taken_away_is_noticed_and_welcome_back(sqlite, sqlite_url, other):
    path = file_of(sqlite_url)
    assert sqlite.revision() == 0
    aside = path.with_name("aside.db")
    path.rename(aside)
    if other is not None:
        path.write_bytes(aside.read_bytes())
    for transaction in (sqlite.read, sqlite.write):
        with pytest.raises(DatabaseMovedError, match="is gone" if other is None else "is another file"), transaction():
            pass
    with pytest.raises(DatabaseMovedError) as raised:
        sqlite.revision()
    assert "restart" in raised.value.hint
    aside.rename(path)
    assert sqlite.revision() == 0
    with sqlite.write() as connection:
        connection.execute(models.insert(), ROW)


# --- a database that somebody knows of


@pytest.fixture
def witness(tmp_path):
    return Witness(66, tmp_path / "known.json")


def advance(database):
    with database.write() as connection:
        connection.execute(text("UPDATE head SET revision = revision + 1"))


def every_way_in(database):
    transactions = (database.read, database.write, database.change_schema)
    return [database.revision, lambda: migrate(database), *(partial(enter, each) for each in transactions)]


def enter(transaction):
    with transaction():
        pass


def test_a_file_that_is_missing_is_lost_and_not_made_anew(sqlite_url, witness):
    database = open_database(sqlite_url, witness=witness)
    for way in every_way_in(database):
        with pytest.raises(DatabaseLostError, match="is not there, but its revision 66 was served here") as raised:
            way()
        assert f"to begin anew on purpose, delete {witness.path}" in raised.value.hint
    assert not file_of(sqlite_url).exists()
    database.close()


@pytest.mark.parametrize("tables", [False, True])
def test_an_empty_database_is_not_the_one_that_is_known_of(database_url, witness, tables):
    anew = open_database(database_url)
    if tables:
        migrate(anew)
    database = open_database(database_url, witness=witness)
    for way in every_way_in(database):
        with pytest.raises(DatabaseLostError, match="an empty one in its place"):
            way()
    migrate(anew)
    advance(anew)  # somebody means it
    assert database.revision() == 1
    database.close()
    anew.close()


def test_a_file_that_is_damaged_or_closed_is_asked_again_until_it_is_repaired(sqlite, sqlite_url, witness):
    advance(sqlite)
    sqlite.close()
    path = file_of(sqlite_url)
    aside = path.with_name("aside.db")
    path.rename(aside)
    path.write_bytes(b"something else entirely" * 100)
    database = open_database(sqlite_url, witness=witness)
    for way in every_way_in(database):
        with pytest.raises(DatabaseDamagedError, match="not a database") as raised:
            way()
        assert str(path.parent) in raised.value.hint
    aside.rename(path)
    assert database.revision() == 1
    advance(database)
    assert database.revision() == 2
    database.close()


def test_a_copy_that_was_restored_is_switched_to_write_ahead_logging(sqlite, sqlite_url, witness, tmp_path):
    advance(sqlite)
    with contextlib.closing(sqlite3.connect(file_of(sqlite_url))) as other:
        other.execute("VACUUM INTO ?", [str(tmp_path / "copy.db")])
    database = open_database(f"sqlite:///{tmp_path / 'copy.db'}", witness=witness)
    with database.write() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
    database.close()


def test_a_writer_that_waits_too_long_gives_up(sqlite_url, monkeypatch):
    monkeypatch.setattr(crossfade.storage.database, "WAIT_SECONDS", 0.2)
    database = open_database(sqlite_url)
    migrate(database)
    with contextlib.closing(sqlite3.connect(file_of(sqlite_url), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseUnavailableError, match="locked"), database.write():
            pass
    with pytest.raises(DatabaseUnavailableError, match="busy"), database.write(), database.write():
        pass
    with database.write() as connection:
        connection.execute(models.insert(), ROW)
    database.close()


def test_a_full_disk_is_said_to_be_full_and_nothing_is_written(sqlite):
    with sqlite.write() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageFullError) as raised, sqlite.write() as connection:
        connection.execute(models.insert(), {**ROW, "description": "x" * 1_000_000})
    assert raised.value.facts["where"] == sqlite.where
    with sqlite.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM models").scalar_one() == 0
    with sqlite.write() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 100000")
        connection.execute(models.insert(), ROW)


def test_a_really_full_disk(tmp_path):
    with small_disk(tmp_path) as disk:
        database = open_database(f"sqlite:///{disk / 'x.db'}", pool_size=1)
        migrate(database)
        with database.write() as connection:
            connection.execute(models.insert(), ROW)
        with pytest.raises(StorageFullError), database.write() as connection:
            connection.execute(models.update().values(description="x" * 4_000_000))
        with database.read() as connection:
            assert connection.exec_driver_sql("SELECT name, description FROM models").all() == [("churn", "")]
        with database.write() as connection:
            connection.execute(models.update().values(description="small"))
        database.close()


def revision_of(database):
    with database.read() as connection:
        return connection.scalar(text("SELECT revision FROM head"))


def test_what_a_thread_reads_in_a_view_is_of_one_state(database):
    def write():
        with database.write() as connection:
            connection.execute(text("UPDATE head SET revision = revision + 1"))

    with ThreadPoolExecutor(1) as other:
        with database.view():
            assert revision_of(database) == 0
            other.submit(write).result()
            with database.view():
                assert revision_of(database) == 0
            assert revision_of(database) == 0
            assert other.submit(revision_of, database).result() == 1
        assert revision_of(database) == 1
        mistake = ProgrammingError if database.dialect == "postgresql" else OperationalError
        with pytest.raises(mistake), database.view(), database.read() as connection:
            connection.execute(text("SELECT nothing FROM nowhere"))
        assert revision_of(database) == 1


def test_a_mistake_in_sql_stays_what_it_is(database):
    for transaction in (database.read, database.write):
        with pytest.raises((OperationalError, ProgrammingError)), transaction() as connection:
            connection.execute(text("SELECT * FROM no_such_table"))
    with pytest.raises((OperationalError, ProgrammingError)), database.write() as connection:
        connection.execute(text("SELEKT 1"))


def test_fifty_processes_write_and_none_is_refused(database, database_url, crowd):
    count = 50 if database.dialect == "sqlite" else 20  # PostgreSQL's own limit is on connections
    answers = crowd("write", database_url, count)
    revisions = sorted(number for mine in answers for number in mine)
    assert revisions == list(range(1, 5 * count + 1))
    assert database.revision() == 5 * count


def test_a_killed_writer_leaves_nothing_and_locks_nothing(database, database_url):
    program = (
        "import os, sys; from crossfade.storage.database import open_database\n"
        f"with open_database({database_url!r}, pool_size=1).write() as connection:\n"
        "    connection.exec_driver_sql(\"INSERT INTO models (name, created_at, created_by) VALUES ('x', '', '')\")\n"
        "    os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    with database.write() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM models").scalar_one() == 0


# --- PostgreSQL


def test_commits_are_durable_even_where_the_server_is_told_not_to(postgres_url):
    # The test server runs with synchronous_commit = off.
    database = open_database(postgres_url, pool_size=1)
    migrate(database)
    with database.write() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar_one() == "1min"
        connection.exec_driver_sql("SET SESSION synchronous_commit = 'remote_apply'")
    with database.write() as connection:  # stricter than asked for is left alone
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "remote_apply"
    database.close()


def test_a_value_that_does_not_fit_stays_what_it_is(postgres_url):
    database = open_database(postgres_url, pool_size=1)
    migrate(database)
    with pytest.raises(DataError), database.write() as connection:
        connection.execute(models.insert(), {**ROW, "name": "x" * 100})
    database.close()


def test_a_writer_behind_a_stuck_one_gives_up(postgres_url, monkeypatch):
    monkeypatch.setattr(
        crossfade.storage.database,
        "_POSTGRES_BEGIN",
        crossfade.storage.database._POSTGRES_BEGIN.replace("60000", "200"),
    )
    database = open_database(postgres_url, pool_size=2)
    migrate(database)
    with (
        pytest.raises(DatabaseUnavailableError, match="lock timeout"),
        database.write(),
        database.write(),
    ):
        pass
    database.close()


def test_a_server_that_goes_away_and_comes_back():
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(servers.postgres())
        database = open_database(url, pool_size=2)
        stack.callback(database.close)
        migrate(database)
        assert database.revision() == 0
        # What a restart does to every open connection:
        others = "pid <> pg_backend_pid() AND datname IS NOT NULL"
        kill = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"
        other = open_database(url, pool_size=1)
        stack.callback(other.close)

        with other.read() as connection:
            connection.exec_driver_sql(kill)
        assert database.revision() == 0
        with other.read() as connection:
            connection.exec_driver_sql(kill)
        with database.write() as connection:
            connection.execute(models.insert(), ROW)

        def be_killed_between_two_statements():
            with database.write() as connection:
                connection.execute(models.update().values(description="lost"))
                with other.read() as second:
                    second.exec_driver_sql(kill)
                connection.execute(models.update().values(description="lost too"))

        with pytest.raises(DatabaseUnavailableError):
            be_killed_between_two_statements()
        with database.read() as connection:
            assert connection.exec_driver_sql("SELECT description FROM models").scalar_one() == ""
        database.close()
        other.close()
        stack.pop_all().close()
        for use in (database.revision, lambda: database.read().__enter__(), lambda: database.write().__enter__()):
            with pytest.raises(DatabaseUnavailableError, match="refused"):
                use()


def test_nobody_listens_there():
    database = open_database(f"postgresql://me:secret@127.0.0.1:{servers.free_port()}/nothing", pool_size=1)
    with pytest.raises(DatabaseUnavailableError) as raised:
        database.revision()
    assert "secret" not in str(raised.value)
    database.close()


@contextlib.contextmanager
def small_disk(folder: Path):
    """Mount a file system of 1 MiB; skip where that is not allowed."""
    disk = folder / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "crossfade-test", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs privileges")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)

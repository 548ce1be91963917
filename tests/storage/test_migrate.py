import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, select, text

import crossfade.storage.migrate
from crossfade.errors import DatabaseUnavailableError
from crossfade.storage.database import open_database
from crossfade.storage.migrate import CURRENT, migrate, stored_revision
from crossfade.storage.tables import head, metadata

MIGRATIONS = Path(crossfade.storage.migrate.__file__).parent / "migrations"


@pytest.fixture
def empty(database_url):
    database = open_database(database_url, pool_size=5)
    yield database
    database.close()


def script() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def at_first_release(database) -> None:
    """Bring a database to what the first release had."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    with database.change_schema() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")


def tables(database) -> set[str]:
    with database.read() as connection:
        return set(inspect(connection).get_table_names())


def test_the_constant_is_the_newest_migration():
    assert script().get_current_head() == CURRENT


def test_every_migration_has_one_predecessor():
    chain = list(script().walk_revisions())
    assert [migration.down_revision for migration in chain] == [*(each.revision for each in chain[1:]), None]


@pytest.mark.parametrize("old", [False, True])
def test_migrating_builds_exactly_the_tables(empty, old):
    assert stored_revision(empty) is None
    if old:
        at_first_release(empty)
        assert stored_revision(empty) == "0001"
    assert migrate(empty) is True
    assert stored_revision(empty) == CURRENT
    with empty.read() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
        assert differences == []
        assert connection.execute(select(head)).all() == [(1, 0, "0" * 64)]
    assert tables(empty) == {*metadata.tables, "alembic_version"}


def test_every_detail_is_that_of_the_tables(empty):
    # Alembic's comparison leaves out keys and, on SQLite, defaults.
    at_first_release(empty)
    migrate(empty)
    with empty.change_schema() as connection:
        migrated = described(connection)
        connection.execute(text("DROP TABLE alembic_version"))
        metadata.drop_all(connection)
    migrate(empty)
    with empty.change_schema() as connection:
        assert migrated == described(connection)


def described(connection) -> dict[str, dict]:
    inspector = inspect(connection)
    inspector.clear_cache()
    return {
        name: {
            "columns": [{**column, "type": str(column["type"])} for column in inspector.get_columns(name)],
            "primary key": inspector.get_pk_constraint(name),
            "foreign keys": inspector.get_foreign_keys(name),
            "indexes": [_plain(index) for index in inspector.get_indexes(name)],
            "comment": inspector.get_table_comment(name) if connection.dialect.supports_comments else None,
        }
        for name in (*metadata.tables, "alembic_version")
    }


def _plain(index):
    """An index; the condition of a partial one as text, because conditions are equal only to themselves."""
    options = {name: str(value) for name, value in index.get("dialect_options", {}).items()}
    return {**index, "dialect_options": options}


def test_migrating_again_does_nothing(empty):
    migrate(empty)
    assert migrate(empty) is False


def test_a_current_database_does_not_import_alembic(database_url):
    database = open_database(database_url, pool_size=1)
    migrate(database)
    database.close()
    program = (
        "import sys; from crossfade.storage.database import open_database;"
        "from crossfade.storage.migrate import migrate;"
        f"assert migrate(open_database({database_url!r}, pool_size=1)) is False; assert 'alembic' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_database_of_a_newer_release_is_refused(empty):
    migrate(empty)
    with empty.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseUnavailableError, match="newer") as raised:
        migrate(empty)
    assert "9999" in raised.value.message
    assert stored_revision(empty) == "9999"


def test_a_failing_migration_changes_nothing(empty, monkeypatch):
    from alembic import op

    def fail(*_, **__):
        raise RuntimeError("power cut")

    at_first_release(empty)
    before = tables(empty)
    with monkeypatch.context() as patched:
        patched.setattr(op, "create_index", fail)  # some tables are there by then
        with pytest.raises(RuntimeError, match="power cut"):
            migrate(empty)
    assert (tables(empty), stored_revision(empty)) == (before, "0001")
    assert migrate(empty) is True


def test_a_first_start_that_fails_changes_nothing(empty, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr(crossfade.storage.migrate, "insert", fail)  # after the last table
        with pytest.raises(RuntimeError, match="power cut"):
            migrate(empty)
    assert tables(empty) == set()
    assert migrate(empty) is True


def test_processes_that_start_at_once_all_succeed(database_url, crowd):
    answers = crowd("migrate", database_url, 4)
    assert sorted(answers) == [False, False, False, True]


def test_threads_with_databases_of_their_own_do_not_disturb_each_other(tmp_path):
    barrier = threading.Barrier(4)

    def start(number: int) -> bool:
        database = open_database(f"sqlite:///{tmp_path / str(number)}.db", pool_size=1)
        barrier.wait()
        try:
            return migrate(database)
        finally:
            database.close()

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(start, range(4))) == [True] * 4


def test_a_percent_sign_in_the_path_of_the_package_is_no_placeholder(sqlite_url, monkeypatch, tmp_path):
    odd = tmp_path / "100%(here)s"
    odd.mkdir()
    (odd / "migrations").symlink_to(MIGRATIONS)
    monkeypatch.setattr(crossfade.storage.migrate, "__file__", str(odd / "migrate.py"))
    database = open_database(sqlite_url, pool_size=1)
    at_first_release(database)
    assert migrate(database) is True
    database.close()


def test_downgrading_removes_everything(empty):
    migrate(empty)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    with empty.change_schema() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert tables(empty) == {"alembic_version"}
    assert stored_revision(empty) is None
    assert migrate(empty) is True


def test_an_unreachable_database_is_not_taken_for_an_empty_one():
    from tests.servers import free_port

    database = open_database(f"postgresql://somebody@127.0.0.1:{free_port()}/nothing", pool_size=1)
    with pytest.raises(DatabaseUnavailableError):
        migrate(database)
    database.close()

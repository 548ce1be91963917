"""Fixtures of the ledger tests: migrated databases, and ledgers that are closed at the end."""

import shutil

import pytest

from crossfade.ledger.ledger import Ledger
from crossfade.settings import LedgerSettings
from crossfade.storage.database import open_database
from crossfade.storage.migrate import migrate


@pytest.fixture
def database(database_url):
    """A migrated, empty database, once for each kind."""
    database = open_database(database_url, pool_size=5)
    migrate(database)
    yield database
    database.close()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory):
    """A migrated, empty SQLite file: copying it is ten times faster than migrating another."""
    path = tmp_path_factory.mktemp("template") / "crossfade.db"
    database = open_database(f"sqlite:///{path}")
    migrate(database)
    database.close()
    return path


@pytest.fixture
def sqlite_url(tmp_path, migrated_file):
    """URL of a migrated, empty SQLite file."""
    path = tmp_path / "database" / "crossfade.db"
    path.parent.mkdir()
    shutil.copy(migrated_file, path)
    return f"sqlite:///{path}"


@pytest.fixture
def sqlite(sqlite_url):
    """A migrated, empty SQLite database."""
    database = open_database(sqlite_url, pool_size=5)
    yield database
    database.close()


@pytest.fixture
def folder(tmp_path):
    """Where events wait; it does not exist yet."""
    return tmp_path / "ledger"


@pytest.fixture
def open_ledger(folder):
    """Open ledgers that look often; what is still open at the end is closed."""
    opened = []

    def make(database, *, poll_seconds=0.02, where=None, **options):
        settings = {name: options.pop(name) for name in list(options) if name in {"max_spool_bytes", "retention_days"}}
        ledger = Ledger(database, LedgerSettings(poll_seconds=poll_seconds, **settings), where or folder, **options)
        opened.append(ledger)
        return ledger

    yield make
    for ledger in opened:
        ledger.close()

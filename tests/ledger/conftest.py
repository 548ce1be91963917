"""Fixtures of the ledger tests."""

import pytest

from crossfade.storage.database import open_database
from crossfade.storage.migrate import migrate
from tests.ledger.support import Ledger


@pytest.fixture
def database(database_url):
    """A migrated, empty database, once for each kind."""
    database = open_database(database_url, pool_size=5)
    migrate(database)
    yield database
    database.close()


@pytest.fixture
def sqlite(sqlite_url):
    """A migrated, empty SQLite database."""
    database = open_database(sqlite_url, pool_size=5)
    migrate(database)
    yield database
    database.close()


@pytest.fixture
def ledger(database):
    """Raw events and roll-ups, once for each kind of database."""
    return Ledger(database)

import pytest

from tests.traffic.support import open_registry


@pytest.fixture
def registry(tmp_path, sqlite_url):
    registry = open_registry(tmp_path, sqlite_url)
    yield registry
    registry.backend.database.close()


@pytest.fixture
def any_registry(tmp_path, database_url):
    """The same on SQLite and on PostgreSQL."""
    registry = open_registry(tmp_path, database_url)
    yield registry
    registry.backend.database.close()


@pytest.fixture
def database(registry):
    return registry.backend.database


@pytest.fixture
def any_database(any_registry):
    return any_registry.backend.database

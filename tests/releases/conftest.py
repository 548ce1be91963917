import pytest

from tests.releases.life import Stage
from tests.traffic.support import Clock, open_registry


@pytest.fixture
def clock():
    return Clock()


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
def stage(registry, clock):
    """A model `m` whose champion is `1.0.0`, one process that serves, and a controller, all on one clock."""
    return Stage(registry, clock)

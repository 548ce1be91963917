import pytest

from tests.releases.deploying import Deploying
from tests.releases.life import Stage
from tests.traffic.support import Clock, move, open_registry, publish_all


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


def _deploying(home, url, clock):
    registry = open_registry(home, url, clock=clock)
    publish_all(registry, "m", "1.0.0", "1.0.1", "1.0.2")
    move(registry, "m", "1.0.0")
    return Deploying(registry, clock)


@pytest.fixture
def deploying(tmp_path, sqlite_url, clock):
    """A model `m` whose champion is `1.0.0`, and nothing deployed."""
    made = _deploying(tmp_path, sqlite_url, clock)
    yield made
    made.database.close()


@pytest.fixture
def deploying_anywhere(tmp_path, database_url, clock):
    """The same on SQLite and on PostgreSQL."""
    made = _deploying(tmp_path, database_url, clock)
    yield made
    made.database.close()

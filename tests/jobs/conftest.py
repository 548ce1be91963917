import pytest

from crossfade.jobs.claims import Claims
from crossfade.jobs.store import JobStore
from crossfade.settings import JobSettings
from tests.traffic.support import Clock, move, open_registry, publish_all

SETTINGS = JobSettings(lease_seconds=30, retention_seconds=1000, patience_seconds=60)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def registry(tmp_path, database_url, clock):
    """Two versions of `churn`, the first of them champion; on SQLite and on PostgreSQL."""
    registry = open_registry(tmp_path, database_url, clock=clock)
    publish_all(registry, "churn", "1.0.0", "1.0.1")
    move(registry, "churn", "1.0.0")
    yield registry
    registry.backend.database.close()


@pytest.fixture
def database(registry):
    return registry.backend.database


@pytest.fixture
def store(registry, database, clock):
    return JobStore(registry, database, SETTINGS, clock)


@pytest.fixture
def claims(database, clock):
    return Claims(database, SETTINGS, clock)

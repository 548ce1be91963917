"""Fixtures of the tests of experiments."""

import pytest

from tests.experiments.bandits import Casino
from tests.traffic.support import open_registry


@pytest.fixture
def casino(tmp_path, database_url):
    """A place for bandits, on SQLite and on PostgreSQL."""
    registry = open_registry(tmp_path, database_url)
    yield Casino(registry)
    registry.backend.database.close()

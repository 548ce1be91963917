"""Fixtures of the tests of configs."""

import pytest

from tests.configs.support import open_configs
from tests.traffic.support import Clock, open_registry


@pytest.fixture
def registry(tmp_path, sqlite_url):
    registry = open_registry(tmp_path, sqlite_url)
    yield registry
    registry.backend.database.close()


@pytest.fixture
def database(registry):
    return registry.backend.database


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def configs(registry, clock):
    return open_configs(registry, clock=clock)

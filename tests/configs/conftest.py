"""Fixtures of the tests of configs."""

import shutil

import pytest

from tests.configs.support import open_configs
from tests.traffic.support import Clock, open_registry


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """A file with the schema and nothing else, for copying: making one takes long."""
    home = tmp_path_factory.mktemp("empty")
    open_registry(home, f"sqlite:///{home / 'crossfade.db'}").backend.database.close()
    return home / "crossfade.db"


@pytest.fixture
def registry(empty_database, tmp_path):
    shutil.copy(empty_database, tmp_path / "crossfade.db")
    registry = open_registry(tmp_path, f"sqlite:///{tmp_path / 'crossfade.db'}")
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

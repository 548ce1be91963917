"""Fixtures of the tests of experiments."""

import shutil

import pytest

from tests.experiments.bandits import Casino
from tests.experiments.life import open_store
from tests.traffic.support import move, open_registry, publish_all


@pytest.fixture
def casino(tmp_path, database_url):
    """A place for bandits, on SQLite and on PostgreSQL."""
    registry = open_registry(tmp_path, database_url)
    yield Casino(registry)
    registry.backend.database.close()


@pytest.fixture(scope="session")
def prepared_home(tmp_path_factory):
    """The home of a registry whose model `m` has three versions, the first of them champion; for copying."""
    home = tmp_path_factory.mktemp("prepared")
    registry = open_registry(home, f"sqlite:///{home / 'crossfade.db'}")
    publish_all(registry, "m", "1.0.0", "1.0.1", "1.0.2")
    move(registry, "m", "1.0.0")
    registry.backend.database.close()
    return home


@pytest.fixture
def registry(prepared_home, tmp_path):
    home = tmp_path / "registry"
    shutil.copytree(prepared_home, home)
    registry = open_registry(home, f"sqlite:///{home / 'crossfade.db'}")
    yield registry
    registry.backend.database.close()


@pytest.fixture
def database(registry):
    return registry.backend.database


@pytest.fixture
def store(registry):
    return open_store(registry)

"""A registry whose model `m` has three versions, and what people do about its safety."""

import shutil

import pytest

from crossfade.safety.store import SafetyStore
from tests.traffic.support import Clock, move, open_registry, publish_all


@pytest.fixture(scope="session")
def safety_home(tmp_path_factory):
    """The home of a registry whose model `m` has three versions, the first of them champion; for copying."""
    home = tmp_path_factory.mktemp("safety")
    registry = open_registry(home, f"sqlite:///{home / 'crossfade.db'}")
    publish_all(registry, "m", "1.0.0", "1.0.1", "1.0.2")
    publish_all(registry, "other", "1.0.0")
    move(registry, "m", "1.0.0")
    registry.backend.database.close()
    return home


@pytest.fixture
def registry(safety_home, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(safety_home, home)
    registry = open_registry(home, f"sqlite:///{home / 'crossfade.db'}")
    yield registry
    registry.backend.database.close()


@pytest.fixture
def database(registry):
    return registry.backend.database


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(registry, database, tmp_path, clock):
    return SafetyStore(registry, database, tmp_path / "home", tuple, lambda _revision, _seconds: (), clock)

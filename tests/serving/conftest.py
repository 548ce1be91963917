import pytest

from crossfade.serving.runtime import ServingRuntime
from crossfade.settings import Settings
from tests.serving.fakes import Openings
from tests.traffic.support import FAST, open_registry


@pytest.fixture
def registry(tmp_path, sqlite_url):
    registry = open_registry(tmp_path, sqlite_url)
    yield registry
    registry.backend.database.close()


@pytest.fixture
def database(registry):
    return registry.backend.database


@pytest.fixture
def openings(registry):
    return Openings(registry.backend)


@pytest.fixture
def start(registry, openings, tmp_path):
    """Starts runtimes, and closes them."""
    started = []

    def start(opener=openings, **changes):
        settings = Settings(home=tmp_path, serving=FAST.model_copy(update=changes))
        runtime = ServingRuntime(registry.backend, registry.backend.database, settings, opener)
        started.append(runtime)
        runtime.start()
        return runtime

    yield start
    for runtime in started:
        runtime.close()

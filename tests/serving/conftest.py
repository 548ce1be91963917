import pytest

from crossfade.serving.runtime import ServingRuntime
from crossfade.serving.slots import State
from crossfade.settings import Settings
from tests.experiments.life import open_store
from tests.serving.experimenting import Trial
from tests.serving.fakes import Openings
from tests.traffic.support import FAST, eventually, move, open_registry, publish_all


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


def _settled(slot):
    return slot is not None and slot.state in {State.READY, State.FAILED}


@pytest.fixture
def trial(registry, openings, tmp_path):
    """Makes a running process with a model `m`, whose champion is `1.0.0`, and experiments on it."""
    publish_all(registry, "m", "1.0.0", "1.0.1", "1.0.2")
    move(registry, "m", "1.0.0")
    started = []

    def make(*specs, **sections):
        """Start the experiments, then the process: it has to do with what it can load."""
        store = open_store(registry)
        for spec in specs:
            store.create(spec)
            store.start(spec.name)
        exposures = []
        on_threads = FAST.model_copy(update={"inline_below_seconds": 1e-9})  # so that tests can hold a model up
        settings = Settings(home=tmp_path, serving=on_threads, **sections)
        database = registry.backend.database
        runtime = ServingRuntime(registry.backend, database, settings, openings, record=exposures.append)
        started.append(runtime)
        runtime.start()
        eventually(lambda: runtime.slots.is_ready("m", "1.0.0"))
        versions = [variant.version for spec in specs for variant in spec.variants if spec.model]
        eventually(lambda: all(_settled(runtime.slots.find("m", version)) for version in versions))
        return Trial(runtime, store, exposures)

    yield make
    for runtime in started:
        runtime.close()

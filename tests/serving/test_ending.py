"""A server that is asked to stop ends in time, whatever hangs in it."""

import signal
import threading
import time

import numpy as np
import pytest

import crossfade
from crossfade.client import Client
from crossfade.errors import CrossfadeError
from crossfade.registry import registration
from crossfade.registry.packaging import pack
from crossfade.settings import RegistrySettings
from tests import control
from tests.serving.fakes import ref_states
from tests.stress.slow import Hanging, Seizing
from tests.traffic.support import eventually

QUICK = {
    "CROSSFADE_REGISTRY__ALLOW_CODE_MODELS": "true",
    "CROSSFADE_SERVING__DRAIN_SECONDS": "0.1",
    "CROSSFADE_SERVING__DRAIN_TIMEOUT_SECONDS": "1",
}


@pytest.fixture
def platform(tmp_path):
    settings = crossfade.Settings(home=tmp_path, registry=RegistrySettings(allow_code_models=True))
    with crossfade.open_platform(settings) as platform:
        yield platform


def register(platform, model):
    draft = pack(model, example=np.zeros((1, 2)), policy=platform.registry.policy)
    manifest = draft.manifest("m", "1.0.0")
    registration.register(platform.registry.backend, platform.settings.registry, draft, manifest, principal="tests")


def loads_everywhere(platform, processes):
    return lambda: ref_states(platform.fleet, "m:1.0.0") == ["loading"] * processes


@pytest.mark.parametrize("workers", [1, 2])
def test_a_load_that_hangs_does_not_keep_a_server_that_shall_stop(platform, tmp_path, workers):
    register(platform, Hanging(1))
    with control.running_server(tmp_path, "--workers", str(workers), **QUICK) as server:
        platform.fleet.add_candidate("m", "1.0.0", principal="tests")
        eventually(loads_everywhere(platform, workers), 30)
        started = time.monotonic()
        assert server.stop(signal.SIGTERM) == 0
        assert time.monotonic() - started < 10
    assert server.log.read_text().count('"event": "stopped"') == workers


def test_a_move_that_waits_for_a_load_that_hangs_does_not_keep_it_either(platform, tmp_path):
    register(platform, Hanging(1))
    with control.running_server(tmp_path, **QUICK) as server:
        failures = []

        def move():
            try:
                with Client(server.url) as client:
                    client.move_alias("m", "champion", "1.0.0")
            except CrossfadeError as error:
                failures.append(error)

        mover = threading.Thread(target=move)
        mover.start()
        eventually(loads_everywhere(platform, 1), 30)
        started = time.monotonic()
        server.stop(signal.SIGTERM)
        assert time.monotonic() - started < 15
        mover.join(30)
    assert failures
    assert platform.registry.model("m").aliases == {}, "nobody has proved the version"


@pytest.mark.slow
def test_code_that_lets_nothing_else_run_is_killed_with_its_worker(platform, tmp_path):
    register(platform, Seizing(1))
    trusted = QUICK | {"CROSSFADE_SERVING__EXECUTION": "thread"}
    with control.running_server(tmp_path, "--workers", "2", **trusted) as server:
        platform.fleet.add_candidate("m", "1.0.0", principal="tests")
        time.sleep(3)
        server.stop(signal.SIGTERM)
    assert server.log.read_text().count("worker_killed") == 2

"""Processes are started before they are needed, import what is known to be needed, and end with the server."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from crossfade.core.processors import thread_bound
from crossfade.serving.isolation import nursery as nurseries
from crossfade.serving.isolation.confinement import Limits
from crossfade.serving.isolation.nursery import Nursery, open_nursery
from crossfade.serving.isolation.process import ModelProcess, ProcessEndedError
from crossfade.settings import IsolationSettings, ServingSettings, Settings
from tests.serving.isolation.test_host import is_alive
from tests.traffic.support import eventually


@pytest.fixture
def own():
    nursery = Nursery(Limits(2**30))
    yield nursery
    nursery.close()


def test_nothing_is_started_before_it_is_needed():
    before = threading.active_count()
    nursery = Nursery(Limits(2**30))
    assert threading.active_count() == before
    nursery.close()


def test_a_machine_can_be_examined(own):
    assert own.examine() == ()


def test_there_is_always_one_in_reserve(own):
    first = own.take("m:1.0.0")
    eventually(lambda: own._reserve is not None, 10)
    reserve = own._reserve.pid
    second = own.take("m:1.0.0")
    assert second.pid == reserve != first.pid
    first.close()
    second.close()


def test_a_dead_reserve_is_replaced(own):
    own.take("m:1.0.0").close()
    eventually(lambda: own._reserve is not None, 10)
    os.kill(own._reserve.pid, signal.SIGKILL)
    process = own.take("m:1.0.0")
    assert is_alive(process.pid)
    process.close()


def test_the_reserve_has_imported_what_models_need(own):
    own.learn(("decimal", "no_such_package", "../etc", "os.path", "sklearn"))
    assert own._packages == {"decimal", "sklearn"}
    process = own.take("m:1.0.0")
    assert "/sklearn/" in Path(f"/proc/{process.pid}/maps").read_text()
    process.close()


def test_a_reserve_that_was_started_before_a_model_was_known_is_replaced(own):
    own.take("m:1.0.0").close()
    eventually(lambda: own._reserve is not None, 10)
    before = own._reserve.pid
    own.learn(("sklearn",))
    eventually(lambda: own._reserve is not None and own._reserve.pid != before, 10)
    eventually(lambda: not is_alive(before), 5)
    process = own.take("m:1.0.0")
    assert "/sklearn/" in Path(f"/proc/{process.pid}/maps").read_text()
    process.close()


def test_learning_nothing_new_leaves_the_reserve(own):
    own.learn(("decimal",))
    own.take("m:1.0.0").close()
    eventually(lambda: own._reserve is not None, 10)
    before = own._reserve.pid
    own.learn(("decimal",))
    process = own.take("m:1.0.0")
    assert process.pid == before
    process.close()


def test_after_the_end_nothing_is_started(own):
    own.take("m:1.0.0").close()
    own.close()
    with pytest.raises(ProcessEndedError, match="shutting down"):
        own.take("m:1.0.0")


def test_a_reserve_that_cannot_be_started_does_not_end_the_others(own, monkeypatch):
    spawn, calls = own._spawn, []

    def only_once():
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("no more processes")
        return spawn()

    monkeypatch.setattr(own, "_spawn", only_once)
    first, second = own.take("m:1.0.0"), own.take("m:1.0.0")
    assert is_alive(first.pid)
    assert is_alive(second.pid)
    first.close()
    second.close()


def test_closing_ends_the_reserve(own):
    own.take("m:1.0.0").close()
    eventually(lambda: own._reserve is not None, 10)
    pid = own._reserve.pid
    own.close()
    eventually(lambda: not is_alive(pid), 5)


def test_a_process_that_does_not_start_is_an_error(own, monkeypatch):
    monkeypatch.setattr(nurseries, "ModelProcess", Broken)
    with pytest.raises(ProcessEndedError, match="not there"):
        own.take("m:1.0.0")


class Broken:
    pid, output = 0, 0

    def __init__(self, *_):
        self.output = os.open(os.devnull, os.O_RDONLY)

    def receive(self, *, seconds):
        raise ProcessEndedError("exit", "not there")

    def close(self):
        pass


def test_secrets_of_the_server_are_not_in_its_environment(own, monkeypatch):
    monkeypatch.setenv("CROSSFADE_STORAGE__S3_SECRET_ACCESS_KEY", "hush")
    process = own.take("m:1.0.0")
    environment = Path(f"/proc/{process.pid}/environ").read_text()
    assert "hush" not in environment
    assert "OMP_NUM_THREADS=1" in environment
    process.close()


def test_processes_end_with_a_server_that_is_killed():
    script = """
import os, signal
from crossfade.serving.isolation.confinement import Limits
from crossfade.serving.isolation.nursery import Nursery
print(Nursery(Limits(2**30)).take("m:1.0.0").pid, flush=True)
signal.pause()
"""
    server = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        pid = int(server.stdout.readline())
        assert is_alive(pid)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    eventually(lambda: not is_alive(pid), 5)


@pytest.mark.parametrize(("workers", "memory", "expected"), [(1, 2**33, 2**33), (10_000, 0, 2**30)])
def test_the_settings_say_what_each_may_use(workers, memory, expected):
    settings = Settings(serving=ServingSettings(workers=workers), isolation=IsolationSettings(memory_bytes=memory))
    nursery = open_nursery(settings)
    assert nursery._limits.memory_bytes == expected
    assert nursery._threads == thread_bound()


def test_a_process_that_says_nothing_in_time_is_ended():
    process = ModelProcess(Limits(2**30))
    process.receive(seconds=30)
    with pytest.raises(ProcessEndedError, match="within"):
        process.receive(seconds=0.05)
    process.close()
    os.close(process.output)
    assert not is_alive(process.pid)

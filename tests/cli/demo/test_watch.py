from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from crossfade.cli.demo import watch as watch_module
from crossfade.cli.demo.watch import Watch, worker_thread
from crossfade.errors import NotReadyError


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(watch_module, "TICK_SECONDS", 0.02)


@pytest.fixture
def shown():
    return []


@pytest.fixture
def watch(shown):
    with worker_thread() as worker:
        yield Watch(lambda: "table", SimpleNamespace(show=shown.append), worker)


def test_the_table_moves_while_time_passes(watch, shown):
    began = time.monotonic()
    watch.during(0.1)
    assert time.monotonic() - began >= 0.1
    assert len(shown) >= 2


def test_the_table_moves_while_something_is_done(watch, shown):
    def work():
        while len(shown) < 3:
            time.sleep(0.005)
        return threading.current_thread().name

    assert watch.while_doing(work).startswith("story")
    assert set(shown) == {"table"}


def test_an_error_of_the_work_is_raised(watch):
    def work():
        raise NotReadyError(ref="a:1.0.0", name="a", alias="champion", problem="no")

    with pytest.raises(NotReadyError):
        watch.while_doing(work)


def test_a_timeout_of_the_work_is_not_taken_for_a_tick(watch):
    def work():
        raise TimeoutError("the work's own")

    with pytest.raises(TimeoutError, match="own"):
        watch.while_doing(work)


def test_leaving_does_not_wait_for_work_that_goes_on():
    release = threading.Event()
    began = time.monotonic()
    with worker_thread() as worker:
        worker.submit(release.wait, 30)
    assert time.monotonic() - began < 10
    release.set()

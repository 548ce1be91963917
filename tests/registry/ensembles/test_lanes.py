"""A lane runs one call at a time on one thread, and leaves nothing behind."""

import gc
import threading
import time
import weakref

import pytest

from crossfade.registry.ensembles.lanes import Lane


def threads_named(name):
    return [thread for thread in threading.enumerate() if thread.name == name]


def soon(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_calls_run_on_one_thread_that_starts_with_the_first():
    lane = Lane("lane-a")
    assert not threads_named("lane-a")
    names = [lane.send(lambda: threading.current_thread().name).result(10) for _ in range(20)]
    assert names == ["lane-a"] * 20
    assert len(threads_named("lane-a")) == 1


def test_what_a_call_raises_is_raised_where_it_is_waited_for_and_the_lane_goes_on():
    lane = Lane("lane-b")
    with pytest.raises(ZeroDivisionError):
        lane.send(lambda: 1 / 0).result(10)
    with pytest.raises(SystemExit):
        lane.send(lambda: (_ for _ in ()).throw(SystemExit(3))).result(10)
    assert lane.send(lambda: 5).result(10) == 5


def test_it_is_occupied_until_a_call_has_come_back():
    lane, gate = Lane("lane-c"), threading.Event()
    future = lane.send(lambda: gate.wait(20))
    assert lane.occupied
    gate.set()
    assert future.result(10)
    assert not lane.occupied  # at once: whoever has the result may send the next call


def test_the_thread_ends_with_the_lane():
    lane = Lane("lane-d")
    lane.send(lambda: 1).result(10)
    del lane
    gc.collect()
    soon(lambda: not threads_named("lane-d"))


def test_a_lane_that_hangs_can_be_forgotten_and_its_thread_ends_when_it_comes_back():
    lane, gate = Lane("lane-e"), threading.Event()
    lane.send(lambda: gate.wait(20))
    del lane
    gc.collect()
    assert threads_named("lane-e")[0].daemon
    gate.set()
    soon(lambda: not threads_named("lane-e"))


def test_an_idle_lane_keeps_neither_the_call_nor_its_result_alive():
    class Thing:
        pass

    lane, thing = Lane("lane-f"), Thing()
    given, found = weakref.ref(thing), weakref.ref(lane.send(lambda thing=thing: Thing()).result(10))
    del thing
    soon(lambda: given() is None and found() is None)

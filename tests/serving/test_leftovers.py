"""What unloaded versions leave in memory is freed, and nobody who asks has to wait for it."""

import gc
import sys
import threading
import time
import weakref

import pytest

from crossfade.registry.versions import Manifest
from crossfade.serving import leftovers as leftovers_module
from crossfade.serving.leftovers import Leftovers
from crossfade.serving.loader import Loader
from crossfade.serving.opening import OpenedVersion
from crossfade.serving.slots import SlotTable
from crossfade.traffic.snapshot import Aspired, Role, Route, Snapshot
from tests.serving.fakes import SIGNATURE, Constant, number_of, ready_slot
from tests.traffic.support import FAST, eventually

pytestmark = pytest.mark.slow


class Cyclic(Constant):
    """A model that refers to itself, as trees whose nodes know their parents do."""

    def __init__(self, number):
        super().__init__(number)
        self.me = self


class Swaps:
    """A loader that is given one version of a cyclic model after the other, and weak references to all of them."""

    def __init__(self, **changes):
        self.slots = SlotTable()
        self.models = {}
        self.loader = Loader(self.slots, self.open, FAST.model_copy(update=changes))
        self.revision = 0

    def open(self, name, wish):
        model = Cyclic(number_of(wish.version))
        self.models[wish.version] = weakref.ref(model)
        return OpenedVersion(Manifest(name, wish.version, "fake", (), SIGNATURE), model)

    def to(self, version, size=1):
        self.revision += 1
        digest = Manifest("m", version, "fake", (), SIGNATURE).digest
        route = Route("m", aspired=(Aspired(version, digest, size, Role.ACTIVE),))
        self.loader.aspire(Snapshot(self.revision, {"m": route}))
        eventually(lambda: self.slots.is_ready("m", version) and len(self.slots.all()) == 1)

    def is_freed(self, version):
        return self.models[version]() is None


@pytest.fixture
def swaps(monkeypatch):
    monkeypatch.setattr(leftovers_module, "_QUIET_SECONDS", 0.05)
    made = []

    def make(**changes):
        swaps = Swaps(**changes)
        made.append(swaps)
        swaps.loader.start()
        return swaps

    gc.disable()  # nothing but the loader may free what the tests look at
    yield make
    gc.enable()
    for each in made:
        each.loader.close()
    gc.unfreeze()


@pytest.fixture
def much(monkeypatch):
    """Whether the process has more objects than the collector may look through while requests come."""

    def say(there_is):
        monkeypatch.setattr(leftovers_module, "_MANY", -1 if there_is else 10**9)

    return say


@pytest.mark.parametrize("there_is", [True, False], ids=["hidden", "in sight"])
def test_swapped_versions_that_refer_to_themselves_are_freed(swaps, much, there_is):
    much(there_is)
    swaps = swaps()
    for number in range(4):
        swaps.to(f"1.0.{number}")
    eventually(lambda: all(swaps.is_freed(f"1.0.{number}") for number in range(3)))
    assert not swaps.is_freed("1.0.3")


def test_what_there_is_much_of_is_hidden_from_the_collector(swaps, much):
    much(True)
    swaps = swaps()
    before = gc.get_freeze_count()
    swaps.to("1.0.0")
    assert gc.get_freeze_count() > before


def test_a_short_look_is_taken_at_once_although_requests_come(swaps, much, monkeypatch):
    monkeypatch.setattr(leftovers_module, "_QUIET_SECONDS", 3600)
    much(False)
    swaps = swaps()
    swaps.to("1.0.0")
    swaps.to("1.0.1")
    eventually(lambda: swaps.is_freed("1.0.0"))


def test_a_long_look_waits_until_no_request_comes(much, monkeypatch):
    much(True)
    monkeypatch.setattr(leftovers_module, "_QUIET_SECONDS", 0)
    looks = []
    monkeypatch.setattr(leftovers_module.gc, "collect", lambda: looks.append(1) or 0)
    monkeypatch.setattr(leftovers_module.gc, "freeze", lambda: None)
    monkeypatch.setattr(leftovers_module.gc, "unfreeze", lambda: None)
    slots = SlotTable()
    slot = ready_slot()
    slots.put(slot)
    leftovers = Leftovers(slots)
    leftovers.add(ready_slot(version="0.9.0"))
    monkeypatch.setattr(leftovers_module, "_QUIET_SECONDS", 3600)
    slot.leases = 1
    leftovers.clear()
    slot.leases = 0
    slot.counters.count_answer(1, 0.1, time.monotonic())
    leftovers.clear()
    assert leftovers.pending
    assert looks == []
    monkeypatch.setattr(leftovers_module, "_QUIET_SECONDS", 0)
    leftovers.clear()
    assert not leftovers.pending
    assert looks == [1]


def test_memory_counts_until_it_is_free_and_is_freed_when_it_is_needed(swaps, much, monkeypatch):
    monkeypatch.setattr(leftovers_module, "_QUIET_SECONDS", 3600)
    much(True)
    swaps = swaps(memory_limit_bytes=10**12)
    swaps.to("1.0.0", size=4 * 10**11)
    swaps.to("1.0.1", size=4 * 10**11)
    eventually(lambda: swaps.loader.free_bytes() == 2 * 10**11)
    assert not swaps.is_freed("1.0.0")
    swaps.to("1.0.2", size=4 * 10**11)
    assert swaps.is_freed("1.0.0")


def test_counting_objects_disturbs_no_tuple_that_another_thread_makes(monkeypatch):
    """`len(gc.get_objects())` made `tuple(...)` fail elsewhere, nine times in ten."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    problems, ending = [], threading.Event()

    def make_tuples():
        while not ending.is_set():
            try:
                tuple(number for number in range(100))
            except SystemError as error:
                problems.append(error)

    making = threading.Thread(target=make_tuples)
    making.start()
    try:
        for _ in range(100):
            leftovers_module._is_much()
            time.sleep(0.0005)
    finally:
        ending.set()
        making.join()
        sys.setswitchinterval(interval)
    assert problems == []

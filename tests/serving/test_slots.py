"""A slot is never freed while somebody holds on to it, and nobody holds on to one that is leaving."""

import asyncio
import itertools
import math
import sys
import threading

import pytest

from crossfade.serving.slots import Slot, SlotTable, State
from crossfade.settings import ModelRules
from tests.serving.fakes import SIGNATURE, Constant, X, leased, ready_slot
from tests.traffic.support import soon


@pytest.fixture
def table():
    return SlotTable()


def test_why_a_version_failed_can_be_stored_and_shown(table):
    slot = Slot("m", "1.0.0", "d")
    table.put(slot)
    table.advance(slot, State.LOADING)
    table.advance(slot, State.FAILED, "bad\0 thing\nin two lines")
    assert table.explain("m", "1.0.0") == "bad  thing in two lines"


def test_the_way_of_a_slot(table):
    slot = Slot("m", "1.0.0", "d")
    table.put(slot)
    for state in (State.LOADING, State.WARMING):
        table.advance(slot, state)
        assert table.explain("m", "1.0.0") == f"it is {state}"
        assert not table.is_ready("m", "1.0.0")
        assert table.take("m", "1.0.0") is None
    table.advance(slot, State.READY)
    assert table.is_ready("m", "1.0.0")
    assert table.find("m", "1.0.0") is slot
    assert (slot.key, slot.ref) == (("m", "1.0.0"), "m:1.0.0")
    for state in (State.DRAINING, State.UNLOADING):
        table.advance(slot, state)
        assert table.take("m", "1.0.0") is None
    table.advance(slot, State.GONE)
    assert table.all() == {}
    assert table.explain("m", "1.0.0") == "it is not loaded"


@pytest.mark.parametrize(("source", "target"), list(itertools.product(State, State)))
def test_only_legal_steps_are_taken(table, source, target):
    forward = list(State)[:7]
    legal = (
        (source in forward and target in forward and forward.index(target) == forward.index(source) + 1)
        or (target is State.FAILED and source in forward[:5])
        or (source is State.FAILED and target is State.GONE)
    )
    slot = Slot("m", "1.0.0", "d")
    slot.state = source
    if legal:
        table.advance(slot, target)
    else:
        with pytest.raises(RuntimeError, match=f"from {source} to {target}"):
            table.advance(slot, target)


def test_a_failed_slot_tells_why_and_can_be_discarded(table):
    slot = Slot("m", "1.0.0", "d")
    table.put(slot)
    table.discard(slot)
    assert table.find("m", "1.0.0") is slot, "it has not failed"
    table.advance(slot, State.FAILED, "no luck")
    assert table.explain("m", "1.0.0") == "no luck"
    table.discard(slot)
    table.discard(slot)
    assert table.all() == {}


def test_a_new_slot_takes_the_place_of_a_failed_one(table):
    old, new = Slot("m", "1.0.0", "d"), Slot("m", "1.0.0", "d")
    table.put(old)
    table.advance(old, State.FAILED, "no luck")
    table.put(new)
    table.discard(old)
    assert table.find("m", "1.0.0") is new


def test_listeners_hear_of_every_change(table):
    heard = []
    table.subscribe(lambda: heard.append([slot.state for slot in table.all().values()]))
    slot = Slot("m", "1.0.0", "d")
    table.put(slot)
    table.advance(slot, State.LOADING)
    table.advance(slot, State.FAILED)
    table.discard(slot)
    assert heard == [[State.NEW], [State.LOADING], [State.FAILED], []]


def test_readers_keep_the_dict_they_have(table):
    before = table.all()
    table.put(ready_slot())
    assert before == {}
    assert len(table.all()) == 1


async def test_a_lease_is_held_for_a_block(table):
    slot = ready_slot()
    table.put(slot)
    with leased(table, "m", "1.0.0") as held:
        assert held is slot
        assert slot.leases == 1
        assert not slot.idle
        outputs = await held.predict(X, held.outputs)
        assert outputs["predict"].tolist() == [0.0, 0.0]
    assert slot.leases == 0
    with pytest.raises(ZeroDivisionError), leased(table, "m", "1.0.0"):
        raise ZeroDivisionError
    assert slot.idle


def test_what_is_not_ready_is_not_leased(table):
    assert table.take("m", "1.0.0") is None
    assert table.explain("m", "1.0.0") == "it is not loaded"
    slot = ready_slot()
    table.put(slot)
    table.advance(slot, State.DRAINING)
    assert table.take("m", "1.0.0") is None
    assert table.explain("m", "1.0.0") == "it is draining"
    assert slot.leases == 0


def test_equipping_takes_everything_from_the_manifest():
    slot = ready_slot()
    assert slot.signature == SIGNATURE
    assert slot.outputs == {"predict"}


async def test_a_running_batch_keeps_a_slot_busy_after_its_client_has_gone(table):
    model = Constant(0)
    model.gate.clear()
    slot = ready_slot(model=model, inline=False)
    table.put(slot)

    async def client():
        with leased(table, "m", "1.0.0") as held:
            await held.predict(X, held.outputs)

    task = asyncio.create_task(client())
    await soon(lambda: model.calls)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert slot.leases == 0
    assert not slot.idle
    model.gate.set()
    await soon(lambda: slot.idle)
    slot.batcher.close()


class Interrupting(Slot):
    """Lets somebody else act between the increment of `leases` and the look at the state."""

    __slots__ = ("interrupt",)

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "leases" and value == 1 and self.state is State.READY and self.interrupt:
            interrupt, self.interrupt = self.interrupt, None
            interrupt()


def interrupting(interrupt):
    slot = ready_slot()
    made = Interrupting.__new__(Interrupting)
    object.__setattr__(made, "interrupt", None)
    for name in Slot.__slots__:
        object.__setattr__(made, name, getattr(slot, name))
    made.interrupt = interrupt
    return made


def test_a_lease_taken_while_draining_begins_is_given_back(table):
    slot = interrupting(lambda: table.advance(slot, State.DRAINING))
    table.put(slot)
    assert table.take("m", "1.0.0") is None
    assert slot.leases == 0


def test_a_lease_taken_before_draining_keeps_the_slot(table):
    slot = ready_slot()
    table.put(slot)
    assert table.take("m", "1.0.0") is slot
    table.advance(slot, State.DRAINING)
    assert not slot.idle


def test_a_slot_that_was_replaced_meanwhile_is_found_at_the_second_look(table):
    new = ready_slot(digest="new")

    def replace():
        table.advance(old, State.DRAINING)
        table.put(new)

    old = interrupting(replace)
    table.put(old)
    assert table.take("m", "1.0.0") is new
    assert (old.leases, new.leases) == (0, 1)


def test_no_slot_is_idle_and_leased_under_stress(table):
    """One thread leases as the event loop does, another unloads as the loader does, as fast as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    ending, wrong = threading.Event(), []

    def unload():
        for _ in range(300):
            slot = ready_slot()
            table.put(slot)
            table.advance(slot, State.DRAINING)
            while not slot.idle:
                pass
            table.advance(slot, State.UNLOADING)
            slot.problem = "freed"
            table.advance(slot, State.GONE, "freed")
        ending.set()

    thread = threading.Thread(target=unload)
    thread.start()
    try:
        while not ending.is_set():
            slot = table.take("m", "1.0.0")
            if slot is not None:
                for _ in range(5):
                    if slot.problem == "freed":
                        wrong.append(slot)
                slot.release()
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []


@pytest.mark.parametrize(
    ("wished", "seconds"), [(None, 10.0), (0.25, 0.25), (0.0, 0.0), (30.0, 30.0), (3600.0, 60.0), (math.inf, math.inf)]
)
def test_how_long_a_request_may_take(wished, seconds):
    assert ready_slot().allowed_seconds(wished) == seconds


def test_nobody_gets_less_by_asking_for_more():
    slot = ready_slot()
    slot.equip(slot.manifest, slot.batcher, ModelRules(request_timeout_seconds=300))
    assert slot.allowed_seconds(3600.0) == slot.allowed_seconds(None) == 300

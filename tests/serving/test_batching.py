"""Whoever comes together is predicted together, and nobody can tell the difference."""

import asyncio
import gc
import logging
import threading
from contextlib import asynccontextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.core.tensors import Signature, TensorSpec
from crossfade.errors import PredictionError
from crossfade.serving import batching
from crossfade.serving.batching import Batcher
from crossfade.serving.counters import Counters
from crossfade.serving.waiting import Request
from crossfade.settings import ModelRules
from tests.traffic.support import soon

FIXED = Signature(
    (TensorSpec("x", "FP64", (-1, 2)), TensorSpec("word", "BYTES", (-1,))),
    (TensorSpec("sum", "FP64", (-1,)), TensorSpec("loud", "BYTES", (-1,))),
)
OPEN = Signature((TensorSpec("x", "FP64", (-1, -1)),), (TensorSpec("sum", "FP64", (-1,)),))
SUM = frozenset({"sum"})
BOTH = frozenset({"sum", "loud"})
POISON = -666.0


class Model:
    """Adds up rows; it remembers its calls, and fails on the poison."""

    def __init__(self):
        self.calls = []
        self.threads = set()
        self.running = 0
        self.overlapped = False
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, tensors, wanted):
        self.running += 1
        self.overlapped |= self.running > 1
        self.threads.add(threading.current_thread().name)
        x = tensors["x"]
        self.calls.append(len(x))
        self.gate.wait(10)
        try:
            if (x == POISON).any():
                raise PredictionError(ref="m:1", problem="poison")
            outputs = {"sum": x.sum(axis=1)}
            if "loud" in wanted:
                outputs["loud"] = np.array([f"{word}!" for word in tensors["word"]], dtype=object)
            return outputs
        finally:
            self.running -= 1


@asynccontextmanager
async def batcher_of(model, signature=FIXED, *, inline=True, max_rows=8, inline_seconds=10.0, **rules):
    batcher = Batcher(
        model,
        signature,
        ModelRules(max_batch_rows=max_rows, **rules),
        ref="m:1",
        inline=inline,
        inline_seconds=inline_seconds,
        counters=Counters(),
    )
    try:
        yield batcher
    finally:
        await asyncio.to_thread(batcher.close)


def request(rows, start=0.0):
    x = np.arange(start, start + 2 * rows).reshape(rows, 2)
    return {"x": x, "word": np.array([f"w{start:g}-{i}" for i in range(rows)], dtype=object)}


def same(outputs, tensors, wanted):
    assert set(outputs) == wanted
    assert outputs["sum"].tolist() == tensors["x"].sum(axis=1).tolist()
    if "loud" in wanted:
        assert outputs["loud"].tolist() == [f"{word}!" for word in tensors["word"]]


# --- stages ---


async def test_stages_are_counted_per_call_and_waiting_per_request():
    model, counters = Model(), Counters()
    batcher = Batcher(model, FIXED, ModelRules(), ref="m:1", inline=True, inline_seconds=10, counters=counters)
    batcher.caller.staged = SimpleNamespace(preprocess_seconds=0.25, member_rows={})
    await asyncio.gather(*(batcher.submit(request(1), BOTH) for _ in range(3)))
    assert model.calls == [3]
    assert counters.queue_seconds.count == 3
    assert counters.queue_seconds.total >= 0
    assert counters.preprocess_seconds.count == counters.predict_seconds.count == 3
    assert counters.preprocess_seconds.total == 0.75


async def test_the_time_in_the_line_is_the_time_until_the_call():
    model = Model()
    async with batcher_of(model, inline=False, execution="thread") as batcher:
        model.gate.clear()
        first = batcher.submit(request(1), BOTH)
        await soon(lambda: model.running)
        second = batcher.submit(request(1), BOTH)
        await asyncio.sleep(0.05)
        model.gate.set()
        await asyncio.gather(first, second)
        waited = batcher._counters.queue_seconds
        assert waited.count == 2
        assert waited.total >= 0.05


# --- on the event loop ---


async def test_requests_of_one_turn_share_one_call():
    model = Model()
    async with batcher_of(model) as batcher:
        tensors = [request(1, float(i)) for i in range(5)]
        outputs = await asyncio.gather(*(batcher.submit(t, BOTH) for t in tensors))
        for output, sent in zip(outputs, tensors, strict=True):
            same(output, sent, BOTH)
        assert model.calls == [5]
        assert model.threads == {"MainThread"}
        same(await batcher.submit(tensors[0], SUM), tensors[0], SUM)
        assert model.calls == [5, 1]


async def test_tasks_that_become_ready_together_share_one_call():
    model = Model()

    async def client(number):
        await asyncio.sleep(0)
        return await batcher.submit(request(2, float(number)), SUM)

    async with batcher_of(model) as batcher:
        await asyncio.gather(*(client(i) for i in range(3)))
        assert model.calls == [6]


async def test_a_batch_has_no_more_rows_than_allowed():
    model = Model()
    async with batcher_of(model, max_rows=4) as batcher:
        sizes = [1, 3, 1, 2, 2, 4, 1]
        await asyncio.gather(*(batcher.submit(request(n), SUM) for n in sizes))
        assert model.calls == [4, 3, 2, 4, 1]


async def test_a_request_larger_than_a_batch_goes_alone_and_off_the_loop():
    model = Model()
    async with batcher_of(model, max_rows=4) as batcher:
        large, small = request(9), request(1)
        outputs = await asyncio.gather(batcher.submit(large, SUM), batcher.submit(small, SUM))
        same(outputs[0], large, SUM)
        same(outputs[1], small, SUM)
        assert model.calls == [9, 1]
        assert "MainThread" not in model.threads
        await batcher.submit(small, SUM)
        assert "MainThread" in model.threads, "back on the loop when the thread has nothing to do"


async def test_the_model_is_never_called_twice_at_a_time():
    model = Model()
    model.gate.clear()
    async with batcher_of(model, max_rows=4) as batcher:
        large = batcher.submit(request(9), SUM)
        await soon(lambda: model.calls)
        others = [batcher.submit(request(1, float(i)), SUM) for i in range(3)]
        await asyncio.sleep(0.01)
        assert model.calls == [9]
        assert batcher.busy
        model.gate.set()
        await asyncio.gather(large, *others)
        assert model.calls == [9, 3]
        assert not model.overlapped
        assert not batcher.busy


async def test_different_outputs_are_not_mixed():
    model = Model()
    async with batcher_of(model) as batcher:
        one, two, three = request(1), request(1, 5.0), request(1, 9.0)
        outputs = await asyncio.gather(batcher.submit(one, SUM), batcher.submit(two, BOTH), batcher.submit(three, SUM))
        same(outputs[0], one, SUM)
        same(outputs[1], two, BOTH)
        same(outputs[2], three, SUM)
        assert model.calls == [2, 1]


async def test_different_shapes_are_not_mixed():
    model = Model()
    async with batcher_of(model, OPEN) as batcher:
        shapes = [(1, 2), (1, 3), (2, 2)]
        outputs = await asyncio.gather(*(batcher.submit({"x": np.ones(shape)}, SUM) for shape in shapes))
        assert [output["sum"].tolist() for output in outputs] == [[2.0], [3.0], [2.0, 2.0]]
        assert model.calls == [3, 1]


async def test_requests_without_rows_go_alone():
    model = Model()
    async with batcher_of(model) as batcher:
        outputs = await asyncio.gather(*(batcher.submit(request(n), SUM) for n in (0, 1, 0)))
        assert [len(output["sum"]) for output in outputs] == [0, 1, 0]
        assert sorted(model.calls) == [0, 0, 1]


# --- failures ---


@pytest.mark.parametrize("inline", [True, False])
async def test_poison_fails_alone(inline):
    model = Model()
    async with batcher_of(model, inline=inline) as batcher:
        good = [request(1), request(2, 4.0)]
        bad = {"x": np.full((1, 2), POISON), "word": np.array(["p"], dtype=object)}
        outcomes = await asyncio.gather(
            batcher.submit(good[0], SUM),
            batcher.submit(bad, SUM),
            batcher.submit(good[1], SUM),
            return_exceptions=True,
        )
        same(outcomes[0], good[0], SUM)
        assert isinstance(outcomes[1], PredictionError)
        same(outcomes[2], good[1], SUM)


@pytest.mark.parametrize("inline", [True, False])
async def test_a_model_that_exits_does_not_end_the_process(inline):
    def predict(tensors, wanted):
        raise SystemExit("bye")

    async with batcher_of(predict, inline=inline) as batcher:
        outcomes = await asyncio.gather(*(batcher.submit(request(1), SUM) for _ in range(2)), return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == ["`m:1` failed on this input: it tried to exit (bye)"] * 2
        with pytest.raises(PredictionError):
            await batcher.submit(request(1), SUM)


async def test_bugs_are_passed_on_unchanged():
    def predict(tensors, wanted):
        raise ZeroDivisionError

    async with batcher_of(predict) as batcher:
        with pytest.raises(ZeroDivisionError):
            await batcher.submit(request(1), SUM)


async def test_a_model_that_refuses_batches_gets_no_more(caplog):
    calls = []

    def predict(tensors, wanted):
        calls.append(len(tensors["x"]))
        if len(tensors["x"]) > 1:
            raise PredictionError(ref="m:1", problem="one row only")
        return {"sum": tensors["x"].sum(axis=1)}

    async with batcher_of(predict) as batcher:
        for _ in range(4):
            await asyncio.gather(*(batcher.submit(request(1), SUM) for _ in range(2)))
    assert calls == [2, 1, 1] * 3 + [1, 1]
    assert "no more batches" in caplog.text


@pytest.mark.parametrize("inline", [True, False])
async def test_a_client_that_goes_away_does_not_disturb_the_others(inline):
    model = Model()
    async with batcher_of(model, inline=inline) as batcher:
        if not inline:
            model.gate.clear()
        futures = [batcher.submit(request(1, float(i)), SUM) for i in range(3)]
        futures[1].cancel()
        model.gate.set()
        same(await futures[0], request(1, 0.0), SUM)
        same(await futures[2], request(1, 2.0), SUM)
        assert futures[1].cancelled()
        await soon(lambda: not batcher.busy)


async def test_when_all_clients_went_away_nothing_is_computed():
    model = Model()
    async with batcher_of(model) as batcher:
        future = batcher.submit(request(1), SUM)
        future.cancel()
        await asyncio.sleep(0.01)
        assert model.calls == []
        assert not batcher.busy


# --- on a thread ---


async def test_what_arrives_while_the_model_runs_is_the_next_batch():
    model = Model()
    model.gate.clear()
    async with batcher_of(model, inline=False) as batcher:
        first = batcher.submit(request(1), SUM)
        await soon(lambda: model.calls)
        others = [batcher.submit(request(1, float(i)), SUM) for i in range(5)]
        model.gate.set()
        await asyncio.gather(first, *others)
        assert model.calls == [1, 5]
        assert model.threads == {"crossfade-m:1"}


class Clock:
    """Stands in for the module `time`; the model moves it."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(batching, "time", self)

    def perf_counter(self):
        return self.now

    monotonic = perf_counter


async def test_a_model_that_becomes_slow_leaves_the_loop(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    model, clock = Model(), Clock(monkeypatch)

    def predict(tensors, wanted):
        clock.now += 0.011
        return model(tensors, wanted)

    async with batcher_of(predict, inline_seconds=0.001) as batcher:
        for _ in range(3):
            await batcher.submit(request(1), SUM)
        assert model.threads == {"MainThread"}
        assert not batcher.inline
        await batcher.submit(request(1), SUM)
        assert "crossfade-m:1" in model.threads
    assert "moves to a thread" in caplog.text


async def test_a_slow_batch_now_and_then_is_forgiven(monkeypatch):
    model, clock = Model(), Clock(monkeypatch)
    seconds = iter([0.011, 0.011, 0.009] * 3)

    def predict(tensors, wanted):
        clock.now += next(seconds)
        return model(tensors, wanted)

    async with batcher_of(predict, inline_seconds=0.001) as batcher:
        for _ in range(9):
            await batcher.submit(request(1), SUM)
        assert batcher.inline


def test_answers_after_the_end_of_the_loop_are_dropped(caplog):
    model = Model()
    model.gate.clear()
    batcher = Batcher(model, FIXED, ModelRules(), ref="m:1", inline=False, inline_seconds=1, counters=Counters())

    async def main():
        batcher.submit(request(1), SUM)

    asyncio.run(main())
    model.gate.set()
    batcher.close()
    assert "after the end of the event loop" in caplog.text


async def test_batches_are_counted():
    model = Model()
    async with batcher_of(model) as batcher:
        await asyncio.gather(*(batcher.submit(request(2), SUM) for _ in range(3)))
        counters = batcher._counters
        assert counters.batch_rows.total == 6
        assert counters.batch_rows.buckets()[-1] == ("+Inf", 1.0)
        assert counters.batch_seconds > 0


async def test_requests_leave_no_reference_cycles():
    async with batcher_of(Model()) as batcher:
        await batcher.submit(request(1), SUM)
        gc.collect()
        gc.disable()
        try:
            await asyncio.gather(*(batcher.submit(request(1), SUM) for _ in range(3)))
            assert not [thing for thing in gc.get_objects() if isinstance(thing, Request)]
        finally:
            gc.enable()


# --- any interleaving ---

step = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 5), st.sampled_from(["sum", "both", "poison", "cancel"])),
    st.tuples(st.just("turn"), st.integers(1, 3), st.just("")),
)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(step, max_size=30), inline=st.booleans(), max_rows=st.integers(1, 6))
def test_any_interleaving_gives_the_answers_that_each_request_would_get_alone(steps, inline, max_rows):
    model = Model()

    async def main():
        asked = []
        async with batcher_of(model, inline=inline, max_rows=max_rows) as batcher:
            for number, (what, size, kind) in enumerate(steps):
                if what == "turn":
                    for _ in range(size):
                        await asyncio.sleep(0)
                    continue
                tensors, wanted = request(size, 10.0 * number), BOTH if kind == "both" else SUM
                if kind == "poison" and size:
                    tensors["x"][size // 2] = POISON
                future = batcher.submit(tensors, wanted)
                asked.append((tensors, wanted, future))
                if kind == "cancel":
                    future.cancel()
            await asyncio.gather(*(future for *_, future in asked), return_exceptions=True)
        for tensors, wanted, future in asked:
            if future.cancelled():
                continue
            if (tensors["x"] == POISON).any():
                assert isinstance(future.exception(), PredictionError)
            else:
                same(future.result(), tensors, wanted)

    asyncio.run(main())
    assert not model.overlapped

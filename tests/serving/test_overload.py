"""A busy model: what cannot be answered in time is refused, early, and everything else is answered."""

import asyncio
import math
import time
from collections import Counter

import numpy as np
import pytest

from crossfade.errors import DeadlineExceededError, OverloadedError
from crossfade.serving.batching import Batcher
from crossfade.serving.counters import Counters
from crossfade.serving.waiting import Priority
from crossfade.settings import ModelRules
from tests.serving.fakes import SIGNATURE
from tests.traffic.support import soon

WANTED = frozenset({"predict"})
ONE = {"x": np.zeros(1)}


class Slow:
    """Takes as long as it is told, and remembers what it was given."""

    def __init__(self, seconds=0.0):
        self.seconds = seconds
        self.seen = []

    def __call__(self, tensors, wanted):
        self.seen.append(tensors["x"].tolist())
        time.sleep(self.seconds)
        return {"predict": tensors["x"]}


@pytest.fixture
def busy():
    """A batcher of one-row batches, each of which is known to take a second."""
    batchers = []

    def make(seconds, **rules):
        counters = Counters()
        batcher = Batcher(
            Slow(seconds), SIGNATURE, ModelRules(max_batch_rows=1, **rules), ref="m:1", inline=False,
            inline_seconds=1, counters=counters, expected_seconds=1.0,
        )  # fmt: skip
        batchers.append(batcher)
        return batcher, counters

    yield make
    for batcher in batchers:
        batcher.close()


def ask(batcher, seconds=math.inf, priority=Priority.ONLINE, value=0.0):
    return batcher.submit({"x": np.array([value])}, WANTED, time.monotonic() + seconds, priority)


async def test_what_cannot_be_in_time_is_refused_at_once(busy):
    batcher, counters = busy(0.1)
    first = ask(batcher, 10.0)
    second = ask(batcher, 3.0)  # a second for the first, one of its own: in time
    refused = ask(batcher, 1.0)
    assert refused.done()
    with pytest.raises(OverloadedError, match="`m:1` is too busy to answer in time") as caught:
        refused.result()
    assert caught.value.http_status == 503
    assert caught.value.facts["retry_after_seconds"] >= 1
    await asyncio.gather(first, second)
    assert counters.shed == {("overload", "online"): 1}


async def test_an_idle_model_is_tried_however_short_the_time(busy):
    batcher, counters = busy(0.0)
    await ask(batcher, 0.5)
    assert counters.shed == {}


@pytest.mark.parametrize(
    ("priority", "admitted"), [(Priority.ONLINE, True), (Priority.BATCH, True), (Priority.SHADOW, False)]
)
async def test_the_last_in_the_order_are_turned_away_first(busy, priority, admitted):
    batcher, _ = busy(0.02)
    first = ask(batcher, 10.0)
    second = ask(batcher, 7.0, priority)  # one second of work is before it: within 0.3 of its time, not within 0.1
    assert second.done() is not admitted
    await asyncio.gather(first, second, return_exceptions=True)


async def test_online_goes_before_batch_jobs_and_shadows(busy):
    batcher, _ = busy(0.05)
    asked = [ask(batcher)]
    await soon(lambda: batcher.caller.predict.seen)
    asked += [ask(batcher, priority=priority, value=float(priority)) for priority in reversed(Priority)]
    await asyncio.gather(*asked)
    assert batcher.caller.predict.seen == [[0.0], [0.0], [1.0], [2.0]]


async def test_who_waits_too_long_is_told_at_the_deadline_and_never_run(busy):
    batcher, counters = busy(0.5)
    batcher._cost._line = (0.0, 0.0)  # nothing is known of the model: everybody is admitted
    first = ask(batcher)
    late = ask(batcher, 0.05, value=7.0)
    with pytest.raises(DeadlineExceededError, match="still waiting at its deadline") as caught:
        await late
    assert not first.done()
    assert caught.value.http_status == 504
    await first
    await soon(lambda: not batcher.busy)
    assert batcher.caller.predict.seen == [[0.0]]
    assert counters.shed == {("waiting", "online"): 1}


async def test_who_is_late_while_the_model_runs_is_told_at_the_deadline(busy):
    batcher, counters = busy(0.4)
    late = ask(batcher, 0.05)
    with pytest.raises(DeadlineExceededError, match="still running at its deadline"):
        await late
    assert batcher.busy  # the model is not free before it has ended
    await soon(lambda: not batcher.busy)
    assert counters.shed == {("running", "online"): 1}


async def test_what_expired_before_the_thread_came_to_it_is_not_run(busy):
    batcher, counters = busy(0.0)
    expired = batcher.submit(ONE, WANTED, time.monotonic() - 1.0)
    with pytest.raises(DeadlineExceededError):
        await expired
    assert batcher.caller.predict.seen == []
    assert counters.shed == {("waiting", "online"): 1}


async def test_what_expired_on_the_event_loop_is_not_run():
    model, counters = Slow(), Counters()
    batcher = Batcher(model, SIGNATURE, ModelRules(), ref="m:1", inline=True, inline_seconds=1, counters=counters)
    late, early = batcher.submit(ONE, WANTED, time.monotonic() - 1.0), ask(batcher, value=3.0)
    with pytest.raises(DeadlineExceededError):
        await late
    assert (await early)["predict"].tolist() == [3.0]
    assert model.seen == [[3.0]]


async def test_what_is_refused_is_never_run_however_much_is_asked():
    model, counters = Slow(0.01), Counters()
    batcher = Batcher(
        model, SIGNATURE, ModelRules(max_batch_rows=1), ref="m:1", inline=False, inline_seconds=1, counters=counters
    )
    asking = []
    for number in range(300):
        asking.append(ask(batcher, 0.25, value=float(number)))
        await asyncio.sleep(0.001)
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    await asyncio.to_thread(batcher.close)
    kinds = Counter(type(outcome) for outcome in outcomes)
    assert kinds[OverloadedError] > 0
    assert set(kinds) <= {dict, OverloadedError, DeadlineExceededError}
    assert sum(counters.shed.values()) == kinds[OverloadedError] + kinds[DeadlineExceededError]
    run = {row for rows in model.seen for row in rows}
    refused = {float(number) for number, outcome in enumerate(outcomes) if isinstance(outcome, OverloadedError)}
    assert not run & refused
    assert batcher.waiting == 0


async def test_company_is_awaited_off_the_event_loop(busy):
    model = Slow()
    batcher = Batcher(
        model, SIGNATURE, ModelRules(max_batch_rows=3, max_batch_delay_seconds=30), ref="m:1", inline=False,
        inline_seconds=1, counters=Counters(),
    )  # fmt: skip
    first = ask(batcher, value=1.0)
    await asyncio.sleep(0.02)
    await asyncio.gather(first, ask(batcher, value=2.0), ask(batcher, value=3.0))
    assert model.seen == [[1.0, 2.0, 3.0]]
    batcher.close()

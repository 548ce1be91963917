"""The second level: whatever the server does, the caller gets a true answer or none, and does not wait."""

import asyncio
import logging
import struct

import pytest

from crossfade.core.breaker import BreakerState
from crossfade.errors import CacheUnavailableError
from crossfade.serving.shared_answers import FAILURES, OVERHEAD_BYTES, REST_SECONDS, SharedAnswers
from crossfade.storage.cache.memory import MemoryCache
from tests.storage.support import FakeTime
from tests.traffic.support import Clock

SECRET = b"s" * 32
TTL = 60.0


class FragileCache(MemoryCache):
    """A cache that a test can break."""

    def __init__(self):
        super().__init__(2**20, 2**20)
        self.error = None
        self.writes_fail = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.calls = 0
        self.closed = False

    async def _meet(self, *, writing=False):
        self.calls += 1
        await self.gate.wait()
        if self.error is not None or (writing and self.writes_fail):
            raise self.error or CacheUnavailableError(problem="it is full")

    async def get(self, key):
        await self._meet()
        return await super().get(key)

    async def set(self, key, value, ttl_seconds):
        await self._meet(writing=True)
        await super().set(key, value, ttl_seconds)

    async def delete(self, prefix):
        await self._meet()
        await super().delete(prefix)

    async def close(self):
        self.closed = True


@pytest.fixture
async def cache():
    return FragileCache()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def time():
    return FakeTime()


@pytest.fixture
async def shared(cache, clock, time):
    return SharedAnswers(cache, SECRET, TTL, clock=clock, monotonic=time)


async def kept(shared, key="key", frame=b"frame"):
    shared.keep(key, frame)
    await asyncio.gather(*shared._writing)


async def stored(cache, key="key"):
    return await MemoryCache.get(cache, key)


# --- answers ---


async def test_what_one_process_keeps_another_finds(cache, shared, clock, time):
    await kept(shared)
    other = SharedAnswers(cache, SECRET, TTL, clock=clock, monotonic=time)
    assert await other.find("key") == (b"frame", TTL)
    assert await other.find("other") is None
    assert len(await stored(cache)) == len(b"frame") + OVERHEAD_BYTES


async def test_an_answer_does_not_get_younger_by_being_shared(shared, clock):
    await kept(shared)
    clock.advance(45.0)
    assert (await shared.find("key")).seconds == 15.0
    clock.advance(15.0)
    assert await shared.find("key") is None


async def test_a_clock_that_is_behind_keeps_nothing_for_longer(shared, clock):
    await kept(shared)
    clock.advance(-1000.0)
    assert (await shared.find("key")).seconds == TTL


# --- seals ---


async def test_without_the_secret_nobody_makes_an_answer(cache, shared, clock):
    foreign = SharedAnswers(cache, b"t" * 32, TTL, clock=clock)
    await kept(foreign)
    assert await shared.find("key") is None
    assert shared.problems["damaged"] == 1


async def test_an_answer_moved_to_another_question_is_none(cache, shared):
    await kept(shared, "m:1.0.0/0/a", b"frame")
    await MemoryCache.set(cache, "m:1.0.0/0/b", await stored(cache, "m:1.0.0/0/a"), TTL)
    assert await shared.find("m:1.0.0/0/b") is None
    assert await shared.find("m:1.0.0/0/a") is not None


async def test_every_damaged_byte_is_noticed(cache, shared):
    await kept(shared)
    whole = await stored(cache)
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        await MemoryCache.set(cache, "key", bytes(damaged), TTL)
        assert await shared.find("key") is None
    for length in range(1, len(whole)):
        await MemoryCache.set(cache, "key", whole[:length], TTL)
        assert await shared.find("key") is None
    assert shared.problems["damaged"] == 2 * len(whole) - 1
    assert shared.breakers["read"].state is BreakerState.CLOSED, "the server answers, after all"


async def test_a_life_cannot_be_prolonged(cache, shared):
    await kept(shared)
    whole = await stored(cache)
    await MemoryCache.set(cache, "key", whole[:16] + struct.pack("<d", 1e12) + whole[24:], TTL)
    assert await shared.find("key") is None


# --- failures ---


@pytest.mark.parametrize("error", [CacheUnavailableError(problem="gone"), TypeError("a bug of the client")])
async def test_failures_are_misses_until_nobody_asks_any_more(cache, shared, error, caplog):
    cache.error = error
    with caplog.at_level(logging.INFO):
        for _ in range(FAILURES + 10):
            assert await shared.find("key") is None
    assert cache.calls == FAILURES
    assert shared.problems["read"] == FAILURES
    assert shared.breakers["read"].state is BreakerState.OPEN
    assert [record.levelname for record in caplog.records] == ["WARNING"], "one line, not one per request"


async def test_after_a_rest_one_question_finds_out_whether_it_is_back(cache, shared, time, caplog):
    cache.error = CacheUnavailableError(problem="gone")
    for _ in range(FAILURES):
        await shared.find("key")
    time.now += REST_SECONDS
    for _ in range(3):
        await shared.find("key")
    assert cache.calls == FAILURES + 1
    cache.error = None
    time.now += REST_SECONDS
    await kept(shared)
    with caplog.at_level(logging.INFO):
        assert (await shared.find("key")).frame == b"frame"
    assert shared.breakers["read"].state is BreakerState.CLOSED
    assert "answers again" in caplog.text


async def test_a_full_server_is_still_read(cache, shared):
    await kept(shared)
    cache.writes_fail = True
    for number in range(FAILURES + 5):
        await kept(shared, f"key{number}")
    assert shared.problems["write"] == FAILURES
    assert shared.breakers["write"].state is BreakerState.OPEN
    assert shared.breakers["read"].state is BreakerState.CLOSED
    assert shared.trouble() == [
        "the shared cache is not used for writes: it failed, and is tried again from time to time"
    ]
    assert (await shared.find("key")).frame == b"frame"


async def test_writing_never_waits_and_never_piles_up(cache, shared):
    cache.gate.clear()
    for number in range(200):
        shared.keep(f"key{number}", b"frame")
    assert len(shared._writing) == 64
    assert shared.problems["dropped"] == 136
    cache.gate.set()
    await shared.close()
    assert cache.closed
    assert cache.usage().entries == 64


async def test_forgetting_deletes_and_failing_to_is_no_error(cache, shared):
    await kept(shared, "m:1.0.0/0/a")
    await kept(shared, "m:1.0.0/1/a")
    await shared.forget("m:1.0.0/0/")
    assert await shared.find("m:1.0.0/0/a") is None
    assert await shared.find("m:1.0.0/1/a") is not None
    cache.error = CacheUnavailableError(problem="gone")
    await shared.forget("m:1.0.0/1/")
    assert shared.problems["write"] == 1

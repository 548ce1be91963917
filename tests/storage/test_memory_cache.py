"""The cache in memory: what makes room, how much it really takes."""

import gc
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.storage.cache.memory import ENTRY_BYTES, MemoryCache
from tests.storage.support import FakeTime

LONG = 60.0


def room_for(entries, value_bytes=100):
    return MemoryCache(entries * (ENTRY_BYTES + 1 + value_bytes), 2**20, monotonic=FakeTime())


async def test_what_was_used_least_recently_makes_room():
    cache = room_for(3)
    for key in "abc":
        await cache.set(key, b"x" * 100, LONG)
    assert await cache.get("a")
    await cache.set("d", b"x" * 100, LONG)
    assert [key for key in "abcd" if await cache.get(key) is None] == ["b"]
    assert cache.usage().evictions == 1


async def test_one_large_value_takes_the_place_of_several():
    cache = room_for(4)
    for key in "abcd":
        await cache.set(key, b"x" * 100, LONG)
    await cache.set("e", b"x" * 200, LONG)
    assert [key for key in "abcde" if await cache.get(key)] == ["c", "d", "e"]


async def test_replacing_and_ending_are_no_evictions():
    time = FakeTime()
    cache = MemoryCache(10_000, 10_000, monotonic=time)
    await cache.set("a", b"1", LONG)
    await cache.set("a", b"22", 1.0)
    time.now += 1.0
    assert await cache.get("a") is None
    assert cache.usage().evictions == 0
    assert (cache.usage().entries, cache.usage().size_bytes) == (0, 0)


async def test_a_value_larger_than_everything_is_not_kept_and_costs_nobody_a_place():
    cache = MemoryCache(1000, 10_000, monotonic=FakeTime())
    await cache.set("a", b"x", LONG)
    await cache.set("b", b"x" * 1000, LONG)
    assert await cache.get("a") == b"x"
    assert await cache.get("b") is None


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 3000), st.floats(0.1, 5), st.floats(0, 2)), max_size=80
    )
)
async def test_the_bound_always_holds_and_nothing_is_ever_wrong(steps):
    time = FakeTime()
    cache = MemoryCache(5000, 2000, monotonic=time)
    newest = {}
    for key, size, ttl, pause in steps:
        value = bytes([size % 256]) * size
        await cache.set(key, value, ttl)
        newest[key] = (value, time.now + ttl)
        time.now += pause
        assert cache.usage().size_bytes <= 5000
        for name, (wanted, ends_at) in newest.items():
            found = await cache.get(name)
            assert found is None or (found == wanted and time.now < ends_at)
    usage = cache.usage()
    await cache.delete("")
    assert cache.usage().size_bytes == 0
    assert usage.entries <= 8


@pytest.mark.parametrize("value_bytes", [70, 500, 10_000])
async def test_the_memory_really_taken_is_within_the_bound(value_bytes):
    bound = 4 * 2**20
    cache = MemoryCache(bound, bound)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(2 * bound // (value_bytes + ENTRY_BYTES)):
            await cache.set(f"lead_scoring:2.1.0/17/{number:064d}", bytes([number % 256]) * value_bytes, LONG)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert cache.usage().evictions > 0
    assert 0.5 * bound < taken < 1.1 * bound

"""The specification of a cache: inherit from `CacheContract` and provide an empty one.

Example:
    >>> class TestMyCache(CacheContract):  # doctest: +SKIP
    ...     @pytest.fixture
    ...     async def cache(self):
    ...         cache = MyCache(max_value_bytes=self.max_value_bytes)
    ...         yield cache
    ...         await cache.close()
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod

import pytest

from crossfade.storage.cache.port import Cache

LONG = 60.0
"""Seconds that no test takes."""
KEYS = ("a", "m:1.0.0/0/ab", "*", "m:1.0.0/[a-z]?\\*", "\u00fcber \n\x00", "k" * 1000)
"""Keys that mean something to servers, patterns and terminals."""


class CacheContract:
    """Tests that every cache passes."""

    max_value_bytes = 2**16
    """What the cache was opened with: larger values are not kept."""

    @pytest.fixture
    @abstractmethod
    async def cache(self) -> Cache:
        """Return an empty cache."""
        raise NotImplementedError

    async def wait(self, seconds: float) -> None:
        """Let time pass for the cache; a cache with a clock of its own moves that instead."""
        await asyncio.sleep(seconds)

    # --- values ---

    async def test_what_was_never_set_is_not_there(self, cache: Cache) -> None:
        """A miss is None, not an error."""
        assert await cache.get("nothing") is None

    @pytest.mark.parametrize("value", [b"\x00", b"text", bytes(range(256)), b"x" * 2**16], ids=len)
    async def test_a_value_comes_back_byte_for_byte(self, cache: Cache, value: bytes) -> None:
        """Up to the largest size that is kept."""
        await cache.set("key", value, LONG)
        assert await cache.get("key") == value
        assert await cache.get("key") == value, "reading takes nothing away"

    @pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
    async def test_any_text_is_a_key(self, cache: Cache, key: str) -> None:
        """And each key is its own."""
        for other in KEYS:
            await cache.set(other, b"other", LONG)
        await cache.set(key, b"value", LONG)
        assert [await cache.get(name) for name in KEYS] == [b"value" if name == key else b"other" for name in KEYS]

    async def test_setting_again_replaces(self, cache: Cache) -> None:
        """The last value counts, shorter or longer."""
        for value in (b"first", b"second, longer", b"3"):
            await cache.set("key", value, LONG)
            assert await cache.get("key") == value

    async def test_a_value_that_is_too_large_is_not_kept(self, cache: Cache) -> None:
        """It also ends the value that it would have replaced."""
        await cache.set("key", b"small", LONG)
        await cache.set("key", b"x" * (self.max_value_bytes + 1), LONG)
        assert await cache.get("key") is None

    async def test_calls_at_the_same_time_do_not_mix(self, cache: Cache) -> None:
        """Every caller gets the answer to its own question."""
        names = [f"key {number}" for number in range(200)]
        await asyncio.gather(*(cache.set(name, name.encode(), LONG) for name in names[:100]))
        found = await asyncio.gather(*(cache.get(name) for name in names))
        assert found == [name.encode() for name in names[:100]] + [None] * 100

    # --- time ---

    async def test_a_value_ends_with_its_time(self, cache: Cache) -> None:
        """Not before, and not with the time of another one."""
        await cache.set("short", b"1", 0.2)
        await cache.set("long", b"2", LONG)
        assert await cache.get("short") == b"1"
        await self.wait(0.3)
        assert await cache.get("short") is None
        assert await cache.get("long") == b"2"

    async def test_setting_again_sets_the_time_anew(self, cache: Cache) -> None:
        """Longer or shorter."""
        await cache.set("longer", b"1", 0.2)
        await cache.set("longer", b"2", LONG)
        await cache.set("shorter", b"1", LONG)
        await cache.set("shorter", b"2", 0.2)
        await self.wait(0.3)
        assert await cache.get("longer") == b"2"
        assert await cache.get("shorter") is None

    # --- deleting ---

    async def test_deleting_takes_what_begins_so_and_nothing_else(self, cache: Cache) -> None:
        """`m:1.0.1/` is not `m:1.0.10/`."""
        names = ("m:1.0.1/0/a", "m:1.0.1/0/b", "m:1.0.1/1/a", "m:1.0.10/0/a", "m", "am:1.0.1/0/a")
        for name in names:
            await cache.set(name, b"value", LONG)
        await cache.delete("m:1.0.1/0/")
        assert [name for name in names if await cache.get(name) is None] == ["m:1.0.1/0/a", "m:1.0.1/0/b"]

    @pytest.mark.parametrize("prefix", ["*", "[a-c]", "?", "\\", "a*b"])
    async def test_a_prefix_is_no_pattern(self, cache: Cache, prefix: str) -> None:
        """Characters that mean something elsewhere mean themselves."""
        await cache.set("abc", b"stays", LONG)
        await cache.set(f"{prefix}abc", b"goes", LONG)
        await cache.delete(prefix)
        assert await cache.get("abc") == b"stays"
        assert await cache.get(f"{prefix}abc") is None

    async def test_deleting_many_takes_all(self, cache: Cache) -> None:
        """More than a server tells at once."""
        await asyncio.gather(*(cache.set(f"many/{number}", b"x", LONG) for number in range(3000)))
        await cache.set("one", b"x", LONG)
        await cache.delete("many/")
        assert await asyncio.gather(*(cache.get(f"many/{number}") for number in range(3000))) == [None] * 3000
        assert await cache.get("one") == b"x"

    async def test_deleting_nothing_is_fine(self, cache: Cache) -> None:
        """There need not be such a key."""
        await cache.delete("nothing")

    # --- usage ---

    async def test_usage_tells_what_is_in_this_process(self, cache: Cache) -> None:
        """A cache that lives elsewhere has nothing here; one in memory counts at least its values."""
        await cache.set("key", b"x" * 1000, LONG)
        usage = cache.usage()
        assert usage.entries in (0, 1)
        assert (usage.size_bytes >= 1000) == bool(usage.entries)
        await cache.delete("")
        assert cache.usage().size_bytes == 0

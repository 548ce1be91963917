"""Redis that is slow, gone, full or filled by somebody else: an error within the timeout, and never a wrong value."""

import asyncio
import contextlib
import time

import pytest
from pydantic import SecretStr
from redis import Redis

from crossfade.errors import CacheUnavailableError
from crossfade.settings import CacheSettings, Settings
from crossfade.storage.cache.redis import PREFIX, RedisCache
from tests import servers

LONG = 60.0
SECONDS = 0.2


@contextlib.asynccontextmanager
async def opened(url, seconds=SECONDS, max_bytes=2**20):
    chosen = CacheSettings(redis_url=SecretStr(url), redis_timeout_seconds=seconds, max_bytes=max_bytes)
    cache = RedisCache.from_url(url, Settings(cache=chosen))
    try:
        yield cache
    finally:
        await cache.close()


@contextlib.asynccontextmanager
async def strange_server(answer):
    """A TCP server that is not Redis; yields its URL."""
    handling = set()

    async def handle(reader, writer):
        handling.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while await reader.read(4096):
                await answer(writer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()
        for task in handling:
            task.cancel()


async def fill(cache):
    for number in range(1000):
        await cache.set(f"key{number}", b"x" * 50_000, LONG)


async def refused(cache):
    """Fail unless get and set are refused, quickly; return what is said."""
    said = []
    for call in (cache.get("key"), cache.set("key", b"value", LONG)):
        started = time.monotonic()
        with pytest.raises(CacheUnavailableError) as caught:
            await call
        assert time.monotonic() - started < 5 * SECONDS
        said.append(caught.value.message)
    return said


async def test_nobody_there():
    async with opened(f"redis://:s3cret@127.0.0.1:{servers.free_port()}/0") as cache:
        for message in await refused(cache):
            assert "the response cache does not answer" in message
            assert "s3cret" not in message
        with pytest.raises(CacheUnavailableError):
            await cache.delete("key")


async def test_a_server_that_never_answers():
    async def silence(_):
        await asyncio.sleep(30)

    async with strange_server(silence) as url, opened(url) as cache:
        for message in await refused(cache):
            assert "took too long" in message


@pytest.mark.parametrize("nonsense", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 100, b"$-2\r\n", b"*-9\r\n", b""])
async def test_a_server_that_talks_nonsense(nonsense):
    async def talk(writer):
        writer.write(nonsense)
        await writer.drain()
        writer.close()

    async with strange_server(talk) as url, opened(url) as cache:
        await refused(cache)


async def test_the_event_loop_goes_on_while_the_server_is_silent():
    ticks = 0

    async def silence(_):
        await asyncio.sleep(30)

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    async with strange_server(silence) as url, opened(url) as cache:
        ticking = asyncio.create_task(tick())
        with pytest.raises(CacheUnavailableError):
            await cache.get("key")
        ticking.cancel()
    assert ticks > 5


async def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(redis_url):
    """A stopped server answers everything at once when it goes on."""
    with Redis.from_url(redis_url) as admin:
        async with opened(redis_url, seconds=0.6) as cache:
            await asyncio.gather(*(cache.set(f"key{n}", b"%d" % n, LONG) for n in range(20)))
            admin.execute_command("CLIENT", "PAUSE", "1500", "ALL")
            failed = await asyncio.gather(*(cache.get(f"key{n}") for n in range(20)), return_exceptions=True)
            assert all(isinstance(error, CacheUnavailableError) for error in failed)
            await asyncio.sleep(1.7)
            found = await asyncio.gather(*(cache.get(f"key{n}") for n in range(20)))
    assert found == [b"%d" % n for n in range(20)]


async def test_a_full_server_refuses_to_store_and_still_finds():
    with servers.redis("--maxmemory", "3mb", "--maxmemory-policy", "noeviction") as url:
        async with opened(url) as cache:
            await cache.set("first", b"x", LONG)
            with pytest.raises(CacheUnavailableError, match="maxmemory"):
                await fill(cache)
            assert await cache.get("first") == b"x"


async def test_a_server_that_went_away_and_came_back(redis_url):
    with Redis.from_url(redis_url) as admin:
        async with opened(redis_url) as cache:
            await cache.set("key", b"value", LONG)
            admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            with contextlib.suppress(CacheUnavailableError):  # it may notice only now
                await cache.get("key")
            assert await cache.get("key") == b"value"


async def test_what_somebody_else_put_there_is_bounded(redis_url):
    with Redis.from_url(redis_url) as admin:
        admin.set(f"{PREFIX}huge", b"x" * 50_000_000)
        admin.rpush(f"{PREFIX}list", "a")
        admin.set("key", "of another application")
        async with opened(redis_url, seconds=2.0) as cache:
            assert await cache.get("huge") is None
            with pytest.raises(CacheUnavailableError, match="wrong kind"):
                await cache.get("list")
            assert await cache.get("key") is None
            await cache.delete("")
        assert admin.keys() == [b"key"]


async def test_values_end_in_the_server_too(redis_url):
    with Redis.from_url(redis_url) as admin:
        async with opened(redis_url) as cache:
            await cache.set("key", b"value", 12.5)
            assert 11_000 < admin.pttl(f"{PREFIX}key") <= 12_500
            await cache.set("key", b"value", 0.0001)
            await asyncio.sleep(0.01)
            assert await cache.get("key") is None

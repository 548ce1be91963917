"""A cache in a Redis server (or one that speaks like it), shared by several processes. Redis lets its values expire."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from crossfade.errors import CacheUnavailableError, SettingsError
from crossfade.settings import Settings
from crossfade.storage.cache.port import CacheUsage

PREFIX = "crossfade:"
"""Of all keys, so that other applications may use the same database."""
_CONNECTIONS = 16
_DELETED_AT_ONCE = 1000
_PATTERN_CHARACTERS = re.compile(r"([*?\[\]\\])")


class RedisCache:
    """Values under `crossfade:<key>`. Nothing is tried twice: whoever asks can compute instead.

    Args:
        client: Does not decode answers.
        max_value_bytes: Of one value; a larger one in the server is not even transferred.
        timeout_seconds: For a whole get or set, connecting included.
    """

    def __init__(self, client: Redis, max_value_bytes: int, timeout_seconds: float) -> None:
        self._client = client
        self._max_value_bytes = max_value_bytes
        self._timeout_seconds = timeout_seconds

    @classmethod
    def from_url(cls, url: str, settings: Settings) -> Self:
        """Prepare a client; the server is contacted by the first call.

        Raises:
            SettingsError: The URL is not one of Redis.
        """
        seconds = settings.cache.redis_timeout_seconds
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=_CONNECTIONS,
                timeout=seconds,
                socket_timeout=seconds,
                socket_connect_timeout=seconds,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:  # its text may quote the URL, which may hold a password
            raise SettingsError(field="cache.redis_url", problem="it is not a URL of Redis") from error
        return cls(Redis.from_pool(pool), settings.cache.max_value_bytes, seconds)

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None when there is none or it is too large."""
        with _translated():
            async with asyncio.timeout(self._timeout_seconds):
                # GETRANGE, because GET would transfer whatever size somebody put there
                value = cast("bytes", await self._client.getrange(PREFIX + key, 0, self._max_value_bytes))
        return value if 0 < len(value) <= self._max_value_bytes else None

    async def set(self, key: str, value: bytes, ttl_seconds: float) -> None:
        """Keep a value, unless it is too large."""
        with _translated():
            async with asyncio.timeout(self._timeout_seconds):
                if len(value) <= self._max_value_bytes:
                    await self._client.set(PREFIX + key, value, px=max(1, round(ttl_seconds * 1000)))
                else:
                    await self._client.unlink(PREFIX + key)

    async def delete(self, prefix: str) -> None:
        """Drop every value whose key begins so. It looks at every key of the server, a piece at a time."""
        pattern = _PATTERN_CHARACTERS.sub(r"\\\1", PREFIX + prefix) + "*"
        with _translated():
            cursor = 0
            while True:
                cursor, keys = await self._client.scan(cursor, match=pattern, count=_DELETED_AT_ONCE)
                if keys:
                    await self._client.unlink(*keys)
                if not cursor:
                    return

    def usage(self) -> CacheUsage:
        """Return that nothing of it is in this process."""
        return CacheUsage()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
        await self._client.connection_pool.disconnect()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise CacheUnavailableError(problem="it took too long") from error
    except (RedisError, OSError) as error:
        raise CacheUnavailableError(problem=str(error)[:200] or type(error).__name__) from error

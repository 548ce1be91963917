"""What a cache promises. `crossfade.testing.cache` is the specification that every backend passes."""

from __future__ import annotations

from typing import Protocol

import msgspec


class CacheUsage(msgspec.Struct, frozen=True):
    """What of a cache is in this process: nothing when it lives elsewhere.

    Args:
        entries: Values, expired ones included until something takes their place.
        size_bytes: Memory charged to them.
        evictions: Values that made room for others since the cache was opened.
    """

    entries: int = 0
    size_bytes: int = 0
    evictions: int = 0


class Cache(Protocol):
    """Values that may be gone at any time. All methods are called on one event loop, and none of them blocks it.

    A value larger than `CacheSettings.max_value_bytes` is neither kept nor returned. Every coroutine may raise
    `CacheUnavailableError`: the cache does not answer, or refuses.
    """

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None when there is none or its time is over."""

    async def set(self, key: str, value: bytes, ttl_seconds: float) -> None:
        """Keep a value, which is not empty, for so many seconds at most; it replaces an earlier one."""

    async def delete(self, prefix: str) -> None:
        """Drop every value whose key begins so."""

    def usage(self) -> CacheUsage:
        """Return what of the cache is in this process."""

    async def close(self) -> None:
        """Release connections. The cache cannot be used afterwards."""

"""A cache in the memory of this process, bounded in bytes: what was used least recently makes room."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Self

from crossfade.settings import Settings
from crossfade.storage.cache.port import CacheUsage

ENTRY_BYTES = 320
"""What an entry takes besides the characters of its key and the bytes of its value (measured, CPython 3.11)."""


class MemoryCache:
    """Least recently used values make room; a value ends when its time is over.

    Args:
        max_bytes: Of all entries, keys and bookkeeping included.
        max_value_bytes: Of one value.
        monotonic: The clock.
    """

    def __init__(
        self, max_bytes: int, max_value_bytes: int, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_bytes = max_bytes
        self._max_value_bytes = max_value_bytes
        self._monotonic = monotonic
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._size_bytes = 0
        self._evictions = 0

    @classmethod
    def from_url(cls, url: str, settings: Settings) -> Self:  # noqa: ARG003 - there is one memory
        """Open a new, empty cache."""
        return cls(settings.cache.max_bytes, settings.cache.max_value_bytes)

    async def get(self, key: str) -> bytes | None:
        """Return the value, and keep it longer than those that nobody asks for."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        value, ends_at = entry
        if self._monotonic() >= ends_at:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return value

    async def set(self, key: str, value: bytes, ttl_seconds: float) -> None:
        """Keep a value; others make room."""
        self._drop(key)
        size = _size(key, value)
        if len(value) > self._max_value_bytes or size > self._max_bytes:
            return
        while self._size_bytes + size > self._max_bytes:
            self._drop(next(iter(self._entries)))
            self._evictions += 1
        self._entries[key] = (value, self._monotonic() + ttl_seconds)
        self._size_bytes += size

    async def delete(self, prefix: str) -> None:
        """Drop every value whose key begins so."""
        for key in [key for key in self._entries if key.startswith(prefix)]:
            self._drop(key)

    def usage(self) -> CacheUsage:
        """Return how full it is."""
        return CacheUsage(len(self._entries), self._size_bytes, self._evictions)

    async def close(self) -> None:
        """Forget everything."""
        await self.delete("")

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size_bytes -= _size(key, entry[0])


def _size(key: str, value: bytes) -> int:
    return ENTRY_BYTES + len(key) + len(value)

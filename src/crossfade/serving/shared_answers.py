"""`SharedAnswers`: the second level of the response cache, in a server that may be slow, full, gone or hostile.

Nobody waits for it longer than its timeout, and while it fails nobody waits at all: a breaker each for reading and for
writing, because a full server still reads. What comes back is believed only with a seal that nobody makes without the
deployment's secret: over the key, so that no value answers another question, and over the end of its life.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import struct
import time
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

from crossfade.core.breaker import Breaker, BreakerState
from crossfade.core.clock import Clock, utc_now
from crossfade.errors import CacheUnavailableError
from crossfade.storage.cache.port import Cache

_log = logging.getLogger(__name__)

_PURPOSE = b"crossfade-answer"
_SEAL_BYTES = 16
_HEAD = struct.Struct("<d")
"""When the answer ends, in seconds since 1970."""
OVERHEAD_BYTES = _SEAL_BYTES + _HEAD.size
FAILURES = 5
"""In a row, then nobody waits any more."""
REST_SECONDS = 5.0
_WRITES_AT_ONCE = 64


class Found(NamedTuple):
    """An answer, and for how many more seconds it may be given."""

    frame: bytes
    seconds: float


class SharedAnswers:
    """Finds and keeps frames in a shared cache; nothing that happens there reaches the caller.

    Args:
        cache: The server.
        secret: Of the deployment.
        ttl_seconds: How long an answer may be given.
        clock: Processes on several machines compare its times.
        monotonic: For the breakers.

    Attributes:
        breakers: For `read` and for `write`.
        problems: What went wrong how often: `read`, `write`, `damaged`, `dropped` (written too many at once).
    """

    def __init__(
        self,
        cache: Cache,
        secret: bytes,
        ttl_seconds: float,
        *,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.breakers = {
            operation: Breaker(failures=FAILURES, rest_seconds=REST_SECONDS, monotonic=monotonic)
            for operation in ("read", "write")
        }
        self.problems: Counter[str] = Counter(read=0, write=0, damaged=0, dropped=0)
        self._cache = cache
        self._seal = blake2b(key=secret, digest_size=_SEAL_BYTES, person=_PURPOSE)
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._writing: set[asyncio.Task[None]] = set()

    def trouble(self) -> list[str]:
        """Say which operations are given up for the moment; nothing while all work."""
        return [
            f"the shared cache is not used for {operation}s: it failed, and is tried again from time to time"
            for operation, breaker in self.breakers.items()
            if breaker.state is not BreakerState.CLOSED
        ]

    async def find(self, key: str) -> Found | None:
        """Return an answer that one of the processes has kept, or None."""
        if not self.breakers["read"].allows():
            return None
        try:
            value = await self._cache.get(key)
        except Exception as error:  # noqa: BLE001 - fail open: an answer can always be computed
            self._failed("read", error)
            return None
        self._succeeded("read")
        return None if value is None else self._opened(key, value)

    def keep(self, key: str, frame: bytes) -> None:
        """Send an answer there while nobody waits for it."""
        if not self.breakers["write"].allows():
            return
        if len(self._writing) >= _WRITES_AT_ONCE:
            self.problems["dropped"] += 1
            return
        task = asyncio.create_task(self._write(key, self._sealed(key, frame)))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def forget(self, prefix: str) -> None:
        """Delete answers there, to save space; nobody finds them any more anyway."""
        try:
            await self._cache.delete(prefix)
        except Exception as error:  # noqa: BLE001 - they end by themselves
            self._failed("write", error)

    async def close(self) -> None:
        """Finish what is being written, and release the connections."""
        await asyncio.gather(*self._writing)
        await self._cache.close()

    async def _write(self, key: str, value: bytes) -> None:
        try:
            await self._cache.set(key, value, self._ttl_seconds)
        except Exception as error:  # noqa: BLE001 - fail open
            self._failed("write", error)
        else:
            self._succeeded("write")

    def _sealed(self, key: str, frame: bytes) -> bytes:
        body = _HEAD.pack(self._clock().timestamp() + self._ttl_seconds) + frame
        return self._tag(key, body) + body

    def _opened(self, key: str, value: bytes) -> Found | None:
        seal, body = value[:_SEAL_BYTES], value[_SEAL_BYTES:]
        if len(body) < _HEAD.size or not hmac.compare_digest(seal, self._tag(key, body)):
            self.problems["damaged"] += 1
            return None
        seconds = _HEAD.unpack_from(body)[0] - self._clock().timestamp()
        return Found(body[_HEAD.size :], min(seconds, self._ttl_seconds)) if seconds > 0 else None

    def _tag(self, key: str, body: bytes) -> bytes:
        state = self._seal.copy()
        state.update(struct.pack("<Q", len(key)) + key.encode())
        state.update(body)
        return state.digest()

    def _succeeded(self, operation: str) -> None:
        breaker = self.breakers[operation]
        if breaker.state is not BreakerState.CLOSED:
            _log.info("the shared cache answers again (%s)", operation)
        breaker.succeed()

    def _failed(self, operation: str, error: Exception) -> None:
        self.problems[operation] += 1
        breaker = self.breakers[operation]
        before = breaker.state
        breaker.fail()
        if before is BreakerState.CLOSED and breaker.state is BreakerState.OPEN:
            deliberate = isinstance(error, CacheUnavailableError)
            _log.warning("the shared cache is left alone (%s): %s", operation, error, exc_info=not deliberate)

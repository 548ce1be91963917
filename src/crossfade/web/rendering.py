"""`Rendering`: text that takes a thread a while to make is made once for all who ask meanwhile, and not all the time.

Dozens of scrapers, or one that asks again and again without reading, would otherwise take the interpreter from
predictions: threads that compute make the event loop wait for milliseconds whenever it wakes up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import Context

REST = 9.0
"""After a rendering, the next one waits so many times as long as it took: it has a tenth of the time at most."""


class Rendering:
    """Renders for callers on one event loop. Each gets what was read after it asked.

    Args:
        render: Makes the text, on a thread.

    Example:
        >>> async def ask_twice():
        ...     rendering = Rendering(lambda: b"crossfade_up 1")
        ...     return await asyncio.gather(rendering(), rendering())
        >>> asyncio.run(ask_twice())
        [b'crossfade_up 1', b'crossfade_up 1']
    """

    def __init__(self, render: Callable[[], bytes]) -> None:
        self._render = render
        self._next: asyncio.Task[bytes] | None = None
        self._turn = asyncio.Lock()
        self._rests_until = 0.0

    async def __call__(self) -> bytes:
        """Return the text of the next rendering."""
        if self._next is None:
            self._next = asyncio.create_task(self._render_soon(), context=Context())  # it belongs to no request
        return await asyncio.shield(self._next)

    async def _render_soon(self) -> bytes:
        async with self._turn:
            await asyncio.sleep(self._rests_until - time.monotonic())
            self._next = None  # whoever asks from now on wants to know of what happens from now on
            began = time.monotonic()
            try:
                return await asyncio.to_thread(self._render)
            finally:
                ended = time.monotonic()
                self._rests_until = ended + REST * (ended - began)

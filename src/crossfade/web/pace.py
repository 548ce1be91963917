"""`Pace`: how slowly an upload may arrive before it has to make room for others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from crossfade.errors import UploadTooSlowError

SLOWEST_BYTES_PER_SECOND = 16 * 2**10
_FIRST_SECONDS = 10.0


class Pace:
    """The patience with one upload: waiting for its bytes spends it, and every byte that arrives earns some back.

    A deadline for each piece would not do: a byte now and then would keep a place for ever. Only the time spent waiting
    for the client counts, so that nobody is cut because the store is slow.

    Args:
        longest_pause_seconds: The most patience that a client can have earned.
    """

    def __init__(self, longest_pause_seconds: float) -> None:
        self._most = longest_pause_seconds
        self._seconds = min(_FIRST_SECONDS, longest_pause_seconds)

    async def next_piece(self, stream: AsyncIterator[bytes]) -> bytes | None:
        """Return the next piece, None at the end.

        Raises:
            UploadTooSlowError: The patience is at its end.
        """
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._seconds):
                piece = await anext(stream, None)
        except TimeoutError as error:
            raise UploadTooSlowError(limit_bytes=SLOWEST_BYTES_PER_SECOND) from error
        earned = len(piece or b"") / SLOWEST_BYTES_PER_SECOND
        self._seconds = min(self._most, self._seconds - (time.monotonic() - began) + earned)
        return piece

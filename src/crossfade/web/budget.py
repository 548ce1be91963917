"""`BodyBudget`: how many bytes of large request bodies a process holds at a time, over all connections."""

from __future__ import annotations

import asyncio

from crossfade.errors import BodiesBusyError
from crossfade.settings import HttpSettings

SMALL_BODY_BYTES = 64 * 2**10
"""Bodies up to here are not counted: so many may wait in every connection before anybody reads them, and most
predictions are smaller, so that they are answered however many large bodies there are."""


ARRIVING_BYTES = 32 * 2**20
"""Bodies that are not complete may hold so much together (or one of the largest). More would be a gift to clients that
send slowly, or without end; bodies that are complete are bounded by `http.max_inflight_body_bytes`."""


class Arrival:
    """A body that is not complete yet.

    Args:
        patience: What ends the wait for it.

    Attributes:
        size: Bytes so far.
        evicted: Whether it had to make room.
    """

    __slots__ = ("_patience", "evicted", "size")

    def __init__(self, patience: asyncio.Timeout) -> None:
        self.size = 0
        self.evicted = False
        self._patience = patience

    def evict(self) -> None:
        """End the wait now."""
        self.evicted = True
        self._patience.reschedule(asyncio.get_running_loop().time())


class BodyBudget:
    """Counts the bytes of large bodies, from their arrival until their request is answered.

    It is a plain integer, because only the event loop counts. Whoever grew a body releases it, whatever happens.

    Args:
        settings: The limits; one body of the largest size always fits.

    Attributes:
        held_bytes: Of large bodies.
        arriving_bytes: Of bodies that come in pieces and are not complete.

    Example:
        >>> budget = BodyBudget(HttpSettings())
        >>> budget.grow(0, 100_000)
        >>> budget.grow(100_000, 300_000)
        >>> budget.held_bytes
        300000
        >>> budget.release(300_000)
        >>> budget.held_bytes
        0
    """

    def __init__(self, settings: HttpSettings) -> None:
        self.limit_bytes = max(settings.max_inflight_body_bytes, settings.max_body_bytes)
        self.held_bytes = 0
        self._arriving_limit = max(ARRIVING_BYTES, settings.max_body_bytes)
        self.arriving_bytes = 0
        self._arrivals: dict[Arrival, None] = {}

    def begin(self, patience: asyncio.Timeout) -> Arrival:
        """Note that a body begins to arrive in pieces; whoever does so ends it."""
        arrival = Arrival(patience)
        self._arrivals[arrival] = None
        return arrival

    def arrive(self, arrival: Arrival, size: int) -> None:
        """Count a piece of a body. The bodies that have been arriving for the longest time make room if need be.

        Raises:
            BodiesBusyError: There is no room for it; it is not counted.
        """
        self.grow(arrival.size, arrival.size + size)
        arrival.size += size
        self.arriving_bytes += size
        while self.arriving_bytes > self._arriving_limit:
            self._evict(next(iter(self._arrivals)))

    def end(self, arrival: Arrival) -> None:
        """Note that a body is complete, or that nobody waits for it any more; its bytes still count as held."""
        if arrival in self._arrivals:
            del self._arrivals[arrival]
            self.arriving_bytes -= arrival.size

    def _evict(self, arrival: Arrival) -> None:
        self.end(arrival)
        arrival.evict()

    def grow(self, before: int, after: int) -> None:
        """Count that a body of `before` bytes has now `after`.

        Raises:
            BodiesBusyError: There is no room for it; it still counts as `before`.
        """
        held = self.held_bytes + _counted(after) - _counted(before)
        if held > self.limit_bytes:
            raise BodiesBusyError(limit_bytes=self.limit_bytes)
        self.held_bytes = held

    def release(self, size: int) -> None:
        """Forget a body of `size` bytes."""
        if size > SMALL_BODY_BYTES:
            self.held_bytes -= size


def _counted(size: int) -> int:
    return size if size > SMALL_BODY_BYTES else 0

"""`BodyBudget`: how many bytes of large request bodies a process holds at a time, over all connections."""

from __future__ import annotations

from crossfade.errors import BodiesBusyError
from crossfade.settings import HttpSettings

SMALL_BODY_BYTES = 64 * 2**10
"""Bodies up to here are not counted: so many may wait in every connection before anybody reads them, and most
predictions are smaller, so that they are answered however many large bodies there are."""


class BodyBudget:
    """Counts the bytes of large bodies, from their arrival until their request is answered.

    It is a plain integer, because only the event loop counts. Whoever grew a body releases it, whatever happens.

    Args:
        settings: The limits; one body of the largest size always fits.

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

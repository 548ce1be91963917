"""`Quota`: how many requests a second a model answers in one process, as a bucket of tokens.

Source: the generic cell rate algorithm of ITU-T I.371 in its form as a leaky bucket, read the other way round: time
fills the bucket, and requests empty it.
"""

from __future__ import annotations

import math

_LONGEST_SECONDS = 86_400
"""That anybody is told to wait."""
_HAIR = 1e-9
"""Of a token: who comes exactly when told to is not turned away for a rounding error."""


class Quota:
    """Counts the requests of one model. Plain numbers, because only the event loop counts.

    The bucket holds what a second brings, but one token at least, and is full at first: so many may come at once.

    Args:
        per_second: How many; any positive number, 0.1 is one in ten seconds.

    Example:
        >>> quota = Quota(2.0)
        >>> [quota.take(now) for now in (100.0, 100.0, 100.0, 100.5)]
        [0, 0, 1, 0]
    """

    __slots__ = ("_at", "_most", "_tokens", "per_second")

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._most = max(1.0, per_second)
        self._tokens = self._most
        self._at = -math.inf

    def take(self, now: float) -> int:
        """Take a token at `now`, by any steady clock.

        Returns:
            0, or in how many whole seconds there will be one when there is none.
        """
        self._tokens = min(self._most, self._tokens + max(0.0, now - self._at) * self.per_second)
        self._at = max(now, self._at)
        missing = 1.0 - self._tokens - _HAIR
        if missing <= 0:
            self._tokens -= 1.0
            return 0
        return max(1, math.ceil(min(missing / self.per_second, _LONGEST_SECONDS)))

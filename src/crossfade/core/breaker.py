"""`Breaker`: stops asking something that keeps failing, and finds out by single probes when it is back.

closed (everything passes) -> open, after failures in a row -> half open (one probe) -> closed, or open again.

Source: M. Nygard, Release It! (2nd ed., 2018), chapter 5, "Circuit Breaker".
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum


class BreakerState(StrEnum):
    """What a breaker lets through: everything, nothing, or one probe."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """One for each thing that can fail on its own; use it from one thread.

    Args:
        failures: How many in a row open it.
        rest_seconds: How long nothing passes then.
        monotonic: The clock.

    Example:
        >>> breaker = Breaker(failures=1, rest_seconds=5.0)
        >>> breaker.fail()
        >>> breaker.allows(), breaker.state.value
        (False, 'open')
    """

    def __init__(self, *, failures: int, rest_seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.state = BreakerState.CLOSED
        self._limit = failures
        self._rest_seconds = rest_seconds
        self._monotonic = monotonic
        self._failures = 0
        self._probe_at = 0.0

    def allows(self) -> bool:
        """Tell whether to try now. After a rest the answer is yes once: that try is the probe."""
        if self.state is BreakerState.CLOSED:
            return True
        now = self._monotonic()
        if now < self._probe_at:
            return False
        self.state = BreakerState.HALF_OPEN
        self._probe_at = now + self._rest_seconds  # a probe that never reports is followed by another one
        return True

    def succeed(self) -> None:
        """Report a success: everything passes again."""
        self._failures = 0
        self.state = BreakerState.CLOSED

    def fail(self) -> None:
        """Report a failure."""
        self._failures += 1
        if self._failures >= self._limit:
            self.state = BreakerState.OPEN
            self._probe_at = self._monotonic() + self._rest_seconds

"""How many replicas there shall be: a pure function of how busy they are, and the memory that keeps it from flapping.

Load is measured in replicas: two that are busy half of their time are a load of one. More are started when even 10 %
above the target is not enough, and some are ended when those that stay would be 10 % below it. Between the two nothing
changes, so that a load that swings by 5 % around any value leads to one number, and stays there.

Source: the horizontal pod autoscaler of Kubernetes, its tolerance and its stabilization windows
(https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/).
"""

from __future__ import annotations

import math
from collections import deque

TOLERANCE = 0.1
UP_SECONDS = 10.0
"""More are started only when all measurements of so many seconds asked for it."""
DOWN_SECONDS = 120.0
"""Some are ended only when all measurements of so many seconds asked for it; also since the last change."""


def desired_replicas(count: int, load: float, target: float, least: int, most: int) -> int:
    """Return how many replicas a load asks for.

    Args:
        count: How many there are.
        load: How many of them the work would keep busy all the time.
        target: Fraction of their time that they shall be busy, between 0 and 1.
        least, most: Whatever the load.

    Example:
        >>> desired_replicas(2, load=1.9, target=0.7, least=1, most=8)
        3
        >>> desired_replicas(3, load=1.9, target=0.7, least=1, most=8)
        3
    """
    if not math.isfinite(load):
        return min(max(count, least), most)
    wanted = max(0.0, load) / target
    enough = math.ceil(wanted)
    fewer = math.ceil(wanted / (1.0 - TOLERANCE))
    if wanted > count * (1.0 + TOLERANCE):
        count = enough
    elif fewer < count:
        count = fewer
    return min(max(count, least), most)


class Scaler:
    """Remembers what measurements asked for, and acts when they agree for long enough.

    Args:
        up_seconds, down_seconds: How long.

    Example:
        >>> scaler = Scaler()
        >>> [scaler.advise(now, 1, load=0.9, target=0.7, least=1, most=4) for now in (0.0, 5.0, 10.0)]
        [1, 1, 2]
    """

    def __init__(self, up_seconds: float = UP_SECONDS, down_seconds: float = DOWN_SECONDS) -> None:
        self._up_seconds = up_seconds
        self._down_seconds = down_seconds
        self._asked: deque[tuple[float, int]] = deque()
        self._since = -math.inf

    def advise(self, now: float, count: int, *, load: float, target: float, least: int, most: int) -> int:
        """Take a measurement, and return how many replicas there shall be; see `desired_replicas`.

        Args:
            now: On a clock that never goes back.
            count: How many there are to be so far.
        """
        if count < least or count > most:  # somebody has changed their mind: that is not a measurement
            self.forget()
            return min(max(count, least), most)
        if self._since == -math.inf:
            self._since = now
        self._asked.append((now, desired_replicas(count, load, target, least, most)))
        while self._asked[0][0] < now - max(self._up_seconds, self._down_seconds):
            self._asked.popleft()
        more = min(self._asked_for(now, self._up_seconds), default=count)
        fewer = max(self._asked_for(now, self._down_seconds), default=count)
        advice = more if more > count else min(fewer, count)
        if advice != count:
            self.forget()
        return advice

    def forget(self) -> None:
        """Begin anew, because what was measured was measured of other replicas."""
        self._asked.clear()
        self._since = -math.inf

    def _asked_for(self, now: float, seconds: float) -> list[int]:
        """Return what was asked for in the last seconds; nothing when measuring has not taken so long yet."""
        return [asked for at, asked in self._asked if at >= now - seconds] if now - self._since >= seconds else []

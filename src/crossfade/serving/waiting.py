"""`WaitingLine`: requests that wait for a model which is busy, and in which order they are taken.

Online requests go before batch jobs, and those before shadows. Within a priority the oldest goes first, until more
waits than two batches can take: then the newest goes first, because under overload the oldest are lost anyway, and
serving them in turn would make everybody late. What is too late is never run.

Source: adaptive LIFO (Maurer, Fail at Scale, ACM Queue 13(8), 2015, https://doi.org/10.1145/2838344.2839461).
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from enum import IntEnum

from crossfade.core.tensors import Tensors, row_count
from crossfade.serving.tracing import CURRENT

_LIFO_BATCHES = 2


def _one() -> int:
    """Tell that nobody else takes."""
    return 1


def _never() -> bool:
    """Tell that nobody stops."""
    return False


class Priority(IntEnum):
    """Who goes first, and who is turned away first (the last)."""

    ONLINE = 0
    BATCH = 1
    SHADOW = 2


class Request:
    """One request on its way through a model.

    Attributes:
        deadline: When its answer is of no use any more, on the monotonic clock.
        arrived_at: When it was given to the model, on the same clock.
        future: What its client waits for.
        trace: Where its call is noted, or None.
    """

    __slots__ = ("arrived_at", "deadline", "future", "priority", "rows", "tensors", "trace", "wanted")

    def __init__(
        self,
        tensors: Tensors,
        wanted: frozenset[str],
        future: asyncio.Future[Tensors],
        deadline: float,
        priority: Priority,
    ) -> None:
        self.tensors = tensors
        self.wanted = wanted
        self.rows = row_count(tensors)
        self.future = future
        self.deadline = deadline
        self.priority = priority
        self.arrived_at = time.monotonic()
        self.trace = CURRENT.get()


class WaitingLine:
    """Filled on the event loop, emptied by one thread or several.

    Args:
        max_rows: Rows of one batch; a single request may have more.
        max_delay_seconds: How long the first request of an incomplete batch waits for company.
    """

    def __init__(self, max_rows: int, max_delay_seconds: float = 0.0) -> None:
        self.max_rows = max_rows
        self._max_delay = max_delay_seconds
        self._lines: tuple[deque[Request], ...] = tuple(deque() for _ in Priority)
        self._rows = [0] * len(Priority)
        self._taken: dict[object, int] = {}
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        """Return how many requests wait."""
        return sum(map(len, self._lines))

    def rows_before(self, priority: Priority) -> int:
        """Return how many rows go before a new request of this priority, those of the batches taken last included."""
        return sum(self._taken.copy().values()) + sum(self._rows[: priority + 1])

    def put(self, request: Request) -> None:
        """Add a request at the end of the line."""
        with self._changed:
            self._lines[request.priority].append(request)
            self._rows[request.priority] += request.rows
            self._changed.notify()

    def put_back(self, requests: list[Request], *, taker: object = None) -> None:
        """Undo a `take`: the requests go first again."""
        with self._changed:
            self._taken.pop(taker, None)
            for request in reversed(requests):
                self._lines[request.priority].appendleft(request)
                self._rows[request.priority] += request.rows
            self._changed.notify()

    def close(self) -> None:
        """Let `take` return what is there, and then nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wake(self) -> None:
        """Let everybody who waits in `take` look whether they shall stop."""
        with self._changed:
            self._changed.notify_all()

    def take(
        self,
        estimate: Callable[[int], float],
        *,
        taker: object = None,
        sharers: Callable[[], int] = _one,
        until: float = math.inf,
        stopped: Callable[[], bool] = _never,
    ) -> list[Request]:
        """Wait until somebody is there, and remove who goes next together.

        Args:
            estimate: rows -> seconds that a batch of them takes: a batch grows only while everybody in it is still
                answered in time.
            taker: Who takes: what it took before is done.
            sharers: How many take, when there is something. Each gets its share of what waits, so that none is idle
                while another has much.
            until: When waiting ends, on the monotonic clock.
            stopped: Ends waiting, too, as soon as it is true and `wake` has been called.

        Returns:
            At least one request, whether or not it is too late by now; nothing once the line is closed and empty, or
            when waiting ended before.
        """
        with self._changed:
            self._taken.pop(taker, None)
            batch: list[Request] = []
            while not batch and self._is_there(until, stopped):
                if self._max_delay and not self._closed:
                    self._await_company()
                share = math.ceil(sum(self._rows) / max(1, sharers()))
                batch = self._next_batch(estimate, time.monotonic(), max(1, min(self.max_rows, share)))
            if batch:
                self._taken[taker] = sum(request.rows for request in batch)
            return batch

    def _is_there(self, until: float, stopped: Callable[[], bool]) -> bool:
        """Wait until somebody is there; tells whether that is so."""
        while not stopped():
            if self:
                return True
            left = None if until == math.inf else until - time.monotonic()
            if self._closed or (left is not None and left <= 0):
                return False
            self._changed.wait(left)
        return False

    def remove_expired(self, now: float) -> list[Request]:
        """Remove and return the requests whose deadline has passed."""
        expired: list[Request] = []
        with self._changed:
            for priority, line in enumerate(self._lines):
                late = [request for request in line if request.deadline <= now]
                if late:
                    expired += late
                    self._rows[priority] -= sum(request.rows for request in late)
                    kept = [request for request in line if request.deadline > now]
                    line.clear()
                    line.extend(kept)
        return expired

    def _await_company(self) -> None:
        until = min(request.arrived_at for line in self._lines for request in line) + self._max_delay
        while sum(self._rows) < self.max_rows and not self._closed:
            left = until - time.monotonic()
            if left <= 0 or not self._changed.wait(left):
                return

    def _next_batch(self, estimate: Callable[[int], float], now: float, max_rows: int) -> list[Request]:
        batch: list[Request] = []
        rows, deadline = 0, float("inf")
        for priority, line in enumerate(self._lines):
            newest_first = min(self._rows[priority] / self.max_rows, len(line)) > _LIFO_BATCHES
            while line:
                request = line[-1] if newest_first else line[0]
                late = request.deadline <= now
                together = rows + request.rows
                sooner = min(deadline, request.deadline)
                if rows and not late and (together > max_rows or now + estimate(together) > sooner):
                    return batch
                line.pop() if newest_first else line.popleft()
                self._rows[priority] -= request.rows
                batch.append(request)
                if not late:
                    rows, deadline = together, sooner
        return batch

"""`Courier`: brings events to one channel on a thread of its own, again when that fails, and keeps nobody waiting."""

from __future__ import annotations

import heapq
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple, Protocol

from crossfade.errors import CrossfadeError
from crossfade.notifications.event import Event

_log = logging.getLogger(__name__)

MAX_WAITING = 1_000
"""Events that wait for one channel; what comes beyond is dropped."""
ATTEMPTS = 6
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


class Result(StrEnum):
    """What became of an event."""

    SENT = "sent"
    FAILED = "failed"
    """Every attempt failed, or another one makes no sense."""
    DROPPED = "dropped"
    """Too many waited, or the process ended."""


Done = Callable[[Result, str], None]
"""Told what became of an event, and the problem; on the courier's thread."""


class Channel(Protocol):
    """What can tell somebody of an event."""

    def send(self, event: Event) -> None:
        """Do so.

        Raises:
            CrossfadeError: It did not work; where its fact `again` is false, it never will.
        """


class _Errand(NamedTuple):
    due: float
    number: int
    attempt: int
    event: Event
    done: Done | None


class Courier:
    """One for each channel, so that one that hangs delays no other.

    Args:
        name: Of the channel.
        channel: Where to.
        monotonic: The clock.
        chance: A number from 0 to 1, to spread attempts.

    Attributes:
        counts: How many events, by what became of them; only what is over counts.
    """

    def __init__(
        self,
        name: str,
        channel: Channel,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.counts = Counter(dict.fromkeys(Result, 0))
        self._name = name
        self._channel = channel
        self._monotonic = monotonic
        self._chance = chance
        self._waiting: list[_Errand] = []
        self._number = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._ending = False

    def bring(self, event: Event, done: Done | None = None) -> None:
        """Take an event over; returns at once."""
        with self._changed:
            if not self._ending and len(self._waiting) < MAX_WAITING:
                self._number += 1
                heapq.heappush(self._waiting, _Errand(self._monotonic(), self._number, 1, event, done))
                self._start()
                self._changed.notify()
                return
        self._finish(event, done, Result.DROPPED, "too many events wait")

    def turn(self) -> float | None:
        """Make the attempts that are due; return the seconds until the next one, None when nothing waits."""
        while True:
            with self._changed:
                if not self._waiting or self._ending:
                    return None
                left = self._waiting[0].due - self._monotonic()
                if left > 0:
                    return left
                errand = heapq.heappop(self._waiting)
            self._attempt(errand)

    def close(self, timeout: float = 6.0) -> None:
        """Finish the attempt that is under way; what still waits is dropped."""
        with self._changed:
            self._ending = True
            left, self._waiting = self._waiting, []
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout)
        for errand in left:
            self._finish(errand.event, errand.done, Result.DROPPED, "the process ended")

    def _attempt(self, errand: _Errand) -> None:
        try:
            self._channel.send(errand.event)
        except CrossfadeError as error:
            self._again(errand, str(error), possible=error.facts.get("again", False) is True)
        except Exception as error:  # noqa: BLE001 - a bug that one event meets must not end the channel
            _log.exception("the channel `%s` failed", self._name)
            self._finish(errand.event, errand.done, Result.FAILED, type(error).__name__)
        else:
            self._finish(errand.event, errand.done, Result.SENT, "")

    def _again(self, errand: _Errand, problem: str, *, possible: bool) -> None:
        pause = min(_FIRST_PAUSE * 2 ** (errand.attempt - 1), _LONGEST_PAUSE) * (0.5 + self._chance())
        with self._changed:
            if possible and errand.attempt < ATTEMPTS and not self._ending:
                later = errand._replace(due=self._monotonic() + pause, attempt=errand.attempt + 1)
                heapq.heappush(self._waiting, later)
                return
        self._finish(errand.event, errand.done, Result.FAILED, problem)

    def _finish(self, event: Event, done: Done | None, result: Result, problem: str) -> None:
        with self._changed:
            self.counts[result] += 1
        if result is not Result.SENT:
            _log.warning("`%s` of %s was not told to `%s`: %s", event.kind, event.subject, self._name, problem)
        if done is not None:
            done(result, problem)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"crossfade-tell-{self._name}", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            pause = self.turn()
            with self._changed:
                if self._ending:
                    return
                due = not self._waiting or self._waiting[0].due > self._monotonic()
                if due:
                    self._changed.wait(pause)

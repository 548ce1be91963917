"""`Retired`: what slots answered with before it was exchanged for something else, until nobody uses it any more.

How a ready version runs can become another while it answers: what is new is opened, verified and warmed beside what is
there, then the batcher is exchanged, in one assignment. A request that has the former one is answered by it, every
later one by the new one; the slot, its leases and its counts go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from crossfade.serving.batching import Batcher

_GRACE_SECONDS = 1.0
"""A request may have looked at the former batcher just before the exchange, and hand itself over after it."""


class Apart(Protocol):
    """A model that runs outside of this process.

    Attributes:
        on_given_up: Called when it is not tried any more.
    """

    on_given_up: Callable[[], None]

    @property
    def given_up(self) -> str:
        """Why it is not tried any more, in words; empty while it is."""

    @property
    def size_bytes(self) -> int:
        """Its memory."""

    def kill(self) -> None:
        """End it; whoever waits for an answer gets an error."""

    def close(self) -> None:
        """End it, and let go of everything. Nobody may be waiting for an answer."""


class Engine(NamedTuple):
    """What a version answers with.

    Attributes:
        batcher: What requests are given to.
        apart: What it calls, when that is outside of this process.
        size_bytes: Memory charged to it.
    """

    batcher: Batcher
    apart: Apart | None
    size_bytes: int = 0

    def close(self) -> None:
        """End its threads and processes."""
        if self.apart is not None:
            self.apart.kill()  # first: a thread may wait for it
        self.batcher.close()
        if self.apart is not None:
            self.apart.close()


class Retired:
    """Former engines of ready slots.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._engines: list[tuple[Engine, float]] = []

    @property
    def pending(self) -> bool:
        """Whether some are not closed yet."""
        return bool(self._engines)

    @property
    def size_bytes(self) -> int:
        """Memory charged to them."""
        return sum(engine.size_bytes for engine, _ in self._engines)

    def add(self, engine: Engine) -> None:
        """Close one as soon as nobody uses it."""
        self._engines.append((engine, self._clock() + _GRACE_SECONDS))

    def clear(self, *, at_once: bool = False) -> None:
        """Close those that nobody uses, or all of them."""
        kept = []
        for engine, after in self._engines:
            if at_once or (self._clock() >= after and not engine.batcher.busy):
                engine.close()
            else:
                kept.append((engine, after))
        self._engines = kept

"""Requests at a fixed rate from a thread of its own, whatever becomes of the ones before, and what came back."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from typing import Self

import uvloop

from benchmarks.load import http_request
from tests.stress.overload import Connection

_LAST_SECONDS = 2.0


class SteadyLoad:
    """Asks one model, in the background, for as long as the `with` block lasts.

    Args:
        port: Of the server on this machine.
        path: What is asked.
        body_of: The body of the request with this number.
        rate: Requests a second.

    Attributes:
        sent: How many.
        results: (status, seconds) of each answer.
    """

    def __init__(self, port: int, path: str, body_of: Callable[[int], bytes], rate: float) -> None:
        self.results: list[tuple[bytes, float]] = []
        self.sent = 0
        self._port = port
        self._path = path
        self._body_of = body_of
        self._rate = rate
        self._ending = False
        self._thread = threading.Thread(target=lambda: uvloop.run(self._run()))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        idle: list[Connection] = []
        start = loop.time()
        while not self._ending:
            if not idle:
                idle.append((await loop.create_connection(lambda: Connection(idle, self.results), port=self._port))[1])
            idle.pop().send(http_request(self._port, self._path, self._body_of(self.sent)))
            self.sent += 1
            await asyncio.sleep(max(0.0, start + self.sent / self._rate - loop.time()))
        patience = loop.time() + _LAST_SECONDS
        while len(self.results) < self.sent and loop.time() < patience:  # noqa: ASYNC110 - they come one by one
            await asyncio.sleep(0.02)
        for connection in idle:
            connection.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        self._thread.join()

    @property
    def failures(self) -> int:
        """Requests that got no answer, or another one than 200."""
        return self.sent - Counter(status for status, _ in self.results)[b"200"]

    @property
    def p99_seconds(self) -> float:
        """The 99th percentile of all answers."""
        latencies = sorted(latency for _, latency in self.results)
        return latencies[int(0.99 * (len(latencies) - 1))] if latencies else 0.0

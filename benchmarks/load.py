"""A small HTTP load generator: raw bytes over keep-alive connections, one request in flight on each.

`run_load` is a closed loop: a connection asks again when it has its answer, so the server is never idle. `run_paced` is
an open one: requests are due at random moments at a mean rate, whatever becomes of those before.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle, repeat

import uvloop


@dataclass(frozen=True)
class Load:
    """What came back: when each request was due (`time.perf_counter`), how many seconds after that its answer was
    there, and how many answers were not 200."""

    errors: int
    seconds: float
    due: list[float]
    latencies: list[float]

    @property
    def requests(self) -> int:
        return len(self.latencies)

    def quantile(self, q: float) -> float:
        return quantile(self.latencies, q)


def quantile(values: list[float], q: float) -> float:
    return statistics.quantiles(values, n=1000, method="inclusive")[round(q * 1000) - 1]


def _is_whole(head: bytes, body: bytes) -> bool:
    """Tell whether an answer has arrived; `head` in lower case."""
    _, declared, rest = head.partition(b"content-length:")
    if declared:
        return len(body) >= int(rest.split(b"\r\n", 1)[0])
    return body.endswith(b"0\r\n\r\n")  # the last of its chunks


class _Connection(asyncio.Protocol):
    """Sends one request after the other, and calls `answered` with itself and the time after each answer."""

    def __init__(self, requests: Iterator[bytes], answered: Callable[[_Connection, float], None]) -> None:
        self.requests = requests
        self.answered = answered
        self.due: list[float] = []
        self.latencies: list[float] = []
        self.errors = 0
        self.buffer = b""
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport) -> None:
        self.transport = transport

    def send(self, due: float) -> None:
        self.due.append(due)
        self.transport.write(next(self.requests))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, separator, body = self.buffer.partition(b"\r\n\r\n")
        if not separator or not _is_whole(head.lower(), body):
            return
        now = time.perf_counter()
        self.latencies.append(now - self.due[-1])
        self.errors += not head.startswith(b"HTTP/1.1 200")
        self.buffer = b""
        self.answered(self, now)

    def connection_lost(self, _: Exception | None) -> None:
        if len(self.due) > len(self.latencies):  # it asked, and never got its answer
            self.due.pop()
            self.errors += 1
        if not self.ended.done():
            self.ended.set_result(None)


def http_request(port: int, path: str, body: bytes, headers: str = "") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{headers}\r\n"
    )
    return head.encode() + body


def run_load(port: int, *requests: bytes, connections: int = 32, seconds: float = 4.0) -> Load:
    """Send the requests in turn, over and over and on all connections together, for that long."""

    async def go() -> Load:
        started = time.perf_counter()

        def again(connection: _Connection, now: float) -> None:
            if now < started + seconds:
                connection.send(now)
            else:
                connection.transport.close()

        opened = await _open(port, cycle(requests), connections, again)
        for connection in opened:
            connection.send(time.perf_counter())
        return await _gathered(opened, started)

    return uvloop.run(go())


def run_paced(port: int, request: bytes, *, rate: float, connections: int = 32, seconds: float = 4.0) -> Load:
    """Send `request` at random moments (a Poisson process), `rate` times a second, for that long.

    A request that finds every connection busy waits for one, and its latency counts from when it was due. The loop
    stands on `select`, whose timers are exact to microseconds; others are a millisecond coarse, longer than an answer.
    """

    async def go() -> Load:
        idle: deque[_Connection] = deque()
        waiting: deque[float] = deque()
        ending = False

        def next_one(connection: _Connection, _: float) -> None:
            if waiting:
                connection.send(waiting.popleft())
            elif ending:
                connection.transport.close()
            else:
                idle.append(connection)

        opened = await _open(port, repeat(request), connections, next_one)
        idle.extend(opened)
        gaps = random.Random(7)
        started = due = time.perf_counter()
        while due < started + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if idle:
                idle.popleft().send(due)
            else:
                waiting.append(due)
            due += gaps.expovariate(rate)
        ending = True
        for connection in idle:
            connection.transport.close()
        return await _gathered(opened, started)

    exact = partial(asyncio.SelectorEventLoop, selectors.SelectSelector())
    with asyncio.Runner(loop_factory=exact) as runner:
        return runner.run(go())


async def _open(port: int, requests: Iterator[bytes], count: int, answered: Callable[[_Connection, float], None]):
    loop = asyncio.get_running_loop()
    return [
        (await loop.create_connection(lambda: _Connection(requests, answered), "127.0.0.1", port))[1]
        for _ in range(count)
    ]


async def _gathered(opened: list[_Connection], started: float) -> Load:
    await asyncio.gather(*(connection.ended for connection in opened))
    return Load(
        sum(connection.errors for connection in opened),
        time.perf_counter() - started,
        [due for connection in opened for due in connection.due],
        [latency for connection in opened for latency in connection.latencies],
    )

"""Three and ten times the load that a server can bear: what is answered is answered in time, the rest is refused early.

The model sleeps for each row, so that its capacity is known and the load generator has a processor to itself.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import uvloop

import crossfade
from benchmarks.load import http_request, run_load

DEADLINE_SECONDS = 0.25
ROW_SECONDS = 0.005
PATH = "/v2/models/busy/infer"
BODY = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP64","data":[1.0,2.0]}]}'


class Steady(crossfade.Model):
    """Takes the same time for every row."""

    def predict(self, inputs):
        time.sleep(ROW_SECONDS * len(inputs["x"]))
        return np.array([float(sum(row)) for row in inputs["x"]])

    def required_inputs(self):
        return (crossfade.TensorSpec("x", "FP64", (-1, 2)),)


@dataclass
class Overload:
    """What became of an open loop of requests.

    Attributes:
        load: How many times the capacity was asked for.
        goodput: Answers within the deadline, as a share of the capacity.
        p99_seconds: Of those that were answered.
    """

    load: float
    sent: int = 0
    answered: int = 0
    refused: int = 0
    goodput: float = 0.0
    p99_seconds: float = 0.0
    growth_bytes: int = 0
    violations: list[str] = field(default_factory=list)

    def judge(self) -> None:
        """Note what must not happen."""
        if self.load <= 3 and self.goodput < 0.9:
            self.violations.append(f"goodput at {self.load:g} times the capacity was {self.goodput:.0%} of it")
        if self.p99_seconds >= DEADLINE_SECONDS:
            self.violations.append(f"the 99th percentile of the served took {self.p99_seconds:.3f} s")
        if self.sent != self.answered + self.refused:
            self.violations.append(f"{self.sent - self.answered - self.refused} requests got no answer at all")
        if self.growth_bytes > 64 * 2**20:
            self.violations.append(f"memory grew by {self.growth_bytes} bytes")


class Connection(asyncio.Protocol):
    """Sends one request at a time, and hands the status and the time of its answer to a listener."""

    def __init__(self, pool: list[Connection], results: list[tuple[bytes, float]]) -> None:
        self._pool = pool
        self._results = results
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def send(self, request: bytes) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def close(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if separator and len(body) >= int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]):
            self._results.append((head[9:12], time.perf_counter() - self._sent_at))
            self._buffer = b""
            self._pool.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self in self._pool:
            self._pool.remove(self)


def overload(port: int, pid: int, *, load: float, capacity: float, seconds: float) -> Overload:
    """Ask for `load` times the capacity for some seconds, whatever comes back."""
    outcome = Overload(load)
    request = http_request(port, PATH, BODY, f"X-Request-Timeout-Ms: {DEADLINE_SECONDS * 1000:.0f}\r\n")
    before = resident_bytes(pid)
    results: list[tuple[bytes, float]] = []

    async def run() -> None:
        loop, idle = asyncio.get_running_loop(), []
        start = loop.time()
        while loop.time() < start + seconds:
            while outcome.sent < (loop.time() - start) * load * capacity:
                if not idle:
                    idle.append((await loop.create_connection(lambda: Connection(idle, results), "127.0.0.1", port))[1])
                idle.pop().send(request)
                outcome.sent += 1
            await asyncio.sleep(0.001)
        for _ in range(200):  # the last answers
            if len(results) >= outcome.sent:
                break
            await asyncio.sleep(0.01)

    uvloop.run(run())
    served = sorted(latency for status, latency in results if status == b"200")
    outcome.answered, outcome.refused = len(served), len(results) - len(served)
    in_time = sum(latency <= DEADLINE_SECONDS for latency in served)
    outcome.goodput = round(in_time / (capacity * seconds), 3)
    outcome.p99_seconds = round(served[int(0.99 * (len(served) - 1))], 4) if served else 0.0
    outcome.growth_bytes = max(0, resident_bytes(pid) - before)
    outcome.judge()
    return outcome


def capacity_of(port: int, seconds: float) -> float:
    """Return how many requests a second are answered when nobody asks for more."""
    load = run_load(port, http_request(port, PATH, BODY), connections=8, seconds=seconds)
    return load.requests / load.seconds


def resident_bytes(pid: int) -> int:
    """Return the memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")

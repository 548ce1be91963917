"""A small closed-loop HTTP load generator: raw bytes over keep-alive connections, one request in flight on each."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass

import uvloop


@dataclass(frozen=True)
class Load:
    """What came back: latencies in seconds, and how many answers were not 200."""

    requests: int
    errors: int
    seconds: float
    latencies: list[float]

    def quantile(self, q: float) -> float:
        return statistics.quantiles(self.latencies, n=1000, method="inclusive")[round(q * 1000) - 1]


def _is_whole(head: bytes, body: bytes) -> bool:
    """Tell whether an answer has arrived; `head` in lower case."""
    _, declared, rest = head.partition(b"content-length:")
    if declared:
        return len(body) >= int(rest.split(b"\r\n", 1)[0])
    return body.endswith(b"0\r\n\r\n")  # the last of its chunks


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes, deadline: float) -> None:
        self.request = request
        self.deadline = deadline
        self.latencies: list[float] = []
        self.errors = 0
        self.buffer = b""
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport) -> None:
        self.transport = transport
        self._send()

    def _send(self) -> None:
        self.sent_at = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, separator, body = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        if not _is_whole(head.lower(), body):
            return
        now = time.perf_counter()
        self.latencies.append(now - self.sent_at)
        self.errors += not head.startswith(b"HTTP/1.1 200")
        self.buffer = b""
        if now < self.deadline:
            self._send()
        else:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.errors += error is not None
        if not self.ended.done():
            self.ended.set_result(None)


def http_request(port: int, path: str, body: bytes, headers: str = "") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{headers}\r\n"
    )
    return head.encode() + body


def run_load(port: int, request: bytes, *, connections: int = 32, seconds: float = 4.0) -> Load:
    """Send `request` over and over on every connection for that long."""

    async def go() -> Load:
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        opened = [
            (await loop.create_connection(lambda: _Connection(request, started + seconds), "127.0.0.1", port))[1]
            for _ in range(connections)
        ]
        await asyncio.gather(*(connection.ended for connection in opened))
        latencies = [latency for connection in opened for latency in connection.latencies]
        errors = sum(connection.errors for connection in opened)
        return Load(len(latencies), errors, time.perf_counter() - started, latencies)

    return uvloop.run(go())

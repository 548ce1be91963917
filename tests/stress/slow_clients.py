"""Hundreds of clients that send slowly, nothing, or without end, beside clients that behave."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from tests.stress.overload import resident_bytes
from tests.stress.poisoned import neighbour

HEAD = b"POST /v2/models/neighbour/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
CHUNK = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
MOST_GROWTH_BYTES = 64 * 2**20


@dataclass
class Siege:
    """What became of a server and its good clients under siege.

    Attributes:
        clients: That misbehaved, at any one time.
        connections: They made, together.
    """

    clients: int
    connections: int = 0
    growth_bytes: int = 0
    requests: int = 0
    failures: int = 0
    p99_seconds: float = 0.0
    calm_p99_seconds: float = 0.0
    violations: list[str] = field(default_factory=list)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def half_a_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD)
    for letter in itertools.cycle(b"x-header: y\r\n"):
        writer.write(bytes([letter]))
        await writer.drain()
        await asyncio.sleep(0.5)


async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"Content-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.5)


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(CHUNK)
        await writer.drain()
        await asyncio.sleep(0.02)


async def reads_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for _ in range(1000):
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.2)


Kind = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
KINDS: tuple[Kind, ...] = (silent, half_a_head, drips, flood, reads_nothing)
BUSY = {flood, reads_nothing}
_BUSY = 10
"""Of each kind that costs work as well; more would only measure how much of it this machine can do."""


async def _siege(port: int, clients: int) -> int:
    """Misbehave until standard input ends; returns how many connections that took."""
    kinds = [KINDS[number % len(KINDS)] for number in range(clients)]
    for number, kind in enumerate(kinds):
        if kind in BUSY and kinds[:number].count(kind) >= _BUSY:
            kinds[number] = silent
    made = itertools.count()
    tasks = [asyncio.create_task(_misbehave(kind, port, made)) for kind in kinds]
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return next(made)


async def _misbehave(kind: Kind, port: int, made: Iterator[int]) -> None:
    """Connect again whenever the server has had enough."""
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            next(made)
            try:
                await kind(reader, writer)
            finally:
                writer.transport.abort()
        await asyncio.sleep(0.5)


@contextlib.contextmanager
def besiegers(port: int, clients: int) -> Iterator[subprocess.Popen[str]]:
    """Run the clients in a process of their own, so that they cost the good ones nothing but the server's attention."""
    command = [sys.executable, "-m", "tests.stress.slow_clients", str(port), str(clients)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.stdin.close()


def besiege(port: int, pid: int, *, clients: int, seconds: float) -> Siege:
    """Let clients misbehave for some seconds."""
    outcome = Siege(clients)
    with neighbour(port) as load:
        time.sleep(seconds / 4)
    outcome.calm_p99_seconds = round(load.p99_seconds, 5)
    before = resident_bytes(pid)
    with besiegers(port, clients) as process:
        time.sleep(2.0)  # until they are all there
        with neighbour(port) as load:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                outcome.growth_bytes = max(outcome.growth_bytes, resident_bytes(pid) - before)
                time.sleep(0.1)
        process.stdin.close()
        outcome.connections = int(process.stdout.read())
    outcome.requests, outcome.failures = load.sent, load.failures
    outcome.p99_seconds = round(load.p99_seconds, 5)
    if load.failures:
        outcome.violations.append(f"{load.failures} of {load.sent} requests of good clients failed")
    if outcome.growth_bytes > MOST_GROWTH_BYTES:
        outcome.violations.append(f"memory grew by {outcome.growth_bytes} bytes")
    return outcome


if __name__ == "__main__":
    print(asyncio.run(_siege(int(sys.argv[1]), int(sys.argv[2]))))

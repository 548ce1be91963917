"""`Traffic`: an open loop of HTTP requests from a process of its own, which needs little of the processors.

A client in the process that drives a campaign shares its interpreter, and falls behind long before the server does.

    python -m tests.stress.traffic URL RATE     asks until its input ends, then prints what came back
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from urllib.parse import urlsplit

import msgspec
import uvloop

from benchmarks.load import http_request
from tests.stress.open_loop import OpenLoop, Seen

PATIENCE_SECONDS = 20.0
_END_SECONDS = 60.0


class Traffic:
    """Asks `url` for predictions `rate` times a second while the block runs; yields what will have been seen then."""

    def __init__(self, url: str, rate: float) -> None:
        self._command = [sys.executable, "-m", "tests.stress.traffic", url, str(rate)]
        self._seen = Seen()

    def __enter__(self) -> Seen:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self._seen

    def __exit__(self, *_: object) -> None:
        printed, _ = self._process.communicate(timeout=_END_SECONDS)
        if self._process.returncode:
            raise RuntimeError(f"the traffic ended with {self._process.returncode}")
        found = msgspec.json.decode(printed)
        self._seen.versions.update(found["versions"])
        self._seen.failed += found["failed"]
        self._seen.mixed += found["mixed"]


class _Connection(asyncio.Protocol):
    """Carries one request at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._waiting: asyncio.Future[bytes] | None = None

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    async def ask(self, request: bytes) -> bytes:
        """Return the body of the answer.

        Raises:
            RuntimeError: Its status is not 200.
            ConnectionError: The server hung up.
            TimeoutError: It took too long.
        """
        self._buffer = b""
        self._waiting = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._waiting

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator or self._waiting is None or self._waiting.done():
            return
        if len(body) < int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]):
            return
        if head.startswith(b"HTTP/1.1 200"):
            self._waiting.set_result(body)
        else:
            self._waiting.set_exception(RuntimeError(f"{head[:12]!r}: {body[:300]!r}"))

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionError(f"the server hung up: {error}"))


class Asker:
    """Asks a server on this machine for predictions, over as many connections as there are requests at a time."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._port, self._path = place.port or 80, place.path
        self._idle: list[_Connection] = []

    async def ask(self, rows: list[float]) -> tuple[str, list[float]]:
        """Ask, and return who answered what."""
        data = [[row, row + 1.0] for row in rows]
        tensor = {"name": "x", "shape": [len(rows), 2], "datatype": "FP64", "data": data}
        body = msgspec.json.encode({"inputs": [tensor]})
        while self._idle and self._idle[-1].transport.is_closing():
            self._idle.pop()
        connection = self._idle.pop() if self._idle else await self._connect()
        answer = msgspec.json.decode(await connection.ask(http_request(self._port, self._path, body)))
        self._idle.append(connection)
        return answer["model_version"], answer["outputs"][0]["data"]

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, "127.0.0.1", self._port)
        return connection


async def _run(url: str, rate: float) -> Seen:
    loop = OpenLoop(Asker(url).ask, rate)

    async def end() -> None:
        await asyncio.to_thread(sys.stdin.buffer.read)
        loop.ending = True

    async with asyncio.TaskGroup() as both:
        both.create_task(end())
        both.create_task(loop.run())
    return loop.seen


if __name__ == "__main__":
    seen = uvloop.run(_run(sys.argv[1], float(sys.argv[2])))
    sys.stdout.buffer.write(msgspec.json.encode(seen))

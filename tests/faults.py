"""`FaultProxy`: a TCP connection that misbehaves in the ways that networks do, between our process and a real server.

The faults are those of Shopify's Toxiproxy: latency, bandwidth, slicing, timeout (nothing comes through any more),
reset, slow close; and `refuse`, where nobody listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit, urlunsplit

_CHUNK = 64 * 1024


@dataclass(frozen=True)
class Fault:
    """What happens to connections; by default nothing.

    Attributes:
        latency: Seconds before every chunk.
        bytes_per_second: At most; 0 = as fast as it goes.
        slice_bytes: Chunks of this size, a moment apart; 0 = as they come.
        stall: Nothing comes through, and nothing is closed.
        reset: Connections are reset when they are made, and those that exist at once.
        refuse: Nobody listens; connections that exist are reset.
        close_after: Seconds for which a connection that one side has closed stays open on the other.
    """

    latency: float = 0.0
    bytes_per_second: int = 0
    slice_bytes: int = 0
    stall: bool = False
    reset: bool = False
    refuse: bool = False
    close_after: float = 0.0


FAULTS = {
    "latency": Fault(latency=0.3),
    "bandwidth": Fault(bytes_per_second=2_000),
    "slicing": Fault(slice_bytes=3),
    "timeout": Fault(stall=True),
    "reset": Fault(reset=True),
    "slow_close": Fault(close_after=2.0),
    "refuse": Fault(refuse=True),
}


class FaultProxy:
    """Forwards to a server, as well or as badly as `fault` says; a context manager.

    Args:
        url: Of the server.

    Attributes:
        url: The same, by way of the proxy.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self._fault = Fault()
        self._listener = self._listen(0)
        self._port = self._listener.getsockname()[1]
        place = parts.netloc.rpartition("@")
        self.url = urlunsplit(parts._replace(netloc=f"{place[0]}{place[1]}127.0.0.1:{self._port}"))
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, sock=self._listener))
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def set(self, fault: Fault) -> None:
        """Misbehave like this from now on."""
        self._do(self._change(fault))

    def _do(self, work: Awaitable[object]):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    @staticmethod
    def _listen(port: int) -> socket.socket:
        return socket.create_server(("127.0.0.1", port), backlog=100)

    async def _change(self, fault: Fault) -> None:
        before, self._fault = self._fault, fault
        if fault.reset or fault.refuse:
            for writer in list(self._writers):
                _reset(writer)
        if fault.refuse and not before.refuse:
            self._server.close()
        elif before.refuse and not fault.refuse:
            self._server = await asyncio.start_server(self._serve, sock=self._listen(self._port))

    async def _stop(self) -> None:
        self._server.close()
        for writer in list(self._writers):
            _reset(writer)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._fault.reset:
            _reset(writer)
            return
        self._writers.add(writer)
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            self._writers.discard(writer)
            return
        self._writers.add(there_writer)
        try:
            await asyncio.gather(self._forward(reader, there_writer), self._forward(there_reader, writer))
        finally:
            self._writers -= {writer, there_writer}

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._send(data, writer)
        await asyncio.sleep(self._fault.close_after)
        writer.close()

    async def _send(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        while self._fault.stall:  # noqa: ASYNC110 - any fault may follow, at any time
            await asyncio.sleep(0.02)
        await asyncio.sleep(self._fault.latency)
        size = self._fault.slice_bytes or len(data)
        for start in range(0, len(data), size):
            part = data[start : start + size]
            if self._fault.bytes_per_second:
                await asyncio.sleep(len(part) / self._fault.bytes_per_second)
            writer.write(part)
            await writer.drain()
            if self._fault.slice_bytes:
                await asyncio.sleep(0)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close without a farewell: the other side gets a reset."""
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()

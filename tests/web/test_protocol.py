"""Which requests are answered as a whole, and how. What the protocol refuses is in `test_hostile.py`."""

from __future__ import annotations

import asyncio
import gc
import re
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.config import Config
from uvicorn.server import ServerState

from crossfade.settings import HttpSettings
from crossfade.web.budget import SMALL_BODY_BYTES
from crossfade.web.exchange import Answer, Request
from crossfade.web.protocol import guarded_protocol

POST = b"POST /own/1 HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\n"


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("127.0.0.1", 1), "peername": ("127.0.0.1", 2)})
        self.written: list[bytes] = []
        self.closing = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading

    @property
    def statuses(self) -> list[bytes]:
        return re.findall(rb"HTTP/1\.1 (\d+)", b"".join(self.written))


class Side:
    """Answers whole requests below `/own`, and is the ASGI application for all others."""

    def __init__(self, answer: Callable[[Request], Awaitable[bytes]] | None = None) -> None:
        self.whole: list[Request] = []
        self.asgi: list[tuple[str, bytes]] = []
        self._answer = answer

    def owns(self, path: str) -> bool:
        return path.startswith("/own")

    async def answer(self, request: Request) -> Answer:
        self.whole.append(request)
        body = request.path.encode() if self._answer is None else await self._answer(request)
        return Answer(body, 200, ((b"content-length", b"%d" % len(body)),))

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        self.asgi.append((scope["path"], body))
        text = b"asgi " + scope["path"].encode()
        await send({"type": "http.response.start", "status": 201, "headers": [(b"content-length", b"%d" % len(text))]})
        await send({"type": "http.response.body", "body": text})


def connect(side: Side, **given: Any) -> tuple[Any, Wire, ServerState]:
    config = Config(
        side.app,
        log_config=None,
        lifespan="off",
        timeout_keep_alive=5,
        limit_concurrency=10,
        interface="asgi3",
        proxy_headers=False,
    )
    config.load()
    state, wire = ServerState(), Wire()
    protocol: Any = guarded_protocol(HttpSettings(**given), side)
    connection = protocol(config, state, {})
    connection.connection_made(wire)
    return connection, wire, state


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_whole_request_is_answered_in_one_write():
    side = Side()
    connection, wire, state = connect(side)
    state.default_headers = [(b"date", b"today")]
    connection.data_received(b"POST /own/1?a=b%20c HTTP/1.1\r\nHost: here\r\nX-A: 1\r\nContent-Length: 5\r\n\r\nhello")
    await settle()
    assert wire.written == [b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 6\r\n\r\n/own/1"]
    request = side.whole[0]
    assert (request.method, request.path, request.query, request.body) == ("POST", "/own/1", b"a=b%20c", b"hello")
    assert request.headers == {b"host": b"here", b"x-a": b"1", b"content-length": b"5"}
    assert request.client == ("127.0.0.1", 2)
    assert not wire.closing
    assert not state.tasks
    assert state.total_requests == 1


async def test_a_body_may_come_in_the_next_packets():
    side = Side()
    connection, wire, _ = connect(side)
    for piece in (POST, b"he", b"llo"):
        connection.data_received(piece)
        await settle()
    assert [request.body for request in side.whole] == [b"hello"]
    assert len(wire.written) == 1


async def test_a_body_that_comes_slowly_passes_through_asgi(monkeypatch):
    monkeypatch.setattr("crossfade.web.protocol._SOON_SECONDS", 0.01)
    side = Side()
    connection, wire, _ = connect(side)
    connection.data_received(POST + b"he")
    await asyncio.sleep(0.05)
    connection.data_received(b"llo")
    await settle()
    connection.data_received(POST + b"again")
    await settle()
    assert side.asgi == [("/own/1", b"hello")]
    assert [request.body for request in side.whole] == [b"again"]
    assert wire.statuses == [b"201", b"200"]


OTHERS = {
    "another path": b"POST /else HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.0": b"POST /own HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi",
    "in chunks": b"POST /own HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "expects": b"POST /own HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
    "a whole address": b"POST http://here/own HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi",
    "a fragment": b"POST /own#part HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi",
    "large": b"POST /own HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (SMALL_BODY_BYTES + 1) + bytes(SMALL_BODY_BYTES + 1),
}


@pytest.mark.parametrize("request_bytes", OTHERS.values(), ids=OTHERS)
async def test_all_others_pass_through_asgi(request_bytes):
    side = Side()
    connection, wire, _ = connect(side)
    connection.data_received(request_bytes)
    await settle()
    assert side.whole == []
    assert len(side.asgi) == 1
    assert wire.statuses[-1] == b"201"


async def test_as_many_connections_as_there_may_be_are_refused_as_ever():
    side = Side()
    connection, wire, state = connect(side)
    state.connections.update(range(10))
    connection.data_received(POST + b"hello")
    await settle()
    assert side.whole == []
    assert wire.statuses == [b"503"]


async def test_head_has_no_body():
    connection, wire, _ = connect(Side())
    connection.data_received(b"HEAD /own HTTP/1.1\r\n\r\n")
    await settle()
    assert wire.written[0].endswith(b"content-length: 4\r\n\r\n")


@pytest.mark.parametrize(("asked", "default"), [(b"Connection: close\r\n", []), (b"", [(b"connection", b"close")])])
async def test_the_last_answer_of_a_connection_says_so_once(asked, default):
    connection, wire, state = connect(Side())
    state.default_headers = default
    connection.data_received(b"GET /own HTTP/1.1\r\n%b\r\n" % asked)
    await settle()
    assert wire.written[0].count(b"connection: close\r\n") == 1
    assert wire.closing


async def test_a_client_that_is_gone_gets_nothing():
    going = asyncio.Event()

    async def slow(_request: Request) -> bytes:
        await going.wait()
        return b"late"

    side = Side(slow)
    connection, wire, state = connect(side)
    connection.data_received(POST + b"hello")
    await settle()
    connection.connection_lost(None)
    going.set()
    await settle()
    assert len(side.whole) == 1
    assert wire.written == []
    assert not state.tasks
    assert not state.connections


@pytest.mark.parametrize("asked", [b"", POST, POST + b"hello"], ids=["nothing", "half", "whole"])
async def test_a_connection_that_has_ended_waits_for_no_garbage_collector(asked):
    connection, wire, _ = connect(Side())
    if asked:
        connection.data_received(asked)
    await settle()
    wire.close()
    connection.connection_lost(None)
    await settle()
    ended = weakref.ref(connection)
    gc.disable()
    try:
        del connection
        assert ended() is None
    finally:
        gc.enable()


async def test_a_client_that_does_not_read_is_waited_for():
    connection, wire, _ = connect(Side())
    connection.pause_writing()
    connection.data_received(POST + b"hello")
    await settle()
    assert wire.written == []
    connection.resume_writing()
    await settle()
    assert wire.statuses == [b"200"]


async def test_a_large_answer_is_not_copied():
    async def large(_request: Request) -> bytes:
        return bytes(100_000)

    connection, wire, _ = connect(Side(large))
    connection.data_received(POST + b"hello")
    await settle()
    assert [len(part) > 1_000 for part in wire.written] == [False, True]


async def test_a_bug_closes_the_connection(caplog):
    async def broken(_request: Request) -> bytes:
        raise ArithmeticError("of its own")

    connection, wire, state = connect(Side(broken))
    connection.data_received(POST + b"hello")
    await settle()
    assert wire.closing
    assert wire.written == []
    assert not state.tasks


async def test_a_server_that_ends_answers_what_has_begun():
    side = Side()
    connection, wire, _ = connect(side)
    connection.data_received(POST + b"he")
    connection.shutdown()
    assert not wire.closing
    connection.data_received(b"llo")
    await settle()
    assert side.asgi == [("/own/1", b"hello")]
    assert wire.closing


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_answers_come_in_order_however_requests_arrive(data):
    """Pipelined or not, whole or in pieces, by either way."""
    paths = data.draw(st.lists(st.sampled_from(["/own/a", "/own/slow", "/else/b"]), min_size=1, max_size=8))
    stream = b"".join(b"POST %b HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc" % path.encode() for path in paths)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=6)))
    pauses = [data.draw(st.booleans()) for _ in range(len(cuts) + 1)]

    async def slow(request: Request) -> bytes:
        for _ in range(4 * request.path.endswith("slow")):
            await asyncio.sleep(0)
        return request.path.encode()

    async def go() -> None:
        side = Side(slow)
        connection, wire, state = connect(side)
        for start, end, pause in zip([0, *cuts], [*cuts, len(stream)], pauses, strict=True):
            connection.data_received(stream[start:end])
            if pause:
                await settle()
        for _ in range(10):
            await settle()
        expected = [path.encode() if "own" in path else b"asgi " + path.encode() for path in paths]
        got = [answer.removeprefix(b"asgi ") for answer in _bodies(b"".join(wire.written))]
        assert got == [answer.removeprefix(b"asgi ") for answer in expected]
        assert len(side.whole) + len(side.asgi) == len(paths)
        assert not state.tasks
        connection.connection_lost(None)

    asyncio.run(go())


def _bodies(stream: bytes) -> list[bytes]:
    bodies = []
    while stream:
        head, _, stream = stream.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        bodies.append(stream[:length])
        stream = stream[length:]
    return bodies


def test_the_limits_come_from_the_settings():
    given = HttpSettings(header_timeout_seconds=1, max_header_bytes=100, body_timeout_seconds=2)
    protocol: Any = guarded_protocol(given)
    assert (protocol.header_seconds, protocol.max_header_bytes, protocol.stall_seconds) == (1, 100, 2)

"""How whole answers are written. What the protocol refuses is in `test_hostile.py`, against a real server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from crossfade.settings import HttpSettings
from crossfade.web.protocol import _CYCLE, guarded_protocol, respond

HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"2")]


class Cycle(SimpleNamespace):
    """The parts of uvicorn's cycle that matter, recording what is written."""

    def __init__(self, **changes: Any) -> None:
        self.written: list[bytes] = []
        self.closed = self.answered = self.told = False
        super().__init__(
            access_log=False,
            flow=SimpleNamespace(write_paused=False),
            disconnected=False,
            default_headers=[(b"date", b"today")],
            keep_alive=True,
            scope={"method": "GET"},
            waiting_for_100_continue=True,
            response_started=False,
            response_complete=False,
            message_event=SimpleNamespace(set=lambda: setattr(self, "told", True)),
            transport=SimpleNamespace(write=self.written.append, close=lambda: setattr(self, "closed", True)),
            on_response=lambda: setattr(self, "answered", True),
        )
        self.__dict__.update(changes)


async def answer(cycle: Cycle | None, body: bytes = b"{}") -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await respond({} if cycle is None else {_CYCLE: cycle}, send, 200, HEADERS, body)
    return sent


async def test_a_small_answer_is_one_write():
    cycle = Cycle()
    assert await answer(cycle) == []
    assert cycle.written == [
        b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    ]
    assert cycle.response_started
    assert cycle.response_complete
    assert cycle.told
    assert cycle.answered
    assert not cycle.waiting_for_100_continue
    assert not cycle.closed


@pytest.mark.parametrize("changes", [{}, {"access_log": True}, {"disconnected": True}])
async def test_an_answered_scope_does_not_lead_to_itself(changes):
    """With the cycle in it, it would hold all of its request until the garbage collector comes."""
    scope = {_CYCLE: Cycle(**changes)}

    async def send(_message: dict[str, Any]) -> None:
        pass

    await respond(scope, send, 200, HEADERS, b"{}")
    assert _CYCLE not in scope


async def test_head_has_no_body():
    cycle = Cycle(scope={"method": "HEAD"})
    await answer(cycle)
    assert cycle.written[0].endswith(b"content-length: 2\r\n\r\n")


@pytest.mark.parametrize("changes", [{"keep_alive": False}, {"default_headers": [(b"connection", b"close")]}])
async def test_the_last_answer_of_a_connection_says_so_once(changes):
    cycle = Cycle(**changes)
    await answer(cycle)
    assert cycle.written[0].count(b"connection: close\r\n") == 1
    assert cycle.closed


async def test_a_client_that_is_gone_gets_nothing():
    cycle = Cycle(disconnected=True)
    assert await answer(cycle) == []
    assert cycle.written == []


@pytest.mark.parametrize(
    ("cycle", "body"),
    [
        (None, b"{}"),
        (Cycle(access_log=True), b"{}"),
        (Cycle(flow=SimpleNamespace(write_paused=True)), b"{}"),
        (Cycle(), bytes(70_000)),
    ],
)
async def test_other_answers_are_the_two_messages_of_asgi(cycle, body):
    assert await answer(cycle, body) == [
        {"type": "http.response.start", "status": 200, "headers": HEADERS},
        {"type": "http.response.body", "body": body},
    ]
    assert cycle is None or cycle.written == []


def test_the_limits_come_from_the_settings():
    settings = HttpSettings(header_timeout_seconds=1, max_header_bytes=100, body_timeout_seconds=2)
    protocol = guarded_protocol(settings)
    assert issubclass(protocol, HttpToolsProtocol)
    assert (protocol.header_seconds, protocol.max_header_bytes, protocol.stall_seconds) == (1, 100, 2)

from __future__ import annotations

import asyncio

import orjson
import pytest

from crossfade.errors import BodyTooLargeError, BodyTooSlowError, MalformedRequestError
from crossfade.settings import HttpSettings
from crossfade.web.guard import BodyGuard, ClientGoneError, read_body


class Pieces:
    """An ASGI `receive` that gives pieces, pausing before each as long as it says."""

    def __init__(self, *pieces: bytes, pause: float = -1, end: bool = True) -> None:
        self.left = list(pieces)
        self.pause = pause
        self.end = end
        self.cancelled = False

    async def __call__(self):
        if self.pause >= 0:
            try:
                await asyncio.sleep(self.pause)
            except asyncio.CancelledError:
                self.cancelled = True
                raise
        if not self.left:
            return {"type": "http.disconnect"}
        piece = self.left.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(self.left) or not self.end}


@pytest.mark.parametrize("pause", [-1, 0, 0.001])
@pytest.mark.parametrize("pieces", [[b""], [b"abc"], [b"a", b"b", b"", b"c"]])
async def test_a_body_arrives_in_any_pieces(pieces, pause):
    assert await read_body(Pieces(*pieces, pause=pause), None, 10, 5) == b"".join(pieces)


@pytest.mark.parametrize("pause", [-1, 0])
async def test_the_limit_is_exact_and_reading_stops_there(pause):
    assert await read_body(Pieces(b"12345", b"67890", pause=pause), None, 10, 5) == b"1234567890"
    receive = Pieces(*[b"x"] * 100, pause=pause)
    with pytest.raises(BodyTooLargeError):
        await read_body(receive, None, 10, 5)
    assert len(receive.left) == 89
    with pytest.raises(BodyTooLargeError):
        await read_body(Pieces(b"x" * 11, pause=pause), None, 10, 5)


async def test_an_announced_body_that_is_too_large_is_not_read():
    receive = Pieces(b"x")
    with pytest.raises(BodyTooLargeError):
        await read_body(receive, b"11", 10, 5)
    assert receive.left
    with pytest.raises(MalformedRequestError):
        await read_body(receive, b"eleven", 10, 5)


async def test_the_deadline_is_for_the_whole_body():
    for receive in (Pieces(pause=60), Pieces(*[b"x"] * 100, pause=0.02)):
        with pytest.raises(BodyTooSlowError, match=r"within 0\.1 seconds"):
            await read_body(receive, None, 1000, 0.1)
        assert receive.cancelled


@pytest.mark.parametrize("pause", [-1, 0])
async def test_a_client_that_goes_away_is_noticed(pause):
    with pytest.raises(ClientGoneError):
        await read_body(Pieces(pause=pause), None, 10, 5)
    with pytest.raises(ClientGoneError):
        await read_body(Pieces(b"x", end=False, pause=pause), None, 10, 5)


async def test_a_cancellation_from_outside_stays_one():
    receive = Pieces(pause=60)
    task = asyncio.create_task(read_body(receive, None, 10, 60))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert receive.cancelled


async def test_other_errors_while_waiting_pass():
    async def receive():
        await asyncio.sleep(0)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await read_body(receive, None, 10, 5)


class Sent(list):
    async def __call__(self, message):
        self.append(message)

    @property
    def status(self) -> int:
        return self[0]["status"]


async def reading_app(scope, receive, send):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    after = await receive() if scope.get("listens") else None
    scope["seen"] = (body, after)


def scope(*headers, method="POST", path="/x", kind="http", **more):
    return {"type": kind, "method": method, "path": path, "headers": list(headers)} | more


@pytest.fixture
def guard():
    settings = HttpSettings(max_body_bytes=10, body_timeout_seconds=0.1)
    return BodyGuard(reading_app, settings, lambda method, path: (method, path) == ("PUT", "/upload"))


CHUNKED = (b"transfer-encoding", b"chunked")


async def test_the_application_sees_a_complete_body_then_the_connection(guard):
    request = scope(CHUNKED, listens=True)
    await guard(request, Pieces(b"ab", b"cd"), Sent())
    assert request["seen"] == (b"abcd", {"type": "http.disconnect"})


async def test_refused_bodies_never_reach_the_application(guard):
    for request, receive, status, code in (
        (scope(CHUNKED), Pieces(b"x" * 6, b"x" * 6), 413, "body_too_large"),
        (scope((b"content-length", b"11")), Pieces(b"x" * 11), 413, "body_too_large"),
        (scope((b"content-length", b"5")), Pieces(pause=60), 408, "body_too_slow"),
    ):
        sent = Sent()
        await guard(request, receive, sent)
        assert "seen" not in request
        assert sent.status == status
        assert orjson.loads(sent[1]["body"])["code"] == code


async def test_a_client_that_goes_away_gets_no_answer(guard):
    sent, request = Sent(), scope(CHUNKED)
    await guard(request, Pieces(), sent)
    assert sent == []
    assert "seen" not in request


async def test_uploads_and_requests_without_a_body_pass_untouched(guard):
    for request in (scope(CHUNKED, method="PUT", path="/upload"), scope(method="GET"), scope(CHUNKED, kind="lifespan")):
        await guard(request, Pieces(b"x" * 100), Sent())
        assert request["seen"] == (b"x" * 100, None)

from __future__ import annotations

import asyncio

import orjson
import pytest

from crossfade.errors import BodiesBusyError, BodyTooLargeError, BodyTooSlowError, MalformedRequestError
from crossfade.settings import HttpSettings
from crossfade.web.budget import SMALL_BODY_BYTES, BodyBudget
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


@pytest.fixture
def budget() -> BodyBudget:
    """Room for 300 kB, of which nothing may be taken when the test is over."""
    budget = BodyBudget(HttpSettings(max_inflight_body_bytes=300_000, max_body_bytes=1))
    yield budget
    assert budget.held_bytes == 0
    assert budget.arriving_bytes == 0


@pytest.mark.parametrize("pause", [-1, 0, 0.001])
@pytest.mark.parametrize("pieces", [[b""], [b"abc"], [b"a", b"b", b"", b"c"]])
async def test_a_body_arrives_in_any_pieces(pieces, pause, budget):
    assert await read_body(Pieces(*pieces, pause=pause), None, 10, 5, budget) == b"".join(pieces)


@pytest.mark.parametrize("pause", [-1, 0])
async def test_the_limit_is_exact_and_reading_stops_there(pause, budget):
    assert await read_body(Pieces(b"12345", b"67890", pause=pause), None, 10, 5, budget) == b"1234567890"
    receive = Pieces(*[b"x"] * 100, pause=pause)
    with pytest.raises(BodyTooLargeError):
        await read_body(receive, None, 10, 5, budget)
    assert len(receive.left) == 89
    with pytest.raises(BodyTooLargeError):
        await read_body(Pieces(b"x" * 11, pause=pause), None, 10, 5, budget)


async def test_an_announced_body_that_is_too_large_is_not_read(budget):
    receive = Pieces(b"x")
    with pytest.raises(BodyTooLargeError):
        await read_body(receive, b"11", 10, 5, budget)
    assert receive.left


@pytest.mark.parametrize("length", [b"eleven", "٣".encode(), b"\xb2", b"1_0", b" 1", b"-1", b"", b"9" * 19])
async def test_an_announced_length_must_be_a_number(budget, length):
    with pytest.raises(MalformedRequestError):
        await read_body(Pieces(b"x"), length, 10, 5, budget)


async def test_the_deadline_is_for_the_whole_body(budget):
    for receive in (Pieces(pause=60), Pieces(*[b"x"] * 100, pause=0.02)):
        with pytest.raises(BodyTooSlowError, match=r"within 0\.1 seconds"):
            await read_body(receive, None, 1000, 0.1, budget)
        assert receive.cancelled


@pytest.mark.parametrize("pause", [-1, 0])
async def test_a_client_that_goes_away_is_noticed(pause, budget):
    with pytest.raises(ClientGoneError):
        await read_body(Pieces(pause=pause), None, 10, 5, budget)
    with pytest.raises(ClientGoneError):
        await read_body(Pieces(b"x", end=False, pause=pause), None, 10, 5, budget)


async def test_a_cancellation_from_outside_stays_one(budget):
    receive = Pieces(pause=60)
    task = asyncio.create_task(read_body(receive, None, 10, 60, budget))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert receive.cancelled


class Endless:
    """A client that sends without end, one piece whenever it is told to."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[bytes] = asyncio.Queue()

    async def __call__(self):
        return {"type": "http.request", "body": await self.pieces.get(), "more_body": True}


async def test_the_body_that_has_been_arriving_for_longest_makes_room(budget, monkeypatch):
    monkeypatch.setattr(budget, "_arriving_limit", 100_000)
    clients = [Endless() for _ in range(3)]
    reading = [asyncio.create_task(read_body(client, None, 10**6, 60, budget)) for client in clients]
    for client in clients:
        client.pieces.put_nowait(b"x" * 30_000)
        await asyncio.sleep(0.01)
    clients[2].pieces.put_nowait(b"x" * 20_000)  # together 110 000
    await asyncio.sleep(0.01)
    assert [task.done() for task in reading] == [True, False, False]
    with pytest.raises(BodiesBusyError):
        await reading[0]
    assert budget.arriving_bytes == 80_000
    assert await read_body(Pieces(b"x" * 10_000, b"y", pause=0), None, 10**6, 60, budget), "there is room again"
    for task in reading[1:]:
        task.cancel()
    await asyncio.gather(*reading[1:], return_exceptions=True)


async def test_one_of_the_largest_may_arrive_alone(monkeypatch):
    monkeypatch.setattr("crossfade.web.budget.ARRIVING_BYTES", 10)
    budget = BodyBudget(HttpSettings(max_body_bytes=200_000))
    body = await read_body(Pieces(*[b"x" * 20_000] * 10, pause=0), None, 200_000, 60, budget)
    assert len(body) == 200_000
    budget.release(len(body))


async def test_other_errors_while_waiting_pass(budget):
    async def receive():
        await asyncio.sleep(0)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await read_body(receive, None, 10, 5, budget)


@pytest.mark.parametrize("pieces", [[200_000], [70_000, 130_000], [1] * 10 + [199_990]])
async def test_a_large_body_is_held_until_it_is_released(budget, pieces):
    body = await read_body(Pieces(*map(bytes, pieces)), None, 10**6, 5, budget)
    assert budget.held_bytes == len(body) == 200_000
    with pytest.raises(BodiesBusyError):
        await read_body(Pieces(*map(bytes, pieces)), None, 10**6, 5, budget)
    assert len(await read_body(Pieces(bytes(SMALL_BODY_BYTES)), None, 10**6, 5, budget)) == SMALL_BODY_BYTES
    budget.release(len(body))


@pytest.mark.parametrize(
    "receive",
    [
        Pieces(bytes(150_000), bytes(150_000), b"one too many"),
        Pieces(bytes(100_000), end=False),
        Pieces(bytes(150_000), bytes(60_000), pause=0.07),
    ],
    ids=["no room", "client gone", "too slow"],
)
async def test_a_body_that_is_never_complete_holds_nothing(budget, receive):
    with pytest.raises((BodiesBusyError, ClientGoneError, BodyTooSlowError)):
        await read_body(receive, None, 10**6, 0.1, budget)
    assert budget.held_bytes == 0


async def test_a_cancelled_body_holds_nothing(budget):
    waiting = asyncio.Event()
    pieces = [bytes(100_000)]

    async def receive():
        if not pieces:
            waiting.set()
            await asyncio.sleep(60)
        return {"type": "http.request", "body": pieces.pop(), "more_body": True}

    task = asyncio.create_task(read_body(receive, None, 10**6, 60, budget))
    await waiting.wait()
    assert budget.held_bytes == 100_000
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


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
def guard(budget):
    settings = HttpSettings(max_body_bytes=10, body_timeout_seconds=0.1)
    return BodyGuard(reading_app, settings, budget, lambda method, path: (method, path) == ("PUT", "/upload"))


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


async def test_a_large_body_is_held_while_the_application_answers(budget):
    held = []

    async def app(scope, receive, send):
        held.append(budget.held_bytes)
        raise ValueError("a fault")

    guard = BodyGuard(app, HttpSettings(), budget, lambda method, path: False)
    with pytest.raises(ValueError, match="a fault"):
        await guard(scope(CHUNKED), Pieces(bytes(100_000), bytes(100_000)), Sent())
    assert held == [200_000]
    budget.grow(0, 200_000)
    sent = Sent()
    await guard(scope(CHUNKED), Pieces(bytes(100_000), bytes(100_000)), sent)
    assert sent.status == 503
    assert (b"retry-after", b"1") in sent[0]["headers"]
    budget.release(200_000)


async def test_a_client_that_goes_away_gets_no_answer(guard):
    sent, request = Sent(), scope(CHUNKED)
    await guard(request, Pieces(), sent)
    assert sent == []
    assert "seen" not in request


async def test_uploads_and_requests_without_a_body_pass_untouched(guard):
    for request in (scope(CHUNKED, method="PUT", path="/upload"), scope(method="GET"), scope(CHUNKED, kind="lifespan")):
        await guard(request, Pieces(b"x" * 100), Sent())
        assert request["seen"] == (b"x" * 100, None)

"""Both clients against a server that fails in every way."""

import asyncio

import httpx
import pytest

from crossfade import errors
from crossfade.client import AsyncClient, Client, verbs

STATUS = {"release": "1", "revision": 7, "processes": []}


class Scripted:
    """Gives prepared outcomes in turn, and counts."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.requests = []

    def __call__(self, request):
        self.requests.append(request)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setattr("crossfade.client.asynchronous.asyncio.sleep", sleep)
    return slept


@pytest.fixture(params=["sync", "async"])
def send(request):
    """Send one call with a client over scripted outcomes."""

    def run(script, call):
        transport = httpx.MockTransport(script)
        if request.param == "sync":
            with Client("http://models.example", transport=transport) as client:
                return client.send(call)

        async def run_async():
            async with AsyncClient("http://models.example", transport=transport) as client:
                return await client.send(call)

        return asyncio.run(run_async())

    return run


def ok():
    return httpx.Response(200, json=STATUS)


def busy():
    return httpx.Response(503, headers={"retry-after": "2"}, json={"code": "draining", "detail": "d", "facts": {}})


def test_a_server_that_restarts_is_asked_again(send, pauses):
    script = Scripted(httpx.ConnectError("refused"), busy(), httpx.ReadError("reset"), ok())
    assert send(script, verbs.status()).revision == 7
    assert len(script.requests) == 4
    assert pauses == [0.1, 2.0, pytest.approx(0.3)]


def test_who_asked_too_often_waits_as_long_as_told(send, pauses):
    facts = {"name": "m", "limit": 0.5, "retry_after_seconds": 2}
    problem = {"code": "quota_exceeded", "detail": "d", "facts": facts}
    script = Scripted(httpx.Response(429, headers={"retry-after": "2"}, json=problem), ok())
    assert send(script, verbs.status()).revision == 7
    assert pauses == [2.0]
    script = Scripted(*(httpx.Response(429, headers={"retry-after": "2"}, json=problem) for _ in range(4)))
    with pytest.raises(errors.QuotaExceededError, match=r"at most 0\.5 requests a second"):
        send(script, verbs.status())


def test_a_limit_of_somebody_in_between_is_no_fault_of_the_request(send):
    script = Scripted(httpx.Response(429, text="slow down"))
    with pytest.raises(errors.UnavailableError, match="429"):
        send(script, verbs.status())


def test_the_last_refusal_is_raised(send):
    script = Scripted(*(busy() for _ in range(4)))
    with pytest.raises(errors.DrainingError):
        send(script, verbs.status())
    assert len(script.requests) == 4


def test_nobody_there_is_an_error_with_a_hint(send):
    script = Scripted(*(httpx.ConnectError("Connection refused") for _ in range(4)))
    with pytest.raises(errors.ServerUnreachableError) as caught:
        send(script, verbs.status())
    assert "http://models.example" in str(caught.value)
    assert "Connection refused" in str(caught.value)
    assert "crossfade serve" in caught.value.hint


def test_what_counts_is_not_sent_twice(send):
    script = Scripted(httpx.ReadError("reset"), ok())
    with pytest.raises(errors.ServerUnreachableError):
        send(script, verbs.rollback("tiny"))
    assert len(script.requests) == 1


def test_a_body_is_whole_again_in_the_second_attempt(send, tmp_path):
    path = tmp_path / "blob"
    path.write_bytes(b"x" * 3_000_000)
    received = []

    def script(request):
        received.append(len(request.content))
        if len(received) == 1:
            raise httpx.ReadError("reset")
        return httpx.Response(200, json={"digest": "d", "size": 1, "stored_at": "2026-01-01T00:00:00Z"})

    def read_first(request):
        request.read() if isinstance(request.stream, httpx.SyncByteStream) else None
        return script(request)

    assert send(read_first, verbs.put_blob("0" * 64, path, holder="h")).size == 1
    assert received == [3_000_000, 3_000_000]


def test_an_address_that_is_none_is_an_error(send):
    script = Scripted(httpx.UnsupportedProtocol("Request URL is missing a protocol"))
    with pytest.raises(errors.ServerUnreachableError, match="missing a protocol"):
        send(script, verbs.status())

"""Webhooks against a real server: what arrives, and what a server cannot do to whoever sends."""

import json
import logging
import socket
import ssl
import threading
import time

import httpcore
import pytest

from crossfade.core import exchange as exchanging
from crossfade.core.exchange import ExchangeError, exchange
from crossfade.errors import NotificationFailedError, SettingsError, WebhookRefusedError
from crossfade.notifications import signing, webhook
from crossfade.notifications.webhook import MAX_ANSWER_BYTES, MAX_BODY_BYTES, Webhook
from tests.notifications.sinks import HttpSink, certificate

SECRET = "an example of a secret"
EVENT = {"id": "one", "kind": "rollout.step", "details": {"weight": 0.1}}


@pytest.fixture
def sink():
    with HttpSink() as running:
        yield running


def hook(sink, path="/hook", **options):
    return Webhook(sink.url + path, SECRET, allow_private=True, **options)


def test_what_arrives(sink):
    hook(sink, "/hook?a=b").send(EVENT)
    ((path, headers, body),) = sink.requests
    assert path == "/hook?a=b"
    assert json.loads(body) == EVENT
    signing.verify(SECRET, headers, body)
    assert headers["Crossfade-Delivery"] == "one"
    assert headers["Crossfade-Event"] == "rollout.step"
    assert headers["Host"] == f"127.0.0.1:{sink.port}"
    assert headers["Content-Type"] == "application/json"


def test_a_private_address_needs_the_word_of_an_operator(sink):
    with pytest.raises(WebhookRefusedError, match="loopback"):
        Webhook(sink.url, SECRET).send(EVENT)
    assert sink.requests == []


def test_a_name_is_looked_up_once_and_the_judged_address_is_called(sink):
    """A name server that says something else a moment later (DNS rebinding) changes nothing."""
    asked = []

    def look_up(host, port):
        asked.append(host)
        return ["127.0.0.1"]

    url = f"http://hooks.example.com:{sink.port}/hook"
    Webhook(url, SECRET, allow_private=True, look_up=look_up).send(EVENT)
    assert asked == ["hooks.example.com"]
    assert sink.requests[0][1]["Host"] == f"hooks.example.com:{sink.port}"


def test_the_first_address_that_answers_is_taken(sink):
    addresses = ["127.0.0.2", "127.0.0.1"]  # nobody listens on the first one
    Webhook(f"http://hooks.example.com:{sink.port}/", SECRET, allow_private=True, look_up=lambda *_: addresses).send(
        EVENT
    )
    assert len(sink.requests) == 1


def test_a_name_that_nobody_knows():
    def look_up(host, port):
        raise socket.gaierror("unknown")

    with pytest.raises(NotificationFailedError) as raised:
        Webhook("http://nowhere.example.com/", SECRET, look_up=look_up).send(EVENT)
    assert raised.value.facts["again"] is True


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_successes(sink, status):
    sink.statuses = [status]
    hook(sink).send(EVENT)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(sink, status):
    sink.statuses = [status]
    sink.headers = {"Location": f"{sink.url}/elsewhere"}
    with pytest.raises(NotificationFailedError, match="redirects") as raised:
        hook(sink).send(EVENT)
    assert raised.value.facts["again"] is False
    assert [path for path, *_ in sink.requests] == ["/hook"]


@pytest.mark.parametrize(
    ("status", "again"), [(400, False), (401, False), (404, False), (410, False), (408, True), (429, True), (503, True)]
)
def test_what_may_be_tried_again(sink, status, again):
    sink.statuses = [status]
    with pytest.raises(NotificationFailedError, match=str(status)) as raised:
        hook(sink).send(EVENT)
    assert raised.value.facts["again"] is again


def test_asking_returns_the_object(sink):
    sink.body = b'{"pass": true, "value": 3}'
    assert hook(sink).ask(EVENT) == {"pass": True, "value": 3}


@pytest.mark.parametrize(
    "body", [b"", b"no", b"[]", b"1", b"NaN", b'{"a": NaN}', b"\xff\xfe", b"[" * 60_000, b'{"a":' * 10_000]
)
def test_answers_that_are_no_object(sink, body):
    sink.body = body
    with pytest.raises(NotificationFailedError, match="no JSON object"):
        hook(sink).ask(EVENT)


def test_an_answer_of_the_largest_size(sink):
    sink.body = b'{"a": "' + b"x" * (MAX_ANSWER_BYTES - 9) + b'"}'
    assert len(hook(sink).ask(EVENT)["a"]) == MAX_ANSWER_BYTES - 9
    sink.body = b'{"a": "' + b"x" * (MAX_ANSWER_BYTES - 8) + b'"}'
    with pytest.raises(NotificationFailedError, match="larger than 65536"):
        hook(sink).ask(EVENT)


def test_a_compressed_answer_is_not_unpacked(sink):
    sink.headers = {"Content-Encoding": "gzip"}
    with pytest.raises(NotificationFailedError, match="compressed"):
        hook(sink).ask(EVENT)


def test_an_endless_answer_is_cut(sink):
    def stream(out):
        out.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            out.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")

    sink.stream = stream
    with pytest.raises(NotificationFailedError, match="larger than"):
        hook(sink).ask(EVENT)
    hook(sink).send(EVENT)  # a body that is not wanted is not read


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
def test_answers_that_are_no_http(sink, answer):
    sink.stream = lambda out: out.write(answer)
    with pytest.raises(NotificationFailedError):
        hook(sink).ask(EVENT)


def test_one_deadline_for_everything(sink, monkeypatch):
    """A server that sends a byte now and then would outlive a timeout of each read for ever."""
    monkeypatch.setattr(webhook, "SECONDS", 0.4)
    stop = threading.Event()

    def stream(out):
        out.write(b"HTTP/1.1 200 OK\r\n")
        while not stop.wait(0.05):
            out.write(b"X-Padding: x\r\n")

    sink.stream = stream
    started = time.monotonic()
    with pytest.raises(NotificationFailedError, match="no answer within"):
        hook(sink).send(EVENT)
    stop.set()
    assert time.monotonic() - started < 30  # not a measurement: without a deadline this never ends


def test_a_server_that_never_accepts_is_left():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        with pytest.raises(ExchangeError, match="no answer within"):
            exchange("GET", f"http://127.0.0.1:{silent.getsockname()[1]}/", headers={}, seconds=0.2, max_bytes=10)


def test_no_time_at_all():
    with pytest.raises(ExchangeError, match="no answer within"):
        exchange("GET", "http://127.0.0.1:1/", headers={}, seconds=0.0, max_bytes=10)


def test_nobody_listens():
    with pytest.raises(ExchangeError):
        exchange("GET", "http://127.0.0.1:1/", headers={}, seconds=5, max_bytes=10)


def test_tls_is_checked_against_the_name_that_was_asked_for(sink, tmp_path, monkeypatch):
    ours, other = certificate(tmp_path, "hooks.example.com"), certificate(tmp_path, "other.example.com")
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(ours)
    sink.server.socket = served.wrap_socket(sink.server.socket, server_side=True)
    trusting = ssl.create_default_context(cafile=str(ours))
    trusting.load_verify_locations(cafile=str(other))
    monkeypatch.setattr(exchanging.httpcore, "ConnectionPool", _trusting(trusting))

    def call(name):
        Webhook(f"https://{name}:{sink.port}/", SECRET, allow_private=True, look_up=lambda *_: ["127.0.0.1"]).send(
            EVENT
        )

    call("hooks.example.com")
    with pytest.raises(NotificationFailedError, match=r"(?i)certificate"):
        call("other.example.com")
    assert len(sink.requests) == 1


def _trusting(context):
    pool = httpcore.ConnectionPool
    return lambda **options: pool(ssl_context=context, **options)


def test_tls_of_nobody_we_know_is_refused(sink, tmp_path):
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(certificate(tmp_path, "hooks.example.com"))
    sink.server.socket = served.wrap_socket(sink.server.socket, server_side=True)
    with pytest.raises(NotificationFailedError, match=r"(?i)certificate"):
        Webhook(
            f"https://hooks.example.com:{sink.port}/", SECRET, allow_private=True, look_up=lambda *_: ["127.0.0.1"]
        ).send(EVENT)


def test_a_proxy_of_the_environment_is_not_asked(sink, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    hook(sink).send(EVENT)


def test_events_cannot_write_headers(sink):
    hook(sink).send({"id": "a\r\nX-Evil: 1", "kind": "b\0ü" + "x" * 500})
    headers = sink.requests[0][1]
    assert "X-Evil" not in headers
    assert headers["Crossfade-Delivery"] == "aX-Evil: 1"
    assert len(headers["Crossfade-Event"]) <= 120


def test_an_event_that_is_too_large_is_not_sent(sink):
    with pytest.raises(NotificationFailedError, match="larger"):
        hook(sink).send({"a": "x" * MAX_BODY_BYTES})
    assert sink.requests == []


@pytest.mark.parametrize("secret", ["", "short"])
def test_a_short_secret_is_refused(sink, secret):
    with pytest.raises(SettingsError):
        Webhook(sink.url, secret)


def test_neither_secret_nor_path_is_ever_said(sink, caplog):
    caplog.set_level(logging.DEBUG)
    sink.statuses = [500]
    made = hook(sink, "/services/T0/B0/token-of-the-path?key=token-of-the-query")
    with pytest.raises(NotificationFailedError) as raised:
        made.send(EVENT)
    said = " ".join([repr(made), str(raised.value), repr(raised.value.facts), raised.value.hint, caplog.text])
    for secret in (SECRET, "token-of-the-path", "token-of-the-query"):
        assert secret not in said

"""Clients that are slow, endless or not speaking HTTP, against a real server."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from tests.web.dataplane.hostile import BODY, GET, INFER, MODERATE, PATIENCE, Server, assert_refused, read_all

# --- slow clients ---


def test_a_silent_connection_is_closed(server):
    assert server.exchange() == b""


@pytest.mark.parametrize("head", [b"G", GET[:-2], INFER, b"GET / HTTP/1.1\r\nHost: local"])
def test_a_half_sent_head_is_refused(server, head):
    assert "head did not arrive" in assert_refused(server.exchange(head), 408)


def test_a_head_that_drips_is_refused_although_it_moves(server):
    answer = server.exchange(*[GET[i : i + 1] for i in range(len(GET))], pause=0.1)
    assert_refused(answer, 408)


def test_empty_lines_do_not_keep_a_connection_open(server):
    assert server.exchange(*[b"\r\n"] * 30, pause=0.1) == b""


def test_the_second_head_of_a_connection_is_watched_too(server):
    answer = server.exchange(GET + b"GET /v2 HT")
    first, _, second = answer.partition(b'{"live":true}')
    assert first.startswith(b"HTTP/1.1 200 OK")
    assert_refused(second, 408)


def test_empty_lines_after_an_answer_do_not_keep_a_connection_open(server):
    assert server.exchange(GET, *[b"\r\n"] * 30, pause=0.1).count(b"HTTP/1.1") == 1


def test_a_stalled_body_is_refused(server):
    for sent in (b"", b"{"):
        answer = server.exchange(INFER + b"Content-Length: 10\r\nConnection: close\r\n\r\n" + sent)
        assert "did not arrive within 0.8 seconds" in assert_refused(answer, 408)


def test_a_body_that_drips_is_refused_although_it_moves(server):
    head = INFER + b"Content-Length: 1000\r\nConnection: close\r\n\r\n"
    assert_refused(server.exchange(head, *[b" "] * 30, pause=0.05), 408)


def test_a_stalled_chunked_body_is_refused(server):
    assert_refused(server.exchange(INFER + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{\r\n"), 408)


def test_many_slow_clients_at_once_are_all_closed_while_others_are_answered(server):
    heads = [b"", b"G", INFER, INFER + b"Content-Length: 10\r\n\r\n{"] * 25
    with contextlib.ExitStack() as closing:
        connections = [closing.enter_context(server.connect()) for _ in heads]
        for connection, head in zip(connections, heads, strict=True):
            connection.sendall(head)
        assert httpx.post(f"{server.url}/v2/models/lr/infer", content=BODY).status_code == 200
        for connection in connections:
            read_all(connection)


def test_a_client_that_does_not_read_is_cut(server):
    item = {"name": "x", "shape": [1, 900_000], "datatype": "FP64", "parameters": {"binary_data_size": 7_200_000}}
    head = json.dumps({"inputs": [item], "parameters": {"binary_data_output": True}}).encode()
    body = head + bytes(7_200_000)
    with server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lengths = b"Content-Length: %d\r\nInference-Header-Content-Length: %d\r\n\r\n" % (len(body), len(head))
        connection.sendall(b"POST /v2/models/echo_fp64/infer HTTP/1.1\r\nHost: localhost\r\n" + lengths + body)
        for _ in range(200):
            time.sleep(0.05)
            open_ports = {c.raddr.port for c in psutil.Process(server.process.pid).net_connections() if c.raddr}
            if connection.getsockname()[1] not in open_ports:
                break
        else:
            pytest.fail("the connection is still open")


def test_a_client_that_reads_slowly_gets_everything(server):
    item = {"name": "x", "shape": [1, 900_000], "datatype": "FP64", "parameters": {"binary_data_size": 7_200_000}}
    head = json.dumps({"inputs": [item], "parameters": {"binary_data_output": True}}).encode()
    lengths = b"Content-Length: %d\r\nInference-Header-Content-Length: %d\r\n" % (len(head) + 7_200_000, len(head))
    with server.connect() as connection:
        connection.sendall(b"POST /v2/models/echo_fp64/infer HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n")
        connection.sendall(lengths + b"\r\n" + head + bytes(7_200_000))
        time.sleep(0.3)
        assert len(read_all(connection)) > 7_200_000


# --- oversized and malformed HTTP ---


@pytest.mark.parametrize("size", [33_000, 200_000, 2_000_000])
def test_a_large_head_is_refused(server, size):
    answer = server.exchange(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX-Large: " + b"x" * size + b"\r\n\r\n")
    if answer:  # a reset may overtake the refusal while the client is still sending
        assert "too large" in assert_refused(answer, 431)


@pytest.mark.parametrize("line", [b"x: 1\r\n", b"x" * 500 + b": 1\r\n"])
def test_a_head_that_never_ends_is_refused(server, line):
    answer = server.exchange(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n", *[line * 50] * 200)
    if answer:
        assert_refused(answer, 431)


def test_a_large_url_is_refused(server):
    assert_refused(server.exchange(b"GET /v2/" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"), 431)


def test_a_head_within_the_limit_is_accepted_however_long_the_body_before_it(server):
    ok = b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: " + b"x" * 30_000 + b"\r\n\r\n"
    body = BODY + b" " * 300_000
    before = INFER + b"Content-Length: %d\r\n\r\n" % len(body) + body
    assert server.exchange(before + ok).count(b"HTTP/1.1 200 OK") == 2
    assert server.exchange(before + ok[:20_000], ok[20_000:], pause=0.1).count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        INFER + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        INFER + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused(server, request_bytes):
    answer = server.exchange(request_bytes)
    if answer:
        assert_refused(answer, 400)


def test_pipelined_requests_are_answered_in_order(server):
    paths = [b"/v2/health/live", b"/v2", b"/healthz"] * 10
    requests = b"".join(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path for path in paths)
    answer = server.exchange(requests + b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 OK") == 31
    assert answer.index(b'{"live"') < answer.index(b'"extensions"') < answer.index(b'"status"')


def test_a_flood_of_pipelined_requests_is_cut(server):
    with server.may_take(MODERATE):
        assert server.exchange(*[GET * 20_000]).count(b"HTTP/1.1 200") <= 200


def test_head_and_old_http(server):
    head = server.exchange(b"HEAD /v2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert head.endswith(b"connection: close\r\n\r\n")
    old = server.exchange(b"GET /v2/health/live HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert b"connection: close\r\n" in old
    assert old.endswith(b'{"live":true}')


# --- large bodies ---


def send_body(server: Server, head: bytes, chunk: bytes, total: int) -> bytes:
    with server.connect() as connection:
        sent = 0
        with contextlib.suppress(ConnectionError):
            connection.sendall(head)
            while sent < total:
                connection.sendall(chunk)
                sent += len(chunk)
        return read_all(connection)


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("path", ["/v2/models/lr/infer", "/api/v1/predict/lr"])
def test_bodies_of_100_megabytes_take_no_memory(server, announced, path):
    total = 100_000_000
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" % path.encode()
    piece = b"[" * 100_000
    if announced:
        head, chunk = head + b"Content-Length: %d\r\n\r\n" % total, piece
    else:
        head, chunk = head + b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n" % (len(piece), piece)
    with server.may_take(MODERATE), ThreadPoolExecutor(3) as clients:
        sending = [clients.submit(send_body, server, head, chunk, total) for _ in range(3)]
        answers = [answer for future in sending if (answer := future.result())]
    for answer in answers:  # a reset may overtake some refusals while the client is still sending
        assert "larger than" in assert_refused(answer, 413)


def test_a_refusal_can_be_read_while_the_body_is_still_being_sent(server):
    with server.connect() as connection:
        connection.sendall(INFER + b"Content-Length: 50000000\r\n\r\n")
        for _ in range(10):
            connection.sendall(bytes(100_000))
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")


def test_a_refused_body_is_not_drained_for_ever(server):
    head = INFER + b"Transfer-Encoding: chunked\r\n\r\n"
    piece = b"%x\r\n%b\r\n" % (65536, bytes(65536))
    answer = server.exchange(head + piece * 200, *[b"1\r\nx\r\n"] * 60, pause=0.1)
    if answer:
        assert_refused(answer, 413)


def test_an_announced_large_body_is_refused_before_it_is_sent(server):
    answer = server.exchange(INFER + b"Content-Length: 50000000\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")
    assert b"100 Continue" not in answer
    assert_refused(answer, 413)


def test_gzip_bombs_take_no_memory(server):
    bomb = gzip.compress(bytes(200 * 2**20), 1)
    with server.may_take(MODERATE):
        for path in ("/v2/models/lr/infer", "/api/v1/predict/lr"):
            response = httpx.post(server.url + path, content=bomb, headers={"content-encoding": "gzip"})
            assert response.status_code == 413


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs":[{"name":"x","shape":[3],"datatype":"FP64","data":[' + b"1," * 4_000_000 + b"1]}]}",
        b'{"inputs":[' + b'{"name":"x","shape":[1],"datatype":"FP64","data":[1]},' * 150_000 + b"1]}",
        b'{"inputs":[{"name":"x","shape":[1,2000000],"datatype":"FP64","data":[' + b"1," * 1_999_999 + b"1]}]}",
    ],
)
def test_large_hostile_json_takes_little_memory(server, body):
    with server.may_take(MODERATE):
        response = httpx.post(f"{server.url}/v2/models/lr/infer", content=body, timeout=PATIENCE)
    assert response.status_code == 422
    assert response.json()["error"]

"""Many large bodies at once, against a real server that may hold 16 MiB of them."""

from __future__ import annotations

import contextlib
import gzip
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.web.dataplane.hostile import BODY, INFER, MODERATE, PATIENCE, Server, assert_refused, start

ROOM = 16 * 2**20
LARGEST = 8 * 2**20
MEDIUM = BODY + b" " * 2 * 2**20
HEAD = INFER + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(MEDIUM)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    limits = [f"max_inflight_body_bytes={ROOM}", f"max_body_bytes={LARGEST}", "body_timeout_seconds=60"]
    with start(tmp_path_factory.mktemp("server") / "stderr", *limits) as server:
        yield server


def begin(server: Server) -> socket.socket:
    """Send a medium body but for its last byte."""
    connection = server.connect()
    with contextlib.suppress(ConnectionError):
        connection.sendall(HEAD + MEDIUM[:-1])
    return connection


def finish(connection: socket.socket) -> bytes:
    """Send the last byte and return the answer."""
    with connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(MEDIUM[-1:])
        return connection.recv(65536)


def predict(server: Server, body: bytes, **headers: str) -> int:
    url = f"{server.url}/v2/models/lr/infer"
    return httpx.post(url, content=body, headers=headers, timeout=PATIENCE).status_code


def fits_again(server: Server) -> bool:
    """Whether two of the largest bodies, which fill the room, are answered at the same time."""
    largest = BODY + b" " * (LARGEST - len(BODY))
    for _ in range(200):
        with ThreadPoolExecutor(2) as clients:
            if list(clients.map(predict, [server] * 2, [largest] * 2)) == [200, 200]:
                return True
        time.sleep(0.05)
    return False


def test_what_does_not_fit_is_refused_and_the_rest_is_answered(server):
    with server.may_take(MODERATE), ThreadPoolExecutor(10) as clients:
        connections = list(clients.map(begin, [server] * 60))
        assert predict(server, BODY) == 200, "small requests are answered whatever the large ones do"
        answers = list(clients.map(finish, connections))
    refused = [answer for answer in answers if answer and b" 200 OK" not in answer[:20]]
    assert len(refused) > 20
    assert any(b" 200 OK" in answer[:20] for answer in answers)
    for answer in refused:
        assert b"\r\nretry-after: 1\r\n" in answer
        assert "MAX_INFLIGHT_BODY_BYTES" in assert_refused(answer, 503)
    assert fits_again(server)


def test_clients_that_hang_up_leave_room(server):
    with ThreadPoolExecutor(10) as clients:
        for connection in clients.map(begin, [server] * 20):
            connection.close()
    assert fits_again(server)


def test_refused_bodies_leave_room(server):
    for _ in range(4):
        assert predict(server, b"[" * LARGEST) == 422
        assert predict(server, b"[" * (LARGEST + 1)) == 413
        assert predict(server, gzip.compress(bytes(LARGEST + 1)), **{"content-encoding": "gzip"}) == 413
        assert predict(server, gzip.compress(bytes(LARGEST)), **{"content-encoding": "gzip"}) == 422
        assert predict(server, bytes(10**6), **{"content-encoding": "gzip"}) == 422
    assert fits_again(server)


def test_a_body_counts_as_what_it_unpacks_to(server):
    packed = gzip.compress(BODY + b" " * (LARGEST - len(BODY)))
    with ThreadPoolExecutor(10) as clients:
        connections = list(clients.map(begin, [server] * 7))
        deadline = time.monotonic() + PATIENCE
        while (status := predict(server, packed, **{"content-encoding": "gzip"})) == 200:
            assert time.monotonic() < deadline, "what the others hold leaves no room for it"
        assert status == 503
        assert all(b" 200 OK" in answer[:20] for answer in clients.map(finish, connections))
    assert predict(server, packed, **{"content-encoding": "gzip"}) == 200

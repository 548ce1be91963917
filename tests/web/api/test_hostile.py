"""Hostile callers of the control plane, against a real server."""

import contextlib
import gzip
import hashlib
import json
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from crossfade.client import Client, verbs
from crossfade.web.api.blobs import CONCURRENT_UPLOADS
from tests import control

HOLDER = "0123456789abcdef"
LARGEST = 4 * 2**20
LIMITS = {"BODY_TIMEOUT_SECONDS": "1", "MAX_BODY_BYTES": str(LARGEST), "MAX_INFLIGHT_BODY_BYTES": str(LARGEST)}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with the model `tiny`; it must have no fault logged when all is over."""
    folder = tmp_path_factory.mktemp("hostile")
    limits = {f"CROSSFADE_HTTP__{name}": value for name, value in LIMITS.items()}
    with control.running_server(folder / "home", **limits) as server:
        with Client(server.url) as client:
            control.register(client, folder, "1.0.0", "1.1.0")
        yield server
    log = server.log.read_text()
    assert "Traceback" not in log
    assert '"bug"' not in log


@pytest.fixture
def http(server):
    with httpx.Client(base_url=server.url, timeout=30) as opened:
        yield opened


def connect(server):
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def assert_problem(answer, *statuses):
    assert answer.status_code in statuses, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"]
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "origin", [b"http://[", b"http://[::1", b"http://\xff\xfe", b"http://\xc3\xa4", b"", b"null", b"//", b"http://"]
)
@pytest.mark.parametrize("path", ["/api/v1/garbage?dry_run=true", "/v2/models/tiny/infer", "/api/v1/predict/tiny"])
def test_odd_origins_are_refused_on_both_planes(http, origin, path):
    answer = http.post(path, content=b"{}", headers=[(b"origin", origin), (b"accept", b"application/problem+json")])
    assert (answer.status_code, answer.json()["code"]) == (403, "origin_not_allowed")


@pytest.mark.parametrize(
    "ref", ["tiny:²", "tiny:٣", "tiny:\uff11.0.0", "tiny:1.0.²", "tiny@²", "²", "tiny:" + "9" * 5000]
)
def test_digits_of_other_scripts_are_no_numbers(http, ref):
    quoted = ref.replace(":", "%3A")
    assert_problem(http.get(f"/api/v1/versions/{quoted}"), 404, 422)
    assert_problem(http.delete(f"/api/v1/versions/{quoted}"), 404, 422)
    assert_problem(http.get("/api/v1/compare", params={"a": ref, "b": "tiny:1.0.0"}), 404, 422)
    assert_problem(http.get("/api/v1/compare", params={"a": "tiny:1.0.0", "b": ref}), 404, 422)
    version = ref.partition(":")[2] or ref
    for body in ({"version": version}, {"version": ref}, {"version": "1.0.0", "expected": version}):
        answer = http.put("/api/v1/models/tiny/aliases/champion", json=body)
        assert_problem(answer, 404, 409, 422)
    assert_problem(http.put("/api/v1/models/tiny/aliases/²", json={"version": "1.0.0"}), 422)


@pytest.mark.parametrize("query", ["limit=²", "limit=٣", "limit=1e1", "cursor=²", "cursor=٣"])
def test_digits_of_other_scripts_are_no_parameters(http, query):
    assert_problem(http.get(f"/api/v1/models/tiny/versions?{query}"), 422)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "identity, gzip"])
def test_compressed_bodies_are_not_unpacked(http, coding):
    packed = gzip.compress(json.dumps({"version": "1.0.0"}).encode())
    for body in (packed, gzip.compress(bytes(200 * 2**20), 1)):
        answer = http.put("/api/v1/models/tiny/aliases/champion", content=body, headers={"content-encoding": coding})
        assert_problem(answer, 422)


def test_a_compressed_upload_is_stored_as_it_is_sent(http):
    packed = gzip.compress(b"a file")
    url = f"/api/v1/blobs/{hashlib.sha256(packed).hexdigest()}?holder={HOLDER}"
    answer = http.put(url, content=packed, headers={"content-encoding": "gzip"})
    assert answer.json()["size"] == len(packed)


# --- slow and many ---------------------------------------------------------------------------------------------------


def drip(server, number, over):
    """Send an upload byte by byte until the server has had enough; return its answer."""
    path = f"/api/v1/blobs/{hashlib.sha256(b'%d' % number).hexdigest()}?holder={HOLDER}"
    with connect(server) as connection:
        connection.sendall(f"PUT {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n".encode())
        connection.settimeout(0.1)
        while not over.is_set():
            with contextlib.suppress(TimeoutError, ConnectionError):
                connection.sendall(b"x")
                return connection.recv(65536)
    return b""


def test_uploads_that_drip_make_room_for_good_ones(server):
    over = threading.Event()
    data = os.urandom(3 * 2**20)
    with ThreadPoolExecutor(40) as drippers, Client(server.url) as client:
        dripping = [drippers.submit(drip, server, number, over) for number in range(40)]
        try:
            time.sleep(0.3)
            assert client.status().release, "the other routes are not concerned"
            stored = client.send(verbs.put_blob(hashlib.sha256(data).hexdigest(), data, holder=HOLDER))
            answers = [future.result(30) for future in dripping]
        finally:
            over.set()
    assert stored.size == len(data)
    assert {answer.split(b" ")[1] for answer in answers} <= {b"408", b"503"}
    # the good one may have held one of the places
    assert sum(b"upload_too_slow" in answer for answer in answers) >= CONCURRENT_UPLOADS - 1


def test_many_bodies_at_once_are_bounded_together_and_uploads_are_not_concerned(server, http):
    medium = 2**20
    head = b"POST /api/v1/uploads HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"

    def stall(_):
        with connect(server) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(head % medium + b" " * (medium - 1))
            return connection.recv(65536)
        return b""

    data = os.urandom(LARGEST + 1)
    with ThreadPoolExecutor(20) as clients:
        stalling = [clients.submit(stall, number) for number in range(20)]
        time.sleep(0.3)
        url = f"/api/v1/blobs/{hashlib.sha256(data).hexdigest()}?holder={HOLDER}"
        assert http.put(url, content=data).status_code == 200
        answers = [future.result(30) for future in stalling]
    refused = [answer for answer in answers if answer]
    assert {answer.split(b" ")[1] for answer in refused} <= {b"408", b"503"}
    assert any(b"bodies_busy" in answer and b"retry-after: 1" in answer for answer in refused)
    answer = http.post("/api/v1/uploads", content=b" " * LARGEST)
    assert answer.status_code == 422, "there is room again"

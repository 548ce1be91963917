"""Uploads: leases, digests, limits, streaming."""

import asyncio
import hashlib
import os
import threading
from pathlib import Path

import httpx
import pytest

from crossfade import errors
from crossfade.client import verbs
from crossfade.platform import open_platform
from crossfade.settings import HttpSettings, RegistrySettings, Settings
from crossfade.web.api import blobs
from crossfade.web.app import create_control_plane
from crossfade.web.inprocess import InProcessTransport
from tests import control

HOLDER = "0123456789abcdef"


def digest_of(data):
    return hashlib.sha256(data).hexdigest()


def test_only_missing_blobs_are_asked_for(client):
    first, second = b"first", b"second"
    digests = (digest_of(first), digest_of(second))
    assert client.send(verbs.upload(HOLDER, digests)).missing == digests
    stored = client.send(verbs.put_blob(digests[0], first, holder=HOLDER))
    assert (stored.digest, stored.size) == (digests[0], len(first))
    assert client.send(verbs.upload(HOLDER, digests)).missing == (digests[1],)


def test_blobs_of_an_upload_are_leased_until_it_is_published(client, platform, tmp_path):
    data = b"abandoned"
    client.send(verbs.upload(HOLDER, (digest_of(data),)))
    client.send(verbs.put_blob(digest_of(data), data, holder=HOLDER))
    control.register(client, tmp_path, "1.0.0")
    with platform.database.read() as connection:
        holders = {row[0] for row in connection.exec_driver_sql("SELECT holder FROM blob_leases")}
    assert holders == {HOLDER}, "a finished registration releases its leases, an unfinished one keeps them"


def test_bytes_must_have_their_digest(client, platform):
    wanted = digest_of(b"right")
    with pytest.raises(errors.CorruptBlobError):
        client.send(verbs.put_blob(wanted, b"wrong", holder=HOLDER))
    assert platform.registry.backend.blobs.find(wanted) is None


@pytest.mark.parametrize("digest", ["short", "Z" * 64, "A" * 64, "..%2f..", "0" * 63])
def test_a_digest_must_be_one(http, digest):
    answer = http.put(f"/api/v1/blobs/{digest}?holder={HOLDER}", content=b"x")
    assert answer.status_code in {404, 422}
    assert answer.headers["content-type"] == "application/problem+json"
    assert http.post("/api/v1/uploads", json={"holder": HOLDER, "digests": [digest]}).status_code == 422


@pytest.mark.parametrize("holder", ["", "short", "has space 123", "x" * 65])
def test_a_holder_must_be_an_id(http, holder):
    answer = http.put(f"/api/v1/blobs/{digest_of(b'x')}", params={"holder": holder}, content=b"x")
    assert answer.status_code == 422


def test_a_holder_is_required(http):
    answer = http.put(f"/api/v1/blobs/{digest_of(b'x')}", content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert "`holder`" in answer.json()["detail"]


def test_too_many_digests_are_refused(http):
    answer = http.post("/api/v1/uploads", json={"holder": HOLDER, "digests": ["0" * 64] * 1001})
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed_request")


@pytest.fixture
def strict(tmp_path):
    settings = Settings(
        home=tmp_path / "strict",
        registry=RegistrySettings(max_blob_bytes=1000),
        http=HttpSettings(body_timeout_seconds=0.2, max_body_bytes=2000),
    )
    with open_platform(settings) as platform, control.local_client(platform) as client:
        yield client


def test_a_blob_has_a_largest_size(strict):
    data = os.urandom(1001)
    with pytest.raises(errors.BodyTooLargeError):
        strict.send(verbs.put_blob(digest_of(data), data, holder=HOLDER))


def test_a_blob_of_unknown_length_has_it_too(strict):
    data = os.urandom(1001)
    answer = strict._http.put(
        f"/api/v1/blobs/{digest_of(data)}?holder={HOLDER}", content=iter([data[:600], data[600:]])
    )
    assert answer.status_code == 413
    assert answer.json()["code"] == "body_too_large"


def test_an_upload_may_not_stall(strict):
    stalled = threading.Event()

    def pieces():
        yield b"begin"
        stalled.wait(5)
        yield b"end"

    data = b"beginend"
    try:
        answer = strict._http.put(f"/api/v1/blobs/{digest_of(data)}?holder={HOLDER}", content=pieces())
    finally:
        stalled.set()
    assert answer.status_code == 408
    assert answer.json()["code"] == "upload_too_slow"


@pytest.mark.parametrize("length", ["x", "²", "1_0", "-1", "9" * 30])
def test_an_announced_size_must_be_a_number(strict, length):
    url = f"/api/v1/blobs/{digest_of(b'x')}?holder={HOLDER}"
    answer = strict._http.put(url, content=b"x", headers=[("content-length", length.encode("latin-1"))])
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed_request")


def test_who_finds_all_places_taken_is_sent_away_soon(platform, monkeypatch):
    monkeypatch.setattr(blobs, "_PATIENCE_SECONDS", 0.05)
    app = create_control_plane(platform)
    app.state.upload_places = asyncio.Semaphore(0)
    with httpx.Client(base_url="http://localhost", transport=InProcessTransport(app)) as http:
        answer = http.put(f"/api/v1/blobs/{digest_of(b'x')}?holder={HOLDER}", content=b"x")
        assert (answer.status_code, answer.json()["code"]) == (503, "uploads_busy")
        assert answer.headers["retry-after"] == "1"
        app.state.upload_places.release()
        for _ in range(2):
            assert http.put(f"/api/v1/blobs/{digest_of(b'x')}?holder={HOLDER}", content=b"x").status_code == 200
            assert http.put(f"/api/v1/blobs/{digest_of(b'y')}?holder={HOLDER}", content=b"x").status_code == 412


def test_other_bodies_keep_the_small_limit(strict):
    answer = strict._http.post("/api/v1/uploads", content=b" " * 3000)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_64_megabytes_stream_through_a_server_in_bounded_memory(tmp_path):
    size, piece = 64 * 2**20, os.urandom(2**20)
    whole = hashlib.sha256(piece * 64).hexdigest()
    with control.running_server(tmp_path / "home") as server, httpx.Client(base_url=server.url, timeout=60) as http:
        before = peak_memory(server.process.pid)
        answer = http.put(
            f"/api/v1/blobs/{whole}?holder={HOLDER}",
            content=(piece for _ in range(64)),
            headers={"content-length": str(size)},
        )
        assert answer.json()["size"] == size
        assert peak_memory(server.process.pid) - before < 24 * 2**20


def peak_memory(pid):
    """The most memory that a process ever had resident, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

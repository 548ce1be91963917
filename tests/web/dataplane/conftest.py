from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from crossfade.settings import HttpSettings
from crossfade.web.dataplane import DataPlane
from tests.web import small_server
from tests.web.dataplane.hostile import BODY, LIMIT, PATIENCE, Server, free_port
from tests.web.small_server import SmallPredictions, control, small_models


@pytest.fixture
def predictions() -> SmallPredictions:
    return SmallPredictions(small_models())


@pytest.fixture
async def client(predictions):
    app = DataPlane(predictions, HttpSettings(max_body_bytes=100_000, max_rows=50), control)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:8000") as client:
        client.headers["accept-encoding"] = "identity"
        yield client


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "stderr"
    port = free_port()
    script = Path(small_server.__file__)
    limits = ["header_timeout_seconds=0.6", "body_timeout_seconds=0.8", f"max_body_bytes={LIMIT}"]
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, str(script), str(port), *limits], stderr=stderr)
    server = Server(port, process, log)
    for _ in range(400):
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{server.url}/healthz").status_code == 200:
                break
        time.sleep(0.05)
    yield server
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=PATIENCE) in (0, -signal.SIGTERM)
    assert b"Traceback" not in log.read_bytes()


@pytest.fixture
def server(started: Server) -> Iterator[Server]:
    """The server, which must have survived when the test is over."""
    yield started
    assert started.process.poll() is None
    assert httpx.post(f"{started.url}/v2/models/lr/infer", content=BODY).status_code == 200

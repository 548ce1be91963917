from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from crossfade.settings import HttpSettings
from tests.web.dataplane.hostile import BODY, LIMIT, Server, start
from tests.web.small_server import SmallPredictions, small_app, small_models


@pytest.fixture
def predictions() -> SmallPredictions:
    return SmallPredictions(small_models())


@pytest.fixture
async def client(predictions):
    app = small_app(HttpSettings(max_body_bytes=100_000, max_rows=50), predictions)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:8000") as client:
        client.headers["accept-encoding"] = "identity"
        yield client


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    limits = ["header_timeout_seconds=0.6", "body_timeout_seconds=0.8", f"max_body_bytes={LIMIT}"]
    with start(tmp_path_factory.mktemp("server") / "stderr", *limits) as server:
        yield server


@pytest.fixture
def server(started: Server) -> Iterator[Server]:
    """The server, which must have survived when the test is over."""
    yield started
    assert started.process.poll() is None
    assert httpx.post(f"{started.url}/v2/models/lr/infer", content=BODY).status_code == 200

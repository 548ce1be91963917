"""A gRPC server with small models, on the loop of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from crossfade.settings import GrpcSettings, HttpSettings, Settings
from crossfade.web.budget import BodyBudget
from tests.servers import free_port
from tests.web.grpc.calls import grpc
from tests.web.small_server import SmallPredictions, small_models

LIMIT = 200_000


@pytest.fixture
def predictions() -> SmallPredictions:
    return SmallPredictions(small_models())


@pytest.fixture
def limits() -> HttpSettings:
    return HttpSettings(max_body_bytes=LIMIT, max_inflight_body_bytes=3 * LIMIT, max_rows=50, body_timeout_seconds=1.0)


@pytest.fixture
def bodies(limits) -> BodyBudget:
    return BodyBudget(limits)


@pytest.fixture
async def server(predictions, limits, bodies) -> AsyncIterator[str]:
    """Its address."""
    from crossfade.web.grpc_server import GrpcServer

    settings = Settings(http=limits, grpc=GrpcSettings(port=free_port()))
    running = GrpcServer(predictions, settings, bodies)
    await running.start()
    yield f"127.0.0.1:{settings.grpc.port}"
    await running.stop(5)
    assert bodies.held_bytes == 0


@pytest.fixture
async def channel(server) -> AsyncIterator[object]:
    async with grpc.aio.insecure_channel(server) as channel:
        yield channel

"""Calls to a real runtime whose model hangs: what waits and what runs is let go at the caller's deadline."""

from __future__ import annotations

import asyncio

import pytest

from crossfade.serving.runtime import ServingRuntime
from crossfade.settings import GrpcSettings, Settings
from crossfade.web.budget import BodyBudget
from tests.servers import free_port
from tests.serving.fakes import Constant, Openings
from tests.traffic.support import FAST, move, open_registry, publish_all, soon
from tests.web.grpc.calls import call, grpc, pb, refused


@pytest.fixture
async def hanging(tmp_path, sqlite_url):
    """A runtime with a model that waits for its gate, and a channel to it."""
    from crossfade.web.grpc_server import GrpcServer

    registry = open_registry(tmp_path, sqlite_url)
    publish_all(registry, "m", "1.0.0")
    move(registry, "m", "1.0.0")
    openings, model = Openings(registry.backend), Constant(1.0)
    openings.plans["1.0.0"] = model
    rules = FAST.model_copy(update={"execution": "thread"})
    settings = Settings(home=tmp_path, serving=rules, grpc=GrpcSettings(port=free_port()))
    runtime = ServingRuntime(registry.backend, registry.backend.database, settings, openings)
    runtime.start()
    await asyncio.to_thread(runtime.await_ready, 20)
    server = GrpcServer(runtime.predictions, settings, BodyBudget(settings.http))
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{settings.grpc.port}") as channel:
        yield runtime, model, channel
    model.gate.set()
    await server.stop(5)
    await runtime.predictions.close()
    await asyncio.to_thread(runtime.close)
    registry.backend.database.close()


def ask(channel, **options):
    request = pb.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="FP64", shape=[2]).contents.fp64_contents.extend([1.0, 2.0])
    return call(channel, "ModelInfer", request, **options)


async def test_a_hanging_model_costs_its_callers_their_deadline_and_nothing_more(hanging):
    runtime, model, channel = hanging
    assert list((await ask(channel)).outputs[0].contents.fp64_contents) == [1.0, 1.0]
    model.gate.clear()
    errors = await asyncio.gather(*(refused(ask(channel, timeout=0.4)) for _ in range(5)))
    assert {error.code() for error in errors} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    slot = runtime.slots.find("m", "1.0.0")
    await soon(lambda: slot.leases == 0)
    model.gate.set()
    assert list((await ask(channel, timeout=10)).outputs[0].contents.fp64_contents) == [1.0, 1.0]
    assert slot.counters.seconds.count == 2


async def test_the_deadline_decides_whether_there_is_time(hanging):
    """The model is known to be slow, so that a call with little time is refused before it waits."""
    runtime, model, channel = hanging
    model.gate.clear()
    first = asyncio.ensure_future(ask(channel, timeout=20))
    slot = runtime.slots.find("m", "1.0.0")
    await soon(lambda: slot.batcher.busy)
    for _ in range(40):
        slot.batcher._cost.observe(2, 1.0)  # a second for a row or two
    others = [asyncio.ensure_future(ask(channel, timeout=20)) for _ in range(3)]
    await asyncio.sleep(0.3)
    error = await refused(ask(channel, timeout=1.5))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert int(dict(error.trailing_metadata())["retry-after"]) >= 1
    model.gate.set()
    for answer in await asyncio.gather(first, *others):
        assert answer.model_version == "1.0.0"


async def test_a_deadline_is_bounded_by_the_settings(hanging):
    runtime, model, channel = hanging
    runtime.slots.find("m", "1.0.0").longest_seconds = 0.3
    model.gate.clear()
    for options in ({"timeout": 20}, {"timeout": 1e9}, {"metadata": (("x-request-timeout-ms", "20000"),)}):
        async with asyncio.timeout(10):
            error = await refused(ask(channel, **options))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED

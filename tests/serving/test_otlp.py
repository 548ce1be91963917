"""Spans as a collector of OpenTelemetry receives them, from real predictions over a real connection."""

import asyncio
import itertools
import sys
import time

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from crossfade.core.identity import ModelRef
from crossfade.errors import (
    CrossfadeError,
    MalformedRequestError,
    MissingExtraError,
    ModelNotFoundError,
    PredictionError,
    QuotaExceededError,
    SettingsError,
)
from crossfade.serving import tracing
from crossfade.serving.holding import Terms
from crossfade.serving.otlp import open_sender
from crossfade.serving.runtime import ServingRuntime
from crossfade.serving.tracing import TraceContext
from crossfade.settings import CacheSettings, ModelRules, Settings, TelemetrySettings
from crossfade.web.calls import terms_of
from tests.serving.collector import attributes_of, collector
from tests.serving.fakes import X
from tests.traffic.support import FAST, eventually, move, publish_all

CALLER = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", sampled=True)


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(tracing, "SEND_SECONDS", 0.01)


@pytest.fixture
def collecting():
    with collector() as running:
        yield running


@pytest.fixture
def traced(registry, openings, collecting, tmp_path):
    """Starts a runtime whose traces are collected."""
    publish_all(registry, "m", "1.0.0")
    move(registry, "m", "1.0.0")
    started = []

    def start(endpoint=collecting.url, ratio=1.0, models=None, **changes):
        settings = Settings(
            home=tmp_path,
            serving=FAST.model_copy(update={"models": models or {}}),
            telemetry=TelemetrySettings(otlp_endpoint=endpoint, sample_ratio=ratio),
            **changes,
        )
        runtime = ServingRuntime(registry.backend, registry.backend.database, settings, openings)
        started.append(runtime)
        runtime.start()
        runtime.await_ready(10)
        return runtime

    yield start
    for runtime in started:
        runtime.close()


async def ask(runtime, trace=None, ref="m", tensors=X):
    with await runtime.predictions.hold(ModelRef.parse(ref)) as held:
        return await held.predict(tensors, None, Terms(trace=trace))


async def test_a_prediction_is_a_server_span_with_its_stages_below(traced, collecting):
    runtime = traced(ratio=0.0)
    before = time.time_ns()
    await ask(runtime, CALLER)
    eventually(lambda: len(collecting.spans()) == 4)
    after = time.time_ns()
    spans = {span.name: span for span in collecting.spans()}
    assert set(spans) == {"predict m", "queue", "preprocess", "predict"}
    server = spans["predict m"]
    assert server.kind == Span.SPAN_KIND_SERVER
    assert server.trace_id.hex() == CALLER.trace_id
    assert server.parent_span_id.hex() == CALLER.span_id
    assert server.status.code == Status.STATUS_CODE_UNSET
    slot = runtime.slots.find("m", "1.0.0")
    assert attributes_of(server) == {
        "crossfade.model.name": "m",
        "crossfade.model.version": "1.0.0",
        "crossfade.model.digest": slot.digest,
        "crossfade.fallback": False,
        "crossfade.snapshot.revision": runtime.follower.snapshot.revision,
        "crossfade.rows": 2,
        "crossfade.batch.rows": 2,
        "crossfade.batch.requests": 1,
    }
    assert len({span.span_id for span in spans.values()}) == 4
    times = [server.start_time_unix_nano]
    for name in ("queue", "preprocess", "predict"):
        span = spans[name]
        assert span.trace_id == server.trace_id
        assert span.parent_span_id == server.span_id
        times += [span.start_time_unix_nano, span.end_time_unix_nano]
    times.append(server.end_time_unix_nano)
    assert before - 5e6 <= times[0]
    assert times[-1] <= after + 5e6
    assert all(first <= second + 2000 for first, second in itertools.pairwise(times)), times
    path, headers = collecting.headers[0]
    assert path == "/v1/traces"
    assert headers["content-type" if "content-type" in headers else "Content-Type"] == "application/x-protobuf"
    resource, _ = collecting.resource_spans()[0]
    assert attributes_of(resource)["service.name"] == "crossfade"


async def test_requests_of_one_batch_are_traces_of_their_own(traced, collecting):
    runtime = traced()
    await asyncio.gather(*(ask(runtime) for _ in range(3)))
    eventually(lambda: len(collecting.spans()) == 12)
    servers = [span for span in collecting.spans() if span.name == "predict m"]
    assert len({span.trace_id for span in servers}) == 3
    assert {attributes_of(span)["crossfade.batch.requests"] for span in servers} == {3}
    assert {attributes_of(span)["crossfade.batch.rows"] for span in servers} == {6}
    assert {span.parent_span_id for span in servers} == {b""}


async def test_an_answer_from_the_cache_says_so_and_has_no_stages(traced, collecting):
    runtime = traced(cache=CacheSettings(mode="on"))
    await ask(runtime)
    await ask(runtime)
    eventually(lambda: len(collecting.spans()) == 5)
    results = [attributes_of(span).get("crossfade.cache.result") for span in collecting.spans() if span.kind == 2]
    assert results == ["computed", "memory"]
    await runtime.predictions.close()


async def test_a_failure_is_told(traced, collecting):
    runtime = traced()
    with pytest.raises(CrossfadeError):
        await ask(runtime, tensors={})

    async def fail():
        runtime.slots.find("m", "1.0.0").batcher.caller.predict = broken
        await ask(runtime)

    def broken(*_):
        raise PredictionError(ref="m:1.0.0", problem="no")

    with pytest.raises(PredictionError):
        await fail()
    eventually(lambda: len(collecting.spans()) == 2)
    assert [span.status.code for span in collecting.spans()] == [Status.STATUS_CODE_ERROR] * 2
    assert [attributes_of(span)["error.type"] for span in collecting.spans()] == [
        "signature_mismatch",
        PredictionError.code,
    ]


async def test_a_request_that_is_refused_or_cannot_be_read_is_a_span_too(traced, collecting):
    runtime = traced(ratio=0.0)
    with pytest.raises(ModelNotFoundError):
        await runtime.predictions.hold(ModelRef.parse("nothing"), Terms(trace=CALLER))
    held = await runtime.predictions.hold(ModelRef.parse("m"), Terms(trace=CALLER))
    with pytest.raises(MalformedRequestError), held:
        raise MalformedRequestError(problem="no JSON")
    with pytest.raises(ModelNotFoundError):
        await runtime.predictions.hold(ModelRef.parse("nothing"))
    eventually(lambda: len(collecting.spans()) == 2)
    unknown, unreadable = collecting.spans()
    assert (unknown.name, attributes_of(unknown)) == ("predict", {"error.type": "model_not_found"})
    assert unreadable.name == "predict m"
    assert attributes_of(unreadable)["error.type"] == "malformed_request"
    assert attributes_of(unreadable)["crossfade.model.version"] == "1.0.0"
    for span in (unknown, unreadable):
        assert span.trace_id.hex() == CALLER.trace_id
        assert span.parent_span_id.hex() == CALLER.span_id
        assert span.status.code == Status.STATUS_CODE_ERROR


async def test_a_request_above_the_quota_is_a_span_too(traced, collecting):
    runtime = traced(ratio=0.0, models={"m": ModelRules(max_requests_per_second=0.02)})
    await ask(runtime)
    with pytest.raises(QuotaExceededError):
        await runtime.predictions.hold(ModelRef.parse("m"), Terms(trace=CALLER))
    eventually(lambda: len(collecting.spans()) == 1)
    (span,) = collecting.spans()
    assert (span.trace_id.hex(), attributes_of(span)["error.type"]) == (CALLER.trace_id, "quota_exceeded")


@pytest.mark.parametrize(
    ("state", "sent"), [("rojo=00f067aa0ba902b7,congo=t61", "rojo=00f067aa0ba902b7,congo=t61"), ("not a state", "")]
)
async def test_the_state_of_the_trace_is_handed_on(traced, collecting, state, sent):
    runtime = traced(ratio=0.0)
    header = f"00-{CALLER.trace_id}-{CALLER.span_id}-01".encode()
    await ask(runtime, terms_of({b"traceparent": header, b"tracestate": state.encode()}).trace)
    eventually(lambda: len(collecting.spans()) == 4)
    assert {span.trace_state for span in collecting.spans()} == {sent}


async def test_what_is_not_sampled_is_not_sent(traced, collecting):
    runtime = traced(ratio=0.0)
    await ask(runtime)
    await ask(runtime, TraceContext(CALLER.trace_id, CALLER.span_id, sampled=False))
    await ask(runtime, CALLER)
    eventually(lambda: 'crossfade_traces_total{result="sent"} 1.0' in runtime.predictions.metrics().decode())
    assert len(collecting.spans()) == 4


async def test_predictions_go_on_while_the_collector_hangs_or_refuses_or_is_away(traced, collecting):
    collecting.gate.clear()
    hanging, away = traced(), traced("http://127.0.0.1:9")
    for runtime in (hanging, away):
        for _ in range(20):
            await asyncio.wait_for(ask(runtime), 5)
    collecting.status = 400
    collecting.gate.set()
    eventually(lambda: 'crossfade_traces_total{result="failed"}' in away.predictions.metrics().decode())


async def test_without_an_address_nothing_looks_at_predictions(registry, start):
    publish_all(registry, "m", "1.0.0")
    move(registry, "m", "1.0.0")
    runtime = start()
    runtime.await_ready(10)
    with await runtime.predictions.hold(ModelRef.parse("m")) as held:
        assert type(held).__name__ == "HeldVersion"
    assert "crossfade_traces_total{" not in runtime.predictions.metrics().decode()


@pytest.mark.parametrize("endpoint", ["localhost:4318", "grpc://localhost:4317", "/v1/traces"])
def test_an_address_that_is_none_is_refused(endpoint):
    with pytest.raises(SettingsError, match="otlp_endpoint"):
        open_sender(endpoint)


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(MissingExtraError) as caught:
        open_sender("http://127.0.0.1:4318")
    assert "crossfade[otel]" in caught.value.hint


def test_a_whole_address_is_taken_as_it_is(collecting):
    trace = tracing.Trace(None, time.monotonic())
    trace.facts = {"crossfade.model.name": "m"}
    trace.ended_at = time.monotonic()
    assert open_sender(f"{collecting.url}/v1/traces")([trace])
    assert collecting.headers[0][0] == "/v1/traces"

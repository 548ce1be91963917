"""Traces as OpenTelemetry spans, sent over OTLP/HTTP. The only module that knows OpenTelemetry (extra `otel`).

A prediction is one server span; under it, what the model did for it: `queue`, `preprocess`, `predict`. What happens to
a batch happens to every trace in it, with the size of the batch as attributes. What is refused has no stages.

Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import crossfade
from crossfade.errors import MissingExtraError, SettingsError
from crossfade.serving.tracing import Send, Trace

SEND_TIMEOUT_SECONDS = 5.0
"""For one batch, its repetitions included."""


def open_sender(endpoint: str) -> Send:
    """Return what sends traces to a collector. Headers for it come from `OTEL_EXPORTER_OTLP_HEADERS`.

    Args:
        endpoint: Its base address, such as `http://localhost:4318`.

    Raises:
        SettingsError: That is no HTTP address.
        MissingExtraError: OpenTelemetry is not installed.
    """
    if not endpoint.startswith(("http://", "https://")):
        raise SettingsError(field="telemetry.otlp_endpoint", problem="it does not begin with http:// or https://")
    try:
        exporters: Any = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        sdk: Any = import_module("opentelemetry.sdk.trace")
        resources: Any = import_module("opentelemetry.sdk.resources")
        scopes: Any = import_module("opentelemetry.sdk.util.instrumentation")
    except ModuleNotFoundError as error:
        package = "opentelemetry-exporter-otlp-proto-http"
        raise MissingExtraError(feature="sending traces", package=package, extra="otel") from error
    # it would log every failure; `Tracer` counts them, and says once that there are some
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    logging.getLogger("opentelemetry.trace").setLevel(logging.CRITICAL)  # clients may send any `tracestate`
    address = endpoint if endpoint.endswith("/v1/traces") else f"{endpoint.rstrip('/')}/v1/traces"
    exporter = exporters.OTLPSpanExporter(endpoint=address, timeout=SEND_TIMEOUT_SECONDS)
    about = {"service.name": "crossfade", "service.version": crossfade.__version__}
    common = {
        "resource": resources.Resource(about).merge(resources.OTELResourceDetector().detect()),
        "instrumentation_scope": scopes.InstrumentationScope("crossfade", crossfade.__version__),
    }

    def send(traces: list[Trace]) -> bool:
        spans = [sdk.ReadableSpan(**common, **span) for trace in traces for span in _spans(trace)]
        return bool(exporter.export(spans).value == 0)

    return send


def _spans(trace: Trace) -> Iterator[dict[str, Any]]:
    """Yield the arguments of every span of a trace."""
    api: Any = import_module("opentelemetry.trace")
    status: Any = import_module("opentelemetry.trace.status")
    offset = time.time() - time.monotonic()
    # the library refuses what its standard forbids
    state = api.TraceState.from_header([trace.context.state]) if trace.context and trace.context.state else None
    context = _context(api, trace.trace_id, trace.span_id, state)
    caller = None if trace.context is None else _context(api, trace.trace_id, trace.context.span_id, remote=True)
    attributes: dict[str, str | bool | int] = dict(trace.facts)
    if trace.cache:
        attributes["crossfade.cache.result"] = trace.cache
    if trace.batch_rows:
        attributes |= {"crossfade.batch.rows": trace.batch_rows, "crossfade.batch.requests": trace.batch_requests}
    if trace.error:
        attributes["error.type"] = trace.error
    yield {
        # names that clients make up would be as many as they like
        "name": f"predict {trace.facts.get('crossfade.model.name', '')}".rstrip(),
        "context": context,
        "parent": caller,
        "kind": api.SpanKind.SERVER,
        "attributes": attributes,
        "status": status.Status(status.StatusCode.ERROR if trace.error else status.StatusCode.UNSET),
        "start_time": _nanoseconds(trace.started_at + offset),
        "end_time": _nanoseconds(trace.ended_at + offset),
    }
    for name, start, end in _stages(trace):
        yield {
            "name": name,
            "context": _context(api, trace.trace_id, os.urandom(8).hex(), state),
            "parent": context,
            "start_time": _nanoseconds(start + offset),
            "end_time": _nanoseconds(end + offset),
        }


def _stages(trace: Trace) -> Iterator[tuple[str, float, float]]:
    """Yield the stages of the call that answered a prediction, if one did: name, start, end."""
    if trace.batch_rows:
        began = trace.returned_at - trace.seconds
        yield "queue", trace.arrived_at, began
        yield "preprocess", began, began + trace.preprocess_seconds
        yield "predict", began + trace.preprocess_seconds, trace.returned_at


def _context(api: Any, trace_id: str, span_id: str, state: Any = None, *, remote: bool = False) -> Any:
    flags = api.TraceFlags(api.TraceFlags.SAMPLED)
    return api.SpanContext(int(trace_id, 16), int(span_id, 16), remote, flags, state)


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)

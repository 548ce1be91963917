"""A collector of OpenTelemetry, as small as it can be: it understands OTLP/HTTP and keeps what it is sent."""

from __future__ import annotations

import gzip
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector:
    """Attributes: `url`; `requests`, all that arrived; `status`, what it answers; `gate`, closed: it answers nobody."""

    def __init__(self):
        self.requests = []
        self.headers = []
        self.status = 200
        self.gate = threading.Event()
        self.gate.set()

    def spans(self):
        return [span for _, span in self.resource_spans()]

    def resource_spans(self):
        return [
            (resource.resource, span)
            for request in list(self.requests)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


def attributes_of(thing):
    """Return the attributes of a span or resource as plain values."""
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in thing.attributes}


@contextmanager
def collector():
    """Run a collector on a free port."""
    kept = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            kept.gate.wait(30)
            kept.headers.append((self.path, dict(self.headers)))
            if kept.status == 200:
                kept.requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(kept.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    kept.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield kept
    finally:
        kept.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()

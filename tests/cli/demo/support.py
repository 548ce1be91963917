"""A server that answers like Crossfade's, as well or as badly as a test wants."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from crossfade.cli.demo.board import Board, Standing
from crossfade.cli.demo.traffic import Answer
from crossfade.solutions.flights.quality import measure
from crossfade.solutions.flights.replay import Question

NOON = datetime(2013, 12, 1, 12, tzinfo=UTC)


def some_questions(count):
    return [
        Question(
            {"carrier": "UA", "hour": i % 24}, NOON + timedelta(minutes=i), NOON + timedelta(minutes=i + 90), False
        )
        for i in range(count)
    ]


def an_answer(due=0.0, seconds=0.01, version="1.0.0", number=0):
    return Answer(some_questions(number + 1)[number], version, 0.25, due, seconds)


def a_board(**changes):
    quality = measure([0, 1, 0, 1], [0.1, 0.7, 0.4, 0.6])
    facts = {
        "clock": NOON,
        "asked": 1200,
        "errors": 0,
        "p50_ms": 5.25,
        "p99_ms": 17.0,
        "answering": "1.1.0",
        "standings": (Standing("1.0.0", 800, quality), Standing("1.1.0", 400, None)),
    }
    return Board(**(facts | changes))


def good(version="1.0.0"):
    return 200, {"model": "flight_delay", "version": version, "classes": [0, 1], "probabilities": [[0.75, 0.25]]}


@contextmanager
def fake_server(reply=good, delay=0.0):
    """Run a server on a free port; `reply` gives status and body, `None` hangs up without an answer."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            time.sleep(delay)
            answer = reply()
            if answer is None:
                self.close_connection = True
                self.connection.close()
                return
            status, document = answer
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

        def handle(self):
            with suppress(OSError, ValueError):
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.bodies = []
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{server.server_port}/api/v1/predict/flight_delay"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

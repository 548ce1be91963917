"""A server process of its own with short timeouts, and raw connections to it."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.web import small_server

LIMIT = 10 * 2**20
PATIENCE = 20.0
MODERATE = 64 * 2**20
GET = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
INFER = b"POST /v2/models/lr/infer HTTP/1.1\r\nHost: localhost\r\n"
BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 30], "datatype": "FP64", "data": [0] * 30}]}).encode()


@dataclass
class Server:
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def exchange(self, *pieces: bytes, pause: float = 0.0) -> bytes:
        """Send pieces, then read until the server closes the connection."""
        with self.connect() as connection:
            with contextlib.suppress(ConnectionError):
                for number, piece in enumerate(pieces):
                    if number:
                        time.sleep(pause)
                    connection.sendall(piece)
            return read_all(connection)

    def memory(self) -> int:
        return psutil.Process(self.process.pid).memory_info().rss

    @contextlib.contextmanager
    def may_take(self, limit: int) -> Iterator[None]:
        """Check that the process does not need `limit` bytes more at any moment of the block."""
        process = Path(f"/proc/{self.process.pid}")
        (process / "clear_refs").write_text("5")  # forgets the peak so far
        before = self.memory()
        yield
        peak = next(line for line in (process / "status").read_text().splitlines() if line.startswith("VmHWM"))
        assert int(peak.split()[1]) * 1024 - before < limit


@contextlib.contextmanager
def start(log: Path, *settings: str) -> Iterator[Server]:
    """Run a small server until the block ends; it must end in order and without a traceback."""
    port = free_port()
    with log.open("wb") as stderr:
        script = Path(small_server.__file__)
        process = subprocess.Popen([sys.executable, str(script), str(port), *settings], stderr=stderr)
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


def read_all(connection: socket.socket) -> bytes:
    pieces = []
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def assert_refused(answer: bytes, *statuses: int) -> str:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 "), answer[:200]
    assert int(head.split()[1]) in statuses
    assert b"Traceback" not in body
    error = json.loads(body)
    return error["error"] if "error" in error else error["detail"]

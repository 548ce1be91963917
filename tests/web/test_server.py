"""Serving processes: readiness, draining, signals, workers."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from crossfade.client import Client
from crossfade.core.processors import available_processors
from crossfade.errors import RemoteControlError, SettingsError
from crossfade.settings import HttpSettings
from crossfade.web.server import bind, url_of
from tests import control

BODY = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]}
LONG_ENOUGH = {"CROSSFADE_SERVING__DRAIN_SECONDS": "3"}
"""To be seen draining by clients on a busy machine."""


class Load(threading.Thread):
    """Sends requests one after the other, as a client behind a load balancer does: until `/readyz` says no."""

    def __init__(self, url):
        super().__init__(daemon=True)
        self.url = url
        self.answered = 0
        self.failed = []

    def run(self):
        with httpx.Client(base_url=self.url, timeout=20) as http:
            try:
                while http.get("/readyz").status_code == 200:
                    answer = http.post("/v2/models/tiny/infer", json=BODY)
                    if answer.status_code == 200:
                        self.answered += 1
                    else:
                        self.failed.append(answer.text)
            except httpx.TransportError as error:
                self.failed.append(repr(error))


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except OSError:
        return False


def workers_of(pid):
    """The serving processes below a supervisor."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [
        child
        for child in children
        if b"multiprocessing.spawn" in Path(f"/proc/{child}/cmdline").read_bytes()
        and b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


@pytest.fixture(scope="module")
def home_with_model(tmp_path_factory):
    """A registry whose model `tiny` has a champion."""
    return control.registered_home(tmp_path_factory.mktemp("server"), "1.0.0")


# --- one process ---------------------------------------------------------------------------------------------------


def test_sigterm_under_load_fails_no_request(home_with_model):
    with control.running_server(home_with_model, **LONG_ENOUGH) as server:
        loads = [Load(server.url) for _ in range(8)]
        for load in loads:
            load.start()
        wait_until(lambda: all(load.answered > 5 for load in loads))
        assert server.stop(signal.SIGTERM) == 0
        for load in loads:
            load.join(30)
    assert [load.failed for load in loads] == [[]] * len(loads)
    log = server.log.read_text()
    assert '"event": "draining"' in log
    assert '"event": "stopped"' in log


def test_while_draining_it_answers_but_is_not_ready(home_with_model):
    with control.running_server(home_with_model, CROSSFADE_SERVING__DRAIN_SECONDS="3") as server:
        with httpx.Client(base_url=server.url) as http:
            assert "connection" not in http.get("/readyz").headers
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: http.get("/readyz").status_code == 503)
            answer = http.post("/v2/models/tiny/infer", json=BODY)
            assert answer.status_code == 200
            assert answer.headers["connection"] == "close", "the client shall come back elsewhere"
        assert server.process.wait(30) == 0


def test_a_request_in_flight_is_finished(tmp_path):
    """An upload that is half sent when the process is asked to stop completes."""
    import hashlib

    data = b"x" * 1000
    with control.running_server(tmp_path / "home", CROSSFADE_SERVING__DRAIN_SECONDS="0.1") as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            path = f"/api/v1/blobs/{hashlib.sha256(data).hexdigest()}?holder=0123456789"
            head = f"PUT {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(data)}\r\n\r\n"
            connection.sendall(head.encode() + data[:500])
            time.sleep(0.2)
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: _refuses(host, int(port)))
            connection.sendall(data[500:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        assert server.process.wait(30) == 0


def _refuses(host, port):
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return True
    return False


def test_a_second_sigterm_ends_it_at_once(tmp_path):
    with control.running_server(tmp_path / "home", CROSSFADE_SERVING__DRAIN_SECONDS="60") as server:
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "draining" in server.log.read_text())
        assert server.stop(signal.SIGTERM) == 143


def test_ctrl_c_is_quick_and_clean(tmp_path):
    with control.running_server(tmp_path / "home", CROSSFADE_SERVING__DRAIN_SECONDS="60") as server:
        assert server.stop(signal.SIGINT) == 0
    log = server.log.read_text()
    assert "Traceback" not in log
    assert '"event": "stopped"' in log
    assert "draining" not in log


def test_every_line_of_the_log_is_json(home_with_model):
    import json

    with control.running_server(home_with_model) as server:
        with Client(server.url) as client:
            client.move_alias("tiny", "challenger", "1.0.0", reason="tests")
            client.predict("tiny", [[1.0, 2.0]])
        server.stop()
    lines = [line for line in server.log.read_text().splitlines() if not line.startswith("hint:")]
    events = [json.loads(line)["event"] for line in lines]
    assert events.count("alias.move") == 1
    assert "ready" in events
    assert not [event for event in events if "infer" in event], "predictions are not logged"


def test_a_taken_port_is_an_error_with_its_address(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = subprocess.run(
            [sys.executable, "-m", "crossfade", "serve", "--port", str(port)],
            env=control.environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert result.returncode == 2
    assert f"error: setting `http.port`: 127.0.0.1:{port} cannot be used" in result.stderr
    assert "\nhint: " in result.stderr


def test_a_foreign_address_cannot_be_bound():
    with pytest.raises(SettingsError, match=r"192\.0\.2\.1"):
        bind(HttpSettings(host="192.0.2.1", port=0))


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "http://127.0.0.1:"), ("0.0.0.0", "http://127.0.0.1:")])
def test_the_announced_address_is_reachable(host, shown):
    with bind(HttpSettings(host=host, port=0)) as listener:
        url = url_of(listener)
        assert url.startswith(shown)
        listener.listen()
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=5).close()


def test_who_asks_before_anybody_answers_is_refused_and_not_kept_waiting():
    with bind(HttpSettings(port=0)) as bound, pytest.raises(ConnectionRefusedError):
        socket.create_connection(bound.getsockname(), timeout=5)


def test_a_second_server_is_refused_while_the_first_still_loads():
    with bind(HttpSettings(port=0)) as first, pytest.raises(SettingsError, match="cannot be used"):
        bind(HttpSettings(port=first.getsockname()[1]))


def test_connections_of_a_server_that_has_ended_are_no_hindrance():
    with socket.create_server(("127.0.0.1", 0)) as former:
        client = socket.create_connection(former.getsockname())
        accepted, address = former.accept()[0], former.getsockname()
        accepted.close()  # who closes first keeps the address in TIME_WAIT
        client.close()
    with bind(HttpSettings(port=address[1])) as bound:
        bound.listen()
        socket.create_connection(address, timeout=5).close()


def test_of_two_that_took_an_address_at_the_same_moment_the_later_says_so(tmp_path):
    script = """
import socket, sys
from crossfade.errors import SettingsError
from crossfade.settings import HttpSettings, Settings
from crossfade.web.server import bind, serve

first = bind(HttpSettings(port=0))
first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
second = socket.socket()
second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
second.bind(first.getsockname())
first.listen()
try:
    serve(Settings.load(), second, lambda: None)
except SettingsError as error:
    sys.exit(error.message)
"""
    command, env = [sys.executable, "-c", script], control.environment(tmp_path)
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert re.search(r"`http.port`: 127.0.0.1:\d+ cannot be used: Address already in use\n$", done.stderr)


def test_ipv6_addresses_are_bracketed():
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        listener = bind(HttpSettings(host="::1", port=0))
    except SettingsError:
        pytest.skip("this machine has no IPv6 loopback")
    with listener:
        assert url_of(listener).startswith("http://[::1]:")


# --- other machines ------------------------------------------------------------------------------------------------


def seen_from_elsewhere(server):
    """The address of a server under which this machine looks like another one to it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing, but chooses the address to send from
        except OSError:
            pytest.skip("this machine has no address besides loopback")
        return f"http://{probe.getsockname()[0]}:{server.url.rpartition(':')[2]}"


def test_other_machines_predict_but_change_nothing(home_with_model):
    with control.running_server(home_with_model, "--host", "0.0.0.0") as server:
        assert "other machines may ask for predictions" in server.log.read_text()
        with Client(seen_from_elsewhere(server)) as client:
            assert client.predict("tiny", [[1.0, 2.0]]).tolist() == [[3.0]]
            with pytest.raises(RemoteControlError):
                client.move_alias("tiny", "challenger", "1.0.0")
            with pytest.raises(RemoteControlError):
                client.collect_garbage()
            unload = client._http.post("/v2/repository/models/tiny/unload")
            assert unload.status_code == 403
        with Client(server.url) as client:
            client.move_alias("tiny", "challenger", "1.0.0")


def test_other_machines_change_things_when_they_may(home_with_model):
    allowed = {"CROSSFADE_HTTP__ALLOW_REMOTE_CONTROL": "true", "CROSSFADE_HTTP__HOST": "0.0.0.0"}
    with control.running_server(home_with_model, **allowed) as server:
        assert "every machine that reaches this address may change" in server.log.read_text()
        with Client(seen_from_elsewhere(server)) as client:
            client.move_alias("tiny", "challenger", "1.0.0")


# --- several processes ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_workers_divide_the_processors(tmp_path):
    environment = {"OMP_NUM_THREADS": "", "PATH": os.environ["PATH"]}
    with control.running_server(tmp_path / "home", "--workers", "2", **environment) as server:
        expected = f"OMP_NUM_THREADS={max(1, available_processors() // 2)}".encode()
        workers = workers_of(server.process.pid)
        assert len(workers) == 2
        for worker in workers:
            assert expected in Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")


def test_workers_share_the_port_and_are_replaced_when_they_die(home_with_model):
    with control.running_server(home_with_model, "--workers", "2") as server:
        first = workers_of(server.process.pid)
        assert len(first) == 2
        with Client(server.url) as client:
            wait_until(lambda: len(client.status().processes) == 2)
            assert {process.pid for process in client.status().processes} == set(first)
        os.kill(first[0], signal.SIGKILL)
        wait_until(lambda: len(set(workers_of(server.process.pid)) - {first[0]}) == 2)
        assert httpx.post(f"{server.url}/v2/models/tiny/infer", json=BODY).status_code == 200
        assert "worker_died" in server.log.read_text()
        last = workers_of(server.process.pid)
        assert server.stop(signal.SIGTERM) == 0
        assert not any(is_running(pid) for pid in last)
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)


@pytest.mark.slow
def test_sigterm_under_load_fails_no_request_of_any_worker(home_with_model):
    with control.running_server(home_with_model, "--workers", "2", **LONG_ENOUGH) as server:
        loads = [Load(server.url) for _ in range(6)]
        for load in loads:
            load.start()
        wait_until(lambda: all(load.answered > 5 for load in loads))
        assert server.stop(signal.SIGTERM) == 0
        for load in loads:
            load.join(30)
    assert [load.failed for load in loads] == [[]] * len(loads)


@pytest.mark.slow
def test_a_second_signal_kills_the_workers(tmp_path):
    with control.running_server(tmp_path / "home", "--workers", "2", CROSSFADE_SERVING__DRAIN_SECONDS="60") as server:
        workers = workers_of(server.process.pid)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.log.read_text().count("draining") == 2)
        server.stop(signal.SIGTERM)
        assert not any(is_running(pid) for pid in workers)


@pytest.mark.slow
def test_ctrl_c_reaches_the_workers_once(tmp_path):
    with control.running_server(tmp_path / "home", "--workers", "2", CROSSFADE_SERVING__DRAIN_SECONDS="60") as server:
        assert server.stop(signal.SIGINT) == 0
    log = server.log.read_text()
    assert log.count('"event": "stopped"') == 2
    assert "Traceback" not in log


@pytest.mark.slow
def test_workers_end_when_their_supervisor_is_gone(tmp_path):
    with control.running_server(tmp_path / "home", "--workers", "2") as server:
        workers = workers_of(server.process.pid)
        server.process.kill()
        server.process.wait(10)
        wait_until(lambda: not any(is_running(pid) for pid in workers))
    assert "orphaned" in server.log.read_text()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_cannot_start_ends_with_the_code_of_its_error(tmp_path, workers):
    result = subprocess.run(
        [sys.executable, "-m", "crossfade", "serve", "--port", "0", "--workers", workers],
        env=control.environment(tmp_path, CROSSFADE_STORAGE__DATABASE_URL="postgresql://127.0.0.1:1/nowhere"),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert result.returncode == 7
    assert "database" in result.stderr
    assert "Traceback" not in result.stderr

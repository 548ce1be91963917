from __future__ import annotations

import contextlib
import http.server
import os
import signal
import socket
import socketserver
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import httpx
import pytest

from crossfade.cli.demo import server
from crossfade.cli.demo.server import MARKER, own_home, running_server
from crossfade.errors import ServerUnreachableError, SettingsError


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Make a script run in place of `python -m crossfade serve`."""

    def install(body):
        script = tmp_path / "stand-in"
        script.write_text(f"#!{sys.executable}\n" + textwrap.dedent(body))
        script.chmod(0o755)
        monkeypatch.setattr(server.sys, "executable", str(script))

    return install


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


READY = """
    import os, pathlib, signal, sys

    home = pathlib.Path(os.environ["CROSSFADE_HOME"])
    (home / "environment").write_text(repr({k: v for k, v in os.environ.items() if k.startswith("CROSSFADE_")}))
    (home / "pid").write_text(str(os.getpid()))
    (home / "arguments").write_text(" ".join(sys.argv[1:]))
    signal.signal(signal.SIGTERM, {on_terminate})
    print("crossfade is ready at http://127.0.0.1:" + os.environ["CROSSFADE_HTTP__PORT"], flush=True)
    while True:
        signal.pause()
"""
PORT = 17  # nobody listens: only a stand-in is told of it


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# --- its folder ---


def test_a_new_folder_is_made_and_marked(tmp_path):
    with own_home(tmp_path / "a" / "b") as home:
        assert [entry.name for entry in home.iterdir()] == [MARKER]


def test_what_an_earlier_demo_left_is_removed(tmp_path):
    with own_home(tmp_path) as home:
        (home / "crossfade.db").write_bytes(b"x")
        (home / "blobs").mkdir()
        (home / "blobs" / "one").write_bytes(b"x")
        (home / "link").symlink_to(home / "blobs")
    with own_home(tmp_path) as home:
        assert [entry.name for entry in home.iterdir()] == [MARKER]


def test_what_a_link_points_to_is_left_alone(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("x")
    with own_home(tmp_path / "home") as home:
        (home / "link").symlink_to(elsewhere)
    with own_home(tmp_path / "home"):
        assert (elsewhere / "precious").exists()


def test_a_folder_of_somebody_else_is_never_emptied(tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(SettingsError) as caught, own_home(tmp_path):
        pass
    assert "is not a demo's folder" in caught.value.message
    assert (tmp_path / "thesis.txt").exists()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(SettingsError), own_home(tmp_path / "file"):
        pass


def test_two_demos_do_not_share_a_folder(tmp_path):
    with own_home(tmp_path), pytest.raises(SettingsError) as caught, own_home(tmp_path):
        pass
    assert "another demo is running" in caught.value.message


# --- its port ---


def crossfade_url(home):
    """Start the real server on any port that it chooses, and return where it and `/readyz` answer."""
    with running_server(home, None, 1) as url:
        assert httpx.get(f"{url}/readyz").status_code == 200
        return url


def quiet_port():
    """Listen on a port that nobody is given who asks for any, so that it stays free afterwards."""
    for port in range(23_000, 24_000):
        with contextlib.suppress(OSError):
            return socket.create_server(("127.0.0.1", port))
    pytest.fail("no port is free")


def test_the_usual_port_when_it_is_free_and_another_when_it_is_not(home, monkeypatch):
    with quiet_port() as taken:
        usual = taken.getsockname()[1]
        monkeypatch.setattr(server, "PREFERRED_PORT", usual)
        assert not crossfade_url(home).endswith((f":{usual}", ":0"))
    assert crossfade_url(home) == f"http://127.0.0.1:{usual}"


def test_a_port_that_was_asked_for_and_is_taken_is_refused(home):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerUnreachableError) as caught, running_server(home, port, 1):
            pass
    assert f"error: setting `http.port`: 127.0.0.1:{port} cannot be used" in caught.value.message


class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()


def test_a_server_of_somebody_else_at_the_port_is_not_taken_for_ours(stand_in, home):
    """It would be asked, and would end without a word to us; ours has not found out yet that the port is taken."""
    stand_in("""
        import sys, time
        time.sleep(0.5)
        print("error: it cannot be used", file=sys.stderr)
        sys.exit(2)
    """)
    with socketserver.TCPServer(("127.0.0.1", 0), Ready) as theirs:
        threading.Thread(target=theirs.serve_forever, args=(0.01,)).start()
        try:
            with (
                pytest.raises(ServerUnreachableError),
                running_server(home, theirs.server_address[1], 1),
            ):
                pass
        finally:
            theirs.shutdown()


# --- its process ---


def test_the_server_sees_none_of_the_users_settings(stand_in, home, monkeypatch):
    monkeypatch.setenv("CROSSFADE_STORAGE__DATABASE_URL", "postgresql://precious")
    stand_in(READY.replace("{on_terminate}", "signal.SIG_DFL"))
    with running_server(home, PORT, 3) as url:
        assert url == f"http://127.0.0.1:{PORT}"
        environment = (home / "environment").read_text()
        assert (home / "arguments").read_text() == "-m crossfade serve"
    assert "precious" not in environment
    for value in (str(home), str(PORT), "'3'", os.devnull, "'CROSSFADE_EXPERIMENTS__POLL_SECONDS': '1.0'"):
        assert value in environment


def test_the_server_is_stopped_on_the_way_out(stand_in, home):
    stand_in(READY.replace("{on_terminate}", "signal.SIG_DFL"))
    with running_server(home, PORT, 1):
        pid = int((home / "pid").read_text())
        assert is_alive(pid)
    assert not is_alive(pid)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_the_server_is_stopped_whatever_happens(stand_in, home, error):
    stand_in(READY.replace("{on_terminate}", "signal.SIG_DFL"))
    with pytest.raises(error), running_server(home, PORT, 1):
        raise error
    assert not is_alive(int((home / "pid").read_text()))


def test_a_server_that_does_not_want_to_stop_is_killed(stand_in, home, monkeypatch):
    monkeypatch.setattr(server, "STOP_SECONDS", 0.3)
    stand_in(READY.replace("{on_terminate}", "signal.SIG_IGN"))
    with running_server(home, PORT, 1):
        pid = int((home / "pid").read_text())
    assert not is_alive(pid)


def test_ctrl_c_does_not_reach_the_server_by_itself(stand_in, home):
    stand_in(READY.replace("{on_terminate}", "signal.SIG_DFL"))
    with running_server(home, PORT, 1):
        pid = int((home / "pid").read_text())
        assert os.getpgid(pid) != os.getpgrp()


def test_a_server_that_cannot_start_is_reported_with_its_last_words(stand_in, home):
    stand_in("""
        import sys
        print("first", file=sys.stderr)
        print("error: port 1 cannot be used", file=sys.stderr)
        sys.exit(2)
    """)
    with pytest.raises(ServerUnreachableError) as caught, running_server(home, PORT, 1):
        pass
    assert "error: port 1 cannot be used" in caught.value.message
    assert "server.log" in caught.value.message


def test_a_server_that_says_nothing_and_is_never_ready(stand_in, home, monkeypatch):
    monkeypatch.setattr(server, "START_SECONDS", 0.5)
    stand_in("""
        import os, pathlib, time
        pathlib.Path(os.environ["CROSSFADE_HOME"], "pid").write_text(str(os.getpid()))
        time.sleep(60)
    """)
    with pytest.raises(ServerUnreachableError) as caught, running_server(home, PORT, 1):
        pass
    assert "it says nothing" in caught.value.message
    pid = home / "pid"
    assert not pid.exists() or not is_alive(int(pid.read_text()))


def test_stopping_is_by_pid(stand_in, home, monkeypatch):
    sent = []
    real = subprocess.Popen.send_signal
    monkeypatch.setattr(subprocess.Popen, "send_signal", lambda self, number: (sent.append(number), real(self, number)))
    stand_in(READY.replace("{on_terminate}", "signal.SIG_DFL"))
    with running_server(home, PORT, 1):
        assert Path(home / "server.log").exists()
    assert sent == [signal.SIGTERM]

"""The processes of a measured server: who is counted, and what is left of them."""

import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks.harness import Result, cpu_seconds, family_of, free_port, loop_seconds, memory_bytes, server

PROGRAM = """
import http.server, json, subprocess, sys, threading
child = [sys.executable, "-c", "import time\\nfor n in range(5_000_000): pass\\ntime.sleep(60)"]
children = []
starter = threading.Thread(target=lambda: (children.append(subprocess.Popen(child)), threading.Event().wait()))
starter.daemon = True
starter.start()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps([process.pid for process in children]).encode()
        self.send_response(200 if children else 503)
        self.end_headers()
        self.wfile.write(body)

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_children_of_any_thread_count_and_none_is_left_behind(tmp_path):
    port = free_port()
    log = tmp_path / "log"
    with server(["-c", PROGRAM, str(port)], f"http://127.0.0.1:{port}/", log=log, python=sys.executable) as pid:
        family = family_of(pid)
        assert family[0] == pid
        assert len(family) == 2
        assert memory_bytes(pid) > memory_bytes(family[1]) > 0
        deadline = time.monotonic() + 30
        while not (childs := cpu_seconds(family[1])):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert cpu_seconds(pid) >= childs
    assert '"GET / HTTP/1.1" 200' in log.read_text()
    deadline = time.monotonic() + 10
    while any(is_alive(member) for member in family):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except OSError:
        return False


def test_the_loop_is_the_first_thread_and_no_other():
    before, others = loop_seconds(os.getpid()), threading.Thread(target=burn)
    others.start()
    others.join()
    between = loop_seconds(os.getpid())
    burn()
    after = loop_seconds(os.getpid())
    assert after - between > between - before


def burn():
    until = time.thread_time() + 0.2
    while time.thread_time() < until:
        pass


def test_a_server_that_ends_at_once_is_told():
    with (
        pytest.raises(RuntimeError, match="ended with 3"),
        server(["-c", "raise SystemExit(3)"], f"http://127.0.0.1:{free_port()}/"),
    ):
        pass


def test_a_process_that_is_gone_costs_nothing():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert cpu_seconds(child) == memory_bytes(child) == 0


@pytest.mark.parametrize(
    ("result", "ratio", "met"),
    [
        (Result("a", 3.0, "us", 1.0, 3.0), 3.0, True),
        (Result("a", 3.0, "us", 1.0, 2.9), 3.0, False),
        (Result("a", 3.0, "us", goal=2.0), None, False),
        (Result("a", 3.0, "us"), None, None),
    ],
)
def test_a_goal_is_about_the_ratio_where_there_is_one(result, ratio, met):
    line = json.loads(result.line())
    assert (line["ratio"], line["met"]) == (ratio, met)

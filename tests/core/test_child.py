"""Children that crash, hang, swallow memory or lie: their parent goes on, and says in words what happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crossfade.core.child import Limits, read_frames
from crossfade.errors import MalformedRequestError
from tests.traffic.support import eventually

CHILD = "tests.core.misbehaving"
SMALL = Limits(memory_bytes=2**28, idle_seconds=20.0, frame_bytes=2**20)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(b"0123456789")
    with path.open("rb") as opened:
        yield opened


def frames(task, source, limits=SMALL, on_wait=None):
    return list(read_frames(CHILD, task.encode(), source, limits, on_wait))


def refused(task, source, limits=SMALL, on_wait=None):
    with pytest.raises(MalformedRequestError) as caught:
        frames(task, source, limits, on_wait)
    return str(caught.value.facts["problem"])


def children():
    return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    before, open_before = children(), len(list(Path("/proc/self/fd").iterdir()))
    yield
    assert children() <= before
    assert len(list(Path("/proc/self/fd").iterdir())) <= open_before + 1


def test_frames_arrive_in_order_and_whole(source):
    assert frames("echo 3", source) == [b"012", b"345", b"678", b"9"]


def test_a_child_may_have_nothing_to_say(source):
    assert frames("", source) == []


def test_the_file_is_read_from_where_it_stands(source):
    source.seek(0)
    assert b"".join(frames("echo 100", source)) == b"0123456789"


def test_a_frame_larger_than_a_pipe(source):
    assert frames("large 900000", source) == [bytes(900_000)]


def test_what_is_printed_is_no_frame(source):
    assert frames("print", source) == [b"a frame"]


def test_a_child_has_one_file_few_variables_and_limits(source, monkeypatch):
    monkeypatch.setenv("CROSSFADE_STORAGE__S3_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("SOME_TOKEN", "secret")
    (said,) = frames("say", source, Limits(memory_bytes=2**28, cpu_seconds=7))
    report = json.loads(said)
    assert set(report["environment"]) <= {
        *("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "PYTHONPATH"),
        *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ARROW_DEFAULT_MEMORY_POOL"),
    }
    # stdin, stdout, stderr, the file, the pipe, and the folder that is being listed
    assert len(report["files"]) <= 7
    assert report["limits"] == {"RLIMIT_CORE": 0, "RLIMIT_DATA": 2**28, "RLIMIT_CPU": 7, "RLIMIT_FSIZE": 0}


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        ("abort", "died of it (SIGABRT)"),
        ("segfault", "died of it (SIGSEGV)"),
        ("exit", "died of it (exit code 3)"),
        ("raise", "died of it (exit code 1)"),
        ("refuse", "it is not to my taste"),
        ("swallow", "it takes more than 256 MiB of memory"),
    ],
)
def test_what_a_child_does_is_said_in_words(source, deed, words):
    assert words in refused(deed, source)


def test_frames_before_the_end_are_given(source):
    iteration = read_frames(CHILD, b"abort", source, SMALL)
    assert next(iteration) == b"before"
    with pytest.raises(MalformedRequestError):
        next(iteration)


def test_a_child_that_hangs_is_killed(source):
    assert "could not be read within 0.6 s" in refused("hang", source, Limits(idle_seconds=0.6))


def test_a_child_that_spins_is_killed_by_the_kernel(source):
    assert "died of it (SIG" in refused("spin", source, Limits(cpu_seconds=1, idle_seconds=30.0))


def test_a_child_ends_with_a_parent_that_is_killed(tmp_path):
    script = f"""
from crossfade.core.child import Limits, read_frames
with open({str(tmp_path / "file")!r}, "w+b") as source:
    list(read_frames({CHILD!r}, b"spin", source, Limits()))
"""
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    try:
        eventually(lambda: children_of(parent.pid), 20)
        (child,) = children_of(parent.pid)
    finally:
        parent.kill()
        parent.wait()
    eventually(lambda: not is_running(child), 10)


def children_of(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def is_running(pid):
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def test_a_child_that_closes_its_pipe_is_not_waited_for(source, monkeypatch):
    monkeypatch.setattr("crossfade.core.child._END_SECONDS", 0.1)
    assert "it says nothing more" in refused("deaf", source)


def test_a_frame_beyond_the_limit_is_not_read(source):
    assert "more than 1000 bytes" in refused("large 1001", source, Limits(frame_bytes=1000))


def test_waiting_can_be_ended(source):
    class StopError(Exception):
        pass

    calls = []

    def on_wait():
        calls.append(time.monotonic())
        if len(calls) == 2:
            raise StopError

    with pytest.raises(StopError):
        frames("hang", source, SMALL, on_wait)
    assert len(calls) == 2


def test_whoever_stops_listening_ends_the_child(source):
    iteration = read_frames(CHILD, b"hang", source, SMALL)
    assert next(iteration) == b"before"
    assert children()
    iteration.close()


def test_a_module_that_does_not_exist(source):
    with pytest.raises(MalformedRequestError, match=r"exit code 1"):
        list(read_frames("tests.core.no_such_module", b"", source, SMALL))

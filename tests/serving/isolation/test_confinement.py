"""Each wall stands on its own: a process behind one alone cannot do what that one forbids."""

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from crossfade.serving.isolation import landlock, seccomp

PRELUDE = """
import ctypes, os, signal, socket, subprocess, threading
from pathlib import Path
from crossfade.core.child import end_with
from crossfade.serving.isolation.confinement import Limits, confine
from crossfade.serving.isolation.landlock import only_read
from crossfade.serving.isolation.seccomp import refuse_system_calls
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
def outcome(attempt):
    try:
        attempt()
    except OSError as error:
        return error.strerror
    return "done"
"""


def run(script, *arguments, cwd="/"):
    """Run Python in a process of its own, because what it gives up is gone for good."""
    program = [sys.executable, "-c", PRELUDE + script, *arguments]
    found = subprocess.run(
        program, check=False, capture_output=True, text=True, cwd=cwd, timeout=60, env=dict(os.environ)
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.split("\n")[:-1]


@pytest.mark.parametrize(
    ("attempt", "expected"),
    [
        ("os.fork", "Operation not permitted"),
        ("lambda: os.execv('/bin/true', ['true'])", "Operation not permitted"),
        ("lambda: os.posix_spawn('/bin/true', ['true'], {})", "Operation not permitted"),
        ("lambda: os.kill(os.getppid(), 0)", "Operation not permitted"),
        ("lambda: os.kill(1, 0)", "Operation not permitted"),
        ("socket.socket", "Permission denied"),
        ("socket.socketpair", "done"),
        ("lambda: threading.Thread(target=int).start()", "done"),
        ("lambda: signal.raise_signal(signal.SIGURG)", "done"),
    ],
)
def test_system_calls(attempt, expected):
    script = f"assert refuse_system_calls(os.getpid(), network=False)\nprint(outcome({attempt}))"
    assert run(script) == [expected]


def test_the_network_can_be_left_open():
    assert run("refuse_system_calls(os.getpid(), network=True)\nprint(outcome(socket.socket))") == ["done"]


def test_it_can_still_abort():
    program = PRELUDE + "refuse_system_calls(os.getpid(), network=False)\nos.abort()"
    assert (
        subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, timeout=60).returncode == -6
    )


def test_it_cannot_abort_another_one():
    script = "refuse_system_calls(os.getpid(), network=False)\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    number = seccomp._MACHINES[platform.machine()].tgkill
    script += f"print(libc.syscall({number}, os.getppid(), os.getppid(), 0), ctypes.get_errno())"
    assert run(script) == ["-1 1"]


def test_an_unknown_machine_has_no_filter(monkeypatch):
    monkeypatch.setattr(seccomp.platform, "machine", lambda: "pdp11")
    assert not seccomp.refuse_system_calls(os.getpid(), network=False)


def test_files_outside_can_neither_be_read_nor_changed():
    with tempfile.TemporaryDirectory() as folder:
        inside, outside = Path(folder, "inside"), Path(folder, "outside")
        inside.write_text("may be read")
        outside.write_text("may not")
        script = """
import sys
inside, outside = map(Path, sys.argv[1:])
assert only_read([inside, Path("/nowhere")], [Path("/dev/null")])
for attempt in (inside.read_text, outside.read_text, lambda: inside.write_text("x"), outside.unlink,
                lambda: outside.rename(inside), lambda: (outside.parent / "new").mkdir(),
                lambda: Path("/dev/null").write_text("x")):
    print(outcome(attempt))
"""
        denied = "Permission denied"
        assert run(script, str(inside), str(outside)) == ["done", denied, denied, denied, denied, denied, "done"]
        assert outside.read_text() == "may not"


def test_a_machine_without_landlock_says_so(monkeypatch):
    class NoLandlock:
        def syscall(self, *_):
            return -1

    monkeypatch.setattr(landlock.ctypes, "CDLL", lambda *_, **__: NoLandlock())
    assert not landlock.only_read([Path("/usr")])


def test_everything_together_is_in_force_here():
    assert run("print(confine(Limits(2**30)))") == ["()"]


def test_memory_files_and_sizes_are_limited():
    script = """
confine(Limits(2**28))
try:
    bytearray(2**29)
except MemoryError:
    print("no memory")
kept = []
try:
    while True:
        kept.append(os.open("/dev/null", os.O_RDONLY))
except OSError as error:
    print(error.strerror)
"""
    assert run(script) == ["no memory", "Too many open files"]


def test_the_superuser_is_nobody_special():
    assert run("confine(Limits(2**30))\nprint(outcome(lambda: os.nice(-10)))") == ["Operation not permitted"]


def test_a_process_whose_parent_has_ended_ends():
    assert run("try:\n    end_with(1 if os.getppid() != 1 else 2)\nexcept SystemExit:\n    print('ended')") == ["ended"]

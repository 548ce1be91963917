"""`ModelProcess`: one confined process, seen from the server: packets in and out, with a limit on time, and its end."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from crossfade.core.memory import proportional_bytes
from crossfade.core.processors import THREADS_VARIABLE
from crossfade.serving.isolation.child import Orders
from crossfade.serving.isolation.confinement import Limits
from crossfade.serving.isolation.messages import MAX_PACKET_BYTES, Message, Reply, decode_reply, encode

_KEPT_VARIABLES = (
    *("PATH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ"),
    *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"),
)
"""All that a model process sees of the server's environment, which holds secrets."""
_TALKATIVE = {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
"""What it prints before it crashes arrives, and so does where it was."""
_BUFFER_BYTES = 4 * 2**20
_TIMEVAL = struct.Struct("@ll")
"""Seconds and microseconds, as sockets take limits."""


class ProcessEndedError(Exception):
    """A model process ended, or had to be ended.

    Args:
        reason: In one word, for a metric: `signal`, `exit`, `timeout` or `protocol`.
        problem: In words.
    """

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason
        self.problem = problem


class ModelProcess:
    """A process that is about to be, or is, one version. Used by one thread at a time; `kill` may come from any.

    Args:
        limits: What it may use.
        packages: What it imports before it says that it has started.
        threads: How many threads numeric libraries may start in it.

    Attributes:
        without: What it could not be confined by, once it has started.
        output: File descriptor of what it prints, to be read and closed by whoever started it.
    """

    def __init__(self, limits: Limits, packages: Iterable[str] = (), threads: int = 1) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel = ours
        self._channel.setblocking(True)  # a library may have set another default for all sockets
        self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self.without: tuple[str, ...] = ()
        self._seconds = -1.0
        self._buffer = memoryview(bytearray(MAX_PACKET_BYTES))
        self.output, printed = os.pipe()
        orders = Orders(theirs.fileno(), os.getpid(), tuple(packages), limits)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this very Python
                [sys.executable, "-P", "-m", "crossfade.serving.isolation.child", msgspec.json.encode(orders).decode()],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                pass_fds=(theirs.fileno(),),
                cwd="/",
                env=_environment(threads),
                start_new_session=True,
            )
        except OSError:
            ours.close()
            os.close(self.output)
            raise
        finally:
            theirs.close()
            os.close(printed)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def size_bytes(self) -> int:
        """Its memory: what it has alone, and its part of what it shares."""
        return proportional_bytes(self.pid)

    def end(self) -> ProcessEndedError | None:
        """Return how it ended while nobody asked it anything, or None when it has not."""
        return None if self._process.poll() is None else self._ended()

    def run_on(self, processors: Collection[int]) -> None:
        """Keep its threads, and those that they will start, on these processors; on all when there are none."""
        if not processors:
            return
        for task in Path(f"/proc/{self.pid}/task").glob("*"):
            with suppress(OSError):  # a thread may end at any moment, and so may the process
                os.sched_setaffinity(int(task.name), processors)

    def send(self, message: Message, fd: int | None = None, *, seconds: float) -> None:
        """Say something.

        Raises:
            ProcessEndedError: It has ended, or does not listen.
        """
        packet = encode(message)
        self._wait_at_most(seconds)
        try:
            if fd is None:
                self._channel.send(packet)
            else:
                socket.send_fds(self._channel, [packet], [fd])
        except BlockingIOError:
            raise self._ended(seconds) from None
        except OSError:
            raise self._ended() from None

    def receive(self, *, seconds: float) -> Reply:
        """Wait for the answer.

        Args:
            seconds: How long. A process that needs longer is ended.

        Raises:
            ProcessEndedError: It has ended, or sent something that is no answer.
        """
        self._wait_at_most(seconds)
        try:
            size = self._channel.recv_into(self._buffer)
        except BlockingIOError:
            raise self._ended(seconds) from None
        except OSError:
            size = 0
        if size == 0:
            raise self._ended()
        try:
            return decode_reply(self._buffer[:size])
        except ValueError as error:
            self.kill()
            raise ProcessEndedError("protocol", f"it sent something that is {error}") from error

    def kill(self) -> None:
        """End it and whatever it may have started."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)  # wakes whoever waits for it

    def close(self) -> None:
        """End it, and let go of everything. Nobody may be waiting for it."""
        self.kill()
        self._process.wait()
        self._channel.close()

    def _wait_at_most(self, seconds: float) -> None:
        """Let the kernel limit how long each packet takes: Python's own limit is four more calls for each batch.

        A signal to the thread that waits, which nobody sends, would let the time begin anew.
        """
        if seconds != self._seconds:
            whole, part = divmod(max(int(seconds * 1e6), 1_000), 1_000_000)
            for limit in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
                self._channel.setsockopt(socket.SOL_SOCKET, limit, _TIMEVAL.pack(whole, part))
            self._seconds = seconds

    def _ended(self, seconds: float | None = None) -> ProcessEndedError:
        if seconds is not None:
            self.kill()
            return ProcessEndedError("timeout", f"it did not answer within {seconds:.3g} seconds")
        code = self._exit_code()
        if code < 0:
            return ProcessEndedError("signal", f"its process was ended by {_signal_name(-code)}")
        return ProcessEndedError("exit", f"its process ended with status {code}")

    def _exit_code(self) -> int:
        """Wait for its end: a process that has hung up but goes on is ended."""
        until = time.monotonic() + 1.0
        while (code := self._process.poll()) is None and time.monotonic() < until:
            time.sleep(1e-3)
        if code is not None:
            return code
        self.kill()
        return self._process.wait()


def _environment(threads: int) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return kept | _TALKATIVE | {THREADS_VARIABLE: str(threads)}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

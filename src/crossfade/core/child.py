"""A short-lived child process for work that may crash, hang, or swallow memory: limits, and frames over a pipe.

The parent calls `read_frames`; the child's module ends with `run(produce)`. The child gets a task and one open file,
and nothing else of its parent: no secrets of the environment, no other descriptor. Its memory, and its CPU time where
that is asked for, are limited by the kernel, the time between two frames by the parent, which kills it in the end
whatever happens; and the kernel does when the parent is killed.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from tempfile import TemporaryFile
from typing import BinaryIO, cast

import msgspec

from crossfade.errors import CrossfadeError, MalformedRequestError

Produce = Callable[[bytes, BinaryIO], Iterable[bytes]]
"""Turns a task and a file into frames."""

_PR_SET_PDEATHSIG = 1
_HEADER = struct.Struct("<cI")
_DATA, _REFUSED, _END = b"D", b"R", b"E"
_LOOK_SECONDS = 0.5
_READ_BYTES = 1 << 20
_END_SECONDS = 5.0
_INHERITED = ("PATH", "LANG", "LC_ALL", "TMPDIR")
_ALONE = {  # one thread, and an allocator that gives memory back instead of reserving it
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}


class Limits(msgspec.Struct, frozen=True):
    """What a child may take.

    Args:
        memory_bytes: Its data; beyond it allocations fail.
        cpu_seconds: Of processor time in all; 0 = no limit.
        idle_seconds: Between two frames.
        frame_bytes: The largest frame.
    """

    memory_bytes: int = 2**30
    cpu_seconds: int = 0
    idle_seconds: float = 60.0
    frame_bytes: int = 2**28


def end_with(parent: int) -> None:
    """End this process when the thread of `parent` that started it ends, even if that is killed.

    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before it was asked to tell us
        raise SystemExit(1)


def read_frames(
    module: str, task: bytes, source: BinaryIO, limits: Limits, on_wait: Callable[[], None] | None = None
) -> Iterator[bytes]:
    """Run `python -m module` on a file and yield its frames; the child ends when the iteration does.

    Args:
        module: Its last line is `run(produce)`.
        task: What `produce` is given.
        source: A real file, read from where it stands.
        limits: Of the child.
        on_wait: Called every half a second while nothing arrives; what it raises ends the iteration.

    Raises:
        MalformedRequestError: The child refused the file, died of it, or took too long.
    """
    descriptor = source.fileno()
    numbers = (os.getpid(), descriptor, limits.memory_bytes, limits.cpu_seconds)
    with TemporaryFile() as given:
        given.write(task)
        given.seek(0)
        child = subprocess.Popen(  # noqa: S603 - our own module, under our own interpreter
            [sys.executable, "-P", "-m", module, *map(str, numbers)],
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(descriptor,),
            env=_environment(),
            start_new_session=True,
        )
    try:
        yield from _frames(child, limits, on_wait or (lambda: None))
    finally:
        child.kill()
        child.wait()
        cast("BinaryIO", child.stdout).close()


def run(produce: Produce) -> None:
    """Be the child: limit this process, read the task, and write what `produce` yields."""
    parent, descriptor, memory_bytes, cpu_seconds = map(int, sys.argv[1:])
    end_with(parent)
    _limit(memory_bytes, cpu_seconds)
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a library prints must not become a frame
    task = sys.stdin.buffer.read()
    refusal = b""
    try:
        with os.fdopen(descriptor, "rb") as source:
            for frame in produce(task, source):
                _write(output, _DATA, frame)
    except MemoryError:
        refusal = f"it takes more than {memory_bytes >> 20} MiB of memory to read".encode()
    except CrossfadeError as error:
        refusal = str(error.facts.get("problem", error.message)).encode(errors="replace")
    _write(output, _REFUSED if refusal else _END, refusal)


def _write(output: BinaryIO, tag: bytes, data: bytes) -> None:
    output.write(_HEADER.pack(tag, len(data)))
    output.write(data)
    output.flush()


def _limit(memory_bytes: int, cpu_seconds: int) -> None:
    limits = [
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_AS, 4 * memory_bytes),  # libraries and the file itself are mapped, too
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ]
    if cpu_seconds:
        limits.append((resource.RLIMIT_CPU, cpu_seconds))
    for kind, most in limits:
        with suppress(ValueError, OSError):  # a lower limit is in force already
            resource.setrlimit(kind, (most, most))


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return kept | _ALONE | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _frames(child: subprocess.Popen[bytes], limits: Limits, on_wait: Callable[[], None]) -> Iterator[bytes]:
    pipe = _Pipe(child, limits.idle_seconds, on_wait)
    while True:
        tag, size = _HEADER.unpack(pipe.read(_HEADER.size))
        if size > limits.frame_bytes:
            raise MalformedRequestError(problem=f"a part of it takes more than {limits.frame_bytes} bytes")
        data = pipe.read(size)
        if tag == _REFUSED:
            raise MalformedRequestError(problem=data.decode(errors="replace")[:1000])
        if tag == _END:
            return
        yield data


class _Pipe:
    """What a child writes, read with an eye on the clock."""

    def __init__(self, child: subprocess.Popen[bytes], idle_seconds: float, on_wait: Callable[[], None]) -> None:
        self._child = child
        self._descriptor = cast("BinaryIO", child.stdout).fileno()
        self._idle_seconds = idle_seconds
        self._on_wait = on_wait
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def read(self, size: int) -> bytes:
        """Return exactly so many bytes."""
        data = bytearray()
        give_up = time.monotonic() + self._idle_seconds
        while len(data) < size:
            if not self._poll.poll(_LOOK_SECONDS * 1000):
                if time.monotonic() > give_up:
                    raise MalformedRequestError(problem=f"it could not be read within {self._idle_seconds:g} s")
                self._on_wait()
                continue
            piece = os.read(self._descriptor, min(size - len(data), _READ_BYTES))
            if not piece:
                raise MalformedRequestError(problem=f"its reader died of it ({_cause(self._child)})")
            data += piece
        return bytes(data)


def _cause(child: subprocess.Popen[bytes]) -> str:
    try:
        code = child.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        return "it says nothing more"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"

"""What a fuzz target is, and how one input of it is judged: by the errors it raises, its time and its memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from crossfade.errors import CrossfadeError
from crossfade.web.dataplane import _refusal
from crossfade.web.problems import Problem

CPU_SECONDS = 0.1
MEMORY_BYTES = 256 * 2**20
TRIES = 3
"""An input is slow when it was too slow so often: other programs and the garbage collector take time, too."""
MAX_INPUT_BYTES = 64 * 2**10

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"


class Target(NamedTuple):
    """One decoder.

    Attributes:
        name: In the command line, and of the folder of its cases.
        run: Gives it one input; raises what the decoder raises.
        seeds: Well-formed inputs, to be mutated.
        words: What such inputs are made of.
        allowed: What the decoder is documented to raise.
        cpu_seconds: What an input may take.
    """

    name: str
    run: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()
    allowed: tuple[type[Exception], ...] = (CrossfadeError,)
    cpu_seconds: float = CPU_SECONDS


class ExpensiveError(AssertionError):
    """One input took too much time or memory."""


def examine(target: Target, data: bytes) -> None:
    """Give a target one input; an error that it may raise is written as the web would write it.

    Raises:
        ExpensiveError: It takes too much.
        Exception: Whatever the decoder is not documented to raise.
    """
    _CLEAR.write_text(_FORGET_PEAK)
    before = _memory("VmRSS:")
    for attempt in range(TRIES):
        started = time.thread_time()
        _run(target, data)
        seconds = time.thread_time() - started
        if seconds <= target.cpu_seconds:
            break
        if attempt == TRIES - 1:
            raise ExpensiveError(f"{seconds:.3f} seconds of processor time for {len(data)} bytes")
    grown = _memory("VmHWM:") - before
    if grown > MEMORY_BYTES:
        raise ExpensiveError(f"{grown >> 20} MiB of memory for {len(data)} bytes")


def _run(target: Target, data: bytes) -> None:
    try:
        target.run(data)
    except target.allowed as error:
        if isinstance(error, CrossfadeError):
            refuse(error)


def refuse(error: CrossfadeError) -> None:
    """Write an error in every way in which a client may be told of it; it must be short, and no fault of the server."""
    for family in ("oip", "plain", "mlflow"):
        answer = _refusal(Problem.of(error, "urn:uuid:0"), family)
        assert len(answer.body) < 64 * 2**10, f"a refusal of {len(answer.body)} bytes"


def _memory(field: str) -> int:
    """Return a number of bytes that the kernel says about this process."""
    text = _STATUS.read_text()
    start = text.index(field) + len(field)
    return int(text[start : text.index("kB", start)]) * 1024

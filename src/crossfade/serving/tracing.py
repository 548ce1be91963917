"""`Tracer`: which predictions are traced, what is noted of them, and how the notes leave the path of the request.

A caller's `traceparent` is honoured: its trace goes on here, and whether it is recorded is the caller's choice. Without
one, a share of the predictions begins a trace of its own. A trace is noted as plain numbers while a prediction is under
way; everything else happens on a thread that takes the notes from a queue of bounded length. When it is full, because
the collector is slow or away, notes are dropped and counted: no prediction ever waits.

Source: https://www.w3.org/TR/trace-context/ (level 1, sections 3.2 and 3.3)
"""

from __future__ import annotations

import logging
import os
import random
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextvars import ContextVar

import msgspec

_log = logging.getLogger(__name__)

MAX_WAITING = 4096
"""Traces that wait for being sent; about 2 MB."""
BATCH = 512
SEND_SECONDS = 1.0
"""How often they are sent."""
_END_SECONDS = 2.0
_LONGEST_TRACEPARENT = 256
_LONGEST_TRACESTATE = 512
_TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})((?:-[\x20-\x7e]*)?)"
)


class TraceContext(msgspec.Struct, frozen=True, gc=False):
    """The caller's place in its trace.

    Args:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits: who called.
        sampled: Whether the caller records the trace.
        state: Its `tracestate`: what the systems that trace note for themselves, to be handed on unread.
    """

    trace_id: str
    span_id: str
    sampled: bool
    state: str = ""


def parse_traceparent(value: bytes, state: bytes = b"") -> TraceContext | None:
    """Return what a `traceparent` header says; None when it is not valid, as if it had not been sent.

    Args:
        value: The header.
        state: The header `tracestate`; one that is longer than has to be handed on is not.

    Example:
        >>> parse_traceparent(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").sampled
        True
    """
    found = _TRACEPARENT.fullmatch(value) if len(value) <= _LONGEST_TRACEPARENT else None
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if more and version == b"00":
        return None
    handed_on = state.decode("latin-1") if len(state) <= _LONGEST_TRACESTATE else ""
    return TraceContext(trace_id.decode(), span_id.decode(), bool(int(flags, 16) & 1), handed_on)


class Trace:
    """What is noted of one prediction; times are of the monotonic clock, in seconds.

    Attributes:
        context: The caller's place in its trace, or None when the trace begins here.
        trace_id, span_id: Of the prediction.
        facts: What is known when it ends: model, version, and so on.
        error: The code of the error that it ended with, or empty.
        cache: Where its answer came from, when there is a response cache.
        arrived_at: When it was given to the model.
        returned_at, seconds, preprocess_seconds: Of the call that it shared.
        batch_rows, batch_requests: Of that call; 0 when there was none.
    """

    __slots__ = (
        "arrived_at",
        "batch_requests",
        "batch_rows",
        "cache",
        "context",
        "ended_at",
        "error",
        "facts",
        "preprocess_seconds",
        "returned_at",
        "seconds",
        "span_id",
        "started_at",
        "trace_id",
    )

    def __init__(self, context: TraceContext | None, started_at: float) -> None:
        self.context = context
        self.trace_id = os.urandom(16).hex() if context is None else context.trace_id
        self.span_id = os.urandom(8).hex()
        self.started_at = started_at
        self.ended_at = self.arrived_at = self.returned_at = 0.0
        self.seconds = self.preprocess_seconds = 0.0
        self.batch_rows = self.batch_requests = 0
        self.facts: dict[str, str | bool | int] = {}
        self.cache = self.error = ""

    def note_call(self, arrived_at: float, rows: int, requests: int, seconds: float, preprocess_seconds: float) -> None:
        """Note the call of the model that has just answered it."""
        self.arrived_at = arrived_at
        self.returned_at = time.monotonic()
        self.batch_rows, self.batch_requests = rows, requests
        self.seconds, self.preprocess_seconds = seconds, preprocess_seconds


CURRENT: ContextVar[Trace | None] = ContextVar("crossfade_trace", default=None)
"""The trace of the prediction under way; tasks that are started for it inherit it."""

Send = Callable[[list[Trace]], bool]
"""Sends traces away, and tells whether they arrived; it may take its time, and is called on one thread."""


class Tracer:
    """Begins traces on the event loop, and sends them from a thread of its own.

    Args:
        ratio: Share of the predictions without a `traceparent` that are traced.
        send: What sends them.

    Attributes:
        sent: How many traces were `sent`, `failed` to be sent, or were `dropped` because too many waited.
    """

    def __init__(self, ratio: float, send: Send) -> None:
        self.sent: Counter[str] = Counter(sent=0, failed=0, dropped=0)
        self._ratio = ratio
        self._send = send
        self._arrives = True
        self._waiting: deque[Trace] = deque()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="crossfade-traces", daemon=True)
        self._thread.start()

    def begin(self, context: TraceContext | None, started_at: float) -> Trace | None:
        """Return the trace of a prediction, or None when it is not recorded."""
        sampled = random.random() < self._ratio if context is None else context.sampled  # noqa: S311 - a sample
        return Trace(context, started_at) if sampled else None

    def end(self, trace: Trace) -> None:
        """Hand over a trace whose prediction has ended."""
        trace.ended_at = time.monotonic()
        if len(self._waiting) >= MAX_WAITING:
            self.sent["dropped"] += 1
        else:
            self._waiting.append(trace)

    def close(self) -> None:
        """Send what waits, within two seconds."""
        self._ending.set()
        self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        while not self._ending.wait(SEND_SECONDS):
            self._send_waiting()
        self._send_waiting()

    def _send_waiting(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            try:
                arrived = self._send(batch)
            except Exception:  # noqa: BLE001 - traces are worth less than answers
                _log.exception("traces could not be sent")
                arrived = False
            if arrived is not self._arrives:
                say = _log.info if arrived else _log.warning
                say("the collector %s", "takes traces again" if arrived else "does not take traces; they are lost")
            self._arrives = arrived
            self.sent["sent" if arrived else "failed"] += len(batch)

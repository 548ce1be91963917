"""A request on its way through the data plane, and what is sent back."""

from __future__ import annotations

import asyncio
import re

import msgspec
import orjson
from starlette.types import Receive

from crossfade.core.identity import ModelRef
from crossfade.errors import DeadlineExceededError, MalformedRequestError
from crossfade.serving.holding import DEFAULT_TERMS, Prediction, Terms
from crossfade.serving.protocol.parquet import parquet_to_stream
from crossfade.serving.tracing import parse_traceparent
from crossfade.serving.waiting import Priority
from crossfade.settings import HttpSettings
from crossfade.web.budget import BodyBudget
from crossfade.web.compression import pack_body, unpack_body
from crossfade.web.exchange import Answer, Header
from crossfade.web.guard import check_size, read_body
from crossfade.web.paths import Route

LONGEST_TIMEOUT_MS = 3_600_000
_PARQUET_READERS = 2
"""Each is a process that keeps a core busy for a third of a second, and may take a gibibyte."""
_PATIENCE_SECONDS = 5.0
_SEE = "curl URL/openapi.json"
"""Says what headers may hold."""
_HEADER_TEXT = re.compile(r"[!-~]*")
_PRIORITIES = {priority.name.lower().encode(): priority for priority in Priority}


class Call(msgspec.Struct, gc=False):
    """One request on its way through the data plane.

    Attributes:
        body: The whole of it, or where it comes from.
        body_bytes: How many bytes of its body the budget holds, which whoever made the call releases.
    """

    route: Route
    headers: dict[bytes, bytes]
    query: bytes
    body: bytes | Receive
    client: tuple[str, int] | None = None
    body_bytes: int = 0

    @property
    def ref(self) -> ModelRef:
        """The model that the path names."""
        assert self.route.ref is not None  # noqa: S101 - only paths with a model lead to actions that need one
        return self.route.ref


class BodyReader:
    """Reads the bodies of requests within the limits of the settings.

    Args:
        settings: How large one may be, and how long it may take.
        bodies: Counts the large ones.
    """

    def __init__(self, settings: HttpSettings, bodies: BodyBudget) -> None:
        self._limit = settings.max_body_bytes
        self._seconds = settings.body_timeout_seconds
        self._bodies = bodies
        self._readers = asyncio.Semaphore(_PARQUET_READERS)

    async def read(self, call: Call) -> bytes:
        """Return the body, unpacked.

        Raises:
            BodyTooLargeError, BodyTooSlowError, MalformedRequestError: It cannot be accepted.
            BodiesBusyError: The process holds too many bytes of other bodies.
            ClientGoneError: There is nobody to answer.
        """
        headers = call.headers
        if isinstance(call.body, bytes):
            body = check_size(call.body, self._limit)
        else:
            length = headers.get(b"content-length")
            body = await read_body(call.body, length, self._limit, self._seconds, self._bodies)
        call.body_bytes = len(body)
        encoding = headers.get(b"content-encoding")
        if encoding is None:
            return body
        return self._replace(call, unpack_body(body, encoding, self._limit))

    async def read_parquet(self, call: Call, max_rows: int) -> bytes:
        """Return a Parquet body as an Arrow stream, made by a process of its own.

        Raises:
            MalformedRequestError: It cannot be read.
            DeadlineExceededError: Others are being read, and it would wait for too long.
        """
        body = await self.read(call)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._readers.acquire()
        except TimeoutError as error:
            raise DeadlineExceededError(ref=str(call.ref), stage="waiting to be read") from error
        try:
            stream = await asyncio.to_thread(parquet_to_stream, body, max_rows=max_rows, limit_bytes=self._limit)
        finally:
            self._readers.release()
        return self._replace(call, stream)

    def _replace(self, call: Call, body: bytes) -> bytes:
        """Count what a body has become instead of what it was."""
        self._bodies.grow(call.body_bytes, len(body))
        call.body_bytes = len(body)
        return body


def terms_of(headers: dict[bytes, bytes]) -> Terms:
    """Read the headers `X-Request-Timeout-Ms`, `X-Request-Priority` and `X-Request-Replay`, and the trace.

    A `traceparent` that is not valid counts as none, as its standard wants it.

    Raises:
        MalformedRequestError: One is something else.
    """
    timeout, priority = headers.get(b"x-request-timeout-ms"), headers.get(b"x-request-priority")
    traceparent, replay = headers.get(b"traceparent"), headers.get(b"x-request-replay")
    if timeout is None and priority is None and traceparent is None and replay is None:
        return DEFAULT_TERMS
    milliseconds = 0
    if timeout is not None:
        milliseconds = int(timeout) if len(timeout) < 8 and timeout.isdigit() else 0
        if not 1 <= milliseconds <= LONGEST_TIMEOUT_MS:
            problem = f"`X-Request-Timeout-Ms` is not a whole number from 1 to {LONGEST_TIMEOUT_MS}"
            raise MalformedRequestError(problem=problem, see=_SEE)
    if priority is not None and priority not in _PRIORITIES:
        raise MalformedRequestError(problem="`X-Request-Priority` is none of online, batch, shadow", see=_SEE)
    if replay is not None and replay != b"true":
        raise MalformedRequestError(problem="`X-Request-Replay` is not `true`", see=_SEE)
    trace = None if traceparent is None else parse_traceparent(traceparent, headers.get(b"tracestate", b""))
    return Terms(milliseconds / 1000 or None, _PRIORITIES[priority or b"online"], trace, replay is not None)


def known_as(terms: Terms) -> str:
    """Return the id of a request that its client knows already: that of its trace; empty when there is none."""
    return "" if terms.trace is None else terms.trace.trace_id


def json_answer(document: object, status: int = 200) -> Answer:
    """Return a document as an answer."""
    return Answer(orjson.dumps(document), status)


def packed_answer(call: Call, body: bytes, headers: tuple[Header, ...]) -> Answer:
    """Return a body as an answer, compressed when the client wants that."""
    accepted = call.headers.get(b"accept-encoding")
    if accepted is None:
        return Answer(body, 200, headers)
    packed, coding = pack_body(body, accepted)
    if coding is None:
        return Answer(body, 200, headers)
    return Answer(packed, 200, (*headers, (b"content-encoding", coding), (b"vary", b"accept-encoding")))


def identity_parameters(prediction: Prediction) -> dict[str, str | bool] | None:
    """Return what an answer of the Open Inference Protocol says about who gave it, and why; None for nothing.

    `fallback` says that another version answered in the stead of the one that should have.
    """
    decision = prediction.decision
    if decision is None:
        said = _of_safety(prediction)
        if prediction.fallback:
            said["fallback"] = True
        return said or None
    said = {
        "experiment": decision.experiment,
        "variant": decision.variant,
        "reason": decision.reason.value,
        "why": decision.words,
    }
    if prediction.decision_id:
        said["decision_id"] = prediction.decision_id
    if prediction.fallback:
        said["fallback"] = True
    return said | _of_safety(prediction)


def _of_safety(prediction: Prediction) -> dict[str, str | bool]:
    """Return what an answer says about its safety: nothing where there is nothing to say."""
    note = prediction.safety
    if note is None:
        return {}
    said = {
        "safety": note.level.value,
        "safety_checks": ", ".join(note.checks),
        "safety_fallback": note.instead,
        "safety_overrides": ", ".join(note.overrides),
        "emergency": note.emergency,
    }
    return {name: value for name, value in said.items() if value}


def identity_headers(prediction: Prediction) -> tuple[Header, ...]:
    """Say what answered, and why, where the body has no place for it."""
    said = {"model": prediction.model, "version": prediction.version, **(identity_parameters(prediction) or {})}
    said.pop("emergency", None)  # every answer of the data plane has this header
    said.pop("why", None)  # may hold what no header can, as may an experiment that only the client knows
    if not _HEADER_TEXT.fullmatch(str(said.get("experiment", ""))):
        said["experiment"] = ""
    if "decision_id" in said:
        said["decision"] = said.pop("decision_id")
    return tuple(
        (f"x-crossfade-{name.replace('_', '-')}".encode(), b"true" if value is True else str(value).encode())
        for name, value in said.items()
    )

"""What the data plane answers: one method per action of `web.paths`."""

from __future__ import annotations

import msgspec
import orjson
from starlette.types import Receive

import crossfade
from crossfade.core.identity import ModelRef, new_id
from crossfade.errors import MalformedRequestError, NotServedError
from crossfade.serving.prediction import DEFAULT_TERMS, PredictionService, Terms
from crossfade.serving.protocol.answers import describe_model, encode_answer
from crossfade.serving.protocol.oip import decode_request
from crossfade.serving.protocol.rows import decode_rows, encode_rows
from crossfade.serving.waiting import Priority
from crossfade.settings import HttpSettings
from crossfade.web.budget import BodyBudget
from crossfade.web.callers import CallerCheck
from crossfade.web.compression import pack_body, unpack_body
from crossfade.web.guard import read_body
from crossfade.web.paths import Route

Header = tuple[bytes, bytes]

_FALLBACK = {"fallback": True}
"""Says in an answer that a former version answered in the stead of the alias's own."""

_LONGEST_TIMEOUT_MS = 3_600_000
_PRIORITIES = {priority.name.lower().encode(): priority for priority in Priority}

JSON: Header = (b"content-type", b"application/json")
_BINARY: Header = (b"content-type", b"application/octet-stream")
_METRICS: Header = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")


class Call(msgspec.Struct, gc=False):
    """One request on its way through the data plane.

    Attributes:
        body_bytes: How many bytes of its body the budget holds, which whoever made the call releases.
    """

    route: Route
    headers: dict[bytes, bytes]
    query: bytes
    receive: Receive
    client: tuple[str, int] | None = None
    body_bytes: int = 0

    @property
    def ref(self) -> ModelRef:
        """The model that the path names."""
        assert self.route.ref is not None  # noqa: S101 - only paths with a model lead to actions that need one
        return self.route.ref


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What is sent back."""

    body: bytes
    status: int = 200
    headers: tuple[Header, ...] = (JSON,)


class Inference:
    """The actions of the data plane.

    Args:
        predictions: What answers.
        settings: Limits of requests.
        callers: Decides who may load and unload models.
        bodies: Counts the large bodies.
    """

    def __init__(
        self, predictions: PredictionService, settings: HttpSettings, callers: CallerCheck, bodies: BodyBudget
    ) -> None:
        self._predictions = predictions
        self._callers = callers
        self._bodies = bodies
        self._limit = settings.max_body_bytes
        self._seconds = settings.body_timeout_seconds
        self._max_rows = settings.max_rows

    # --- predictions ---

    async def infer(self, call: Call) -> Answer:
        """Answer an Open Inference Protocol request."""
        terms = _terms(call.headers)
        body = await self._body(call)
        headers = call.headers
        with await self._predictions.hold(call.ref) as held:
            signature = held.signature
            request = decode_request(body, headers.get(b"inference-header-content-length"), signature, self._max_rows)
            prediction = await held.predict(request.tensors, frozenset(request.wanted) or None, terms)
        names = request.wanted or [spec.name for spec in signature.outputs]
        content, json_bytes = encode_answer(
            prediction.model,
            prediction.version,
            {name: prediction.outputs[name] for name in names},
            request_id=request.id,
            binary=request.binary,
            parameters=_FALLBACK if prediction.fallback else None,
        )
        if json_bytes is None:
            return _packed(call, content, (JSON,))
        return _packed(call, content, (_BINARY, (b"inference-header-content-length", b"%d" % json_bytes)))

    async def predict(self, call: Call) -> Answer:
        """Answer plain rows."""
        probabilities, terms = _asks_probabilities(call.query), _terms(call.headers)
        body = await self._body(call)
        with await self._predictions.hold(call.ref) as held:
            signature = held.signature
            request = decode_rows(body, signature, self._max_rows, probabilities=probabilities)
            prediction = await held.predict(request.tensors, frozenset(request.wanted), terms)
        identity: dict[str, str | bool] = {"model": prediction.model, "version": prediction.version}
        if prediction.alias is not None:
            identity["alias"] = prediction.alias
        if prediction.fallback:
            identity["fallback"] = True
        identity["request_id"] = new_id()
        return _packed(call, encode_rows(identity, prediction.outputs, request, signature), (JSON,))

    async def _body(self, call: Call) -> bytes:
        headers = call.headers
        length, encoding = headers.get(b"content-length"), headers.get(b"content-encoding")
        body = await read_body(call.receive, length, self._limit, self._seconds, self._bodies)
        call.body_bytes = len(body)
        if encoding is None:
            return body
        unpacked = unpack_body(body, encoding, self._limit)
        self._bodies.grow(len(body), len(unpacked))
        call.body_bytes = len(unpacked)
        return unpacked

    # --- models ---

    async def model(self, call: Call) -> Answer:
        """Describe a model."""
        version = await self._predictions.find(call.ref)
        if not version.ready:
            raise NotServedError(ref=f"{version.model}:{version.version}", problem=version.problem)
        versions = [item.version for item in self._predictions.served() if item.model == version.model and item.ready]
        return _json(describe_model(version.model, versions, version.flavor, version.signature))

    async def model_ready(self, call: Call) -> Answer:
        """Tell whether a model answers; 503 when it does not."""
        version = await self._predictions.find(call.ref)
        return _json({"name": version.model, "ready": version.ready}, 200 if version.ready else 503)

    async def index(self, call: Call) -> Answer:
        """List every version in this process."""
        body = await self._body(call)
        ready_only = bool(body.strip()) and _decode_index(body).ready
        return _json(
            [
                {
                    "name": item.model,
                    "version": item.version,
                    "state": "READY" if item.ready else "UNAVAILABLE",
                    "reason": item.problem,
                }
                for item in self._predictions.served()
                if item.ready or not ready_only
            ]
        )

    async def load(self, call: Call) -> Answer:
        """Serve a model that was unloaded."""
        await self._local_body(call)
        await self._predictions.set_loaded(call.ref.name, loaded=True)
        return Answer(b"{}")

    async def unload(self, call: Call) -> Answer:
        """Stop serving a model."""
        await self._local_body(call)
        await self._predictions.set_loaded(call.ref.name, loaded=False)
        return Answer(b"{}")

    async def _local_body(self, call: Call) -> bytes:
        self._callers.check_local(call.client, call.headers)
        return await self._body(call)

    # --- the process ---

    async def server(self, _call: Call) -> Answer:
        """Describe the server."""
        extensions = ["binary_tensor_data", "model_repository"]
        return _json({"name": "crossfade", "version": crossfade.__version__, "extensions": extensions})

    async def live(self, _call: Call) -> Answer:
        """Tell that the process answers."""
        return Answer(b'{"live":true}')

    async def ready(self, _call: Call) -> Answer:
        """Tell whether every champion answers; 503 when not."""
        ready = not self._predictions.unready()
        return _json({"ready": ready}, 200 if ready else 503)

    async def healthz(self, _call: Call) -> Answer:
        """Tell that the process answers."""
        return Answer(b'{"status":"ok"}')

    async def readyz(self, _call: Call) -> Answer:
        """Tell whether requests should come here, and if not, why; 503 then."""
        waiting = list(self._predictions.unready())
        return _json({"status": "waiting" if waiting else "ready", "waiting_for": waiting}, 503 if waiting else 200)

    async def metrics(self, call: Call) -> Answer:
        """Return the metrics of this process for Prometheus."""
        return _packed(call, self._predictions.metrics(), (_METRICS,))


class _IndexRequest(msgspec.Struct):
    ready: bool = False


def _decode_index(body: bytes) -> _IndexRequest:
    try:
        return msgspec.json.decode(body, type=_IndexRequest)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise MalformedRequestError(problem=str(error)[:200]) from error


def _terms(headers: dict[bytes, bytes]) -> Terms:
    """Read `X-Request-Timeout-Ms` (1 to 3,600,000) and `X-Request-Priority` (online, batch, shadow)."""
    timeout, priority = headers.get(b"x-request-timeout-ms"), headers.get(b"x-request-priority")
    if timeout is None and priority is None:
        return DEFAULT_TERMS
    milliseconds = 0
    if timeout is not None:
        milliseconds = int(timeout) if len(timeout) < 8 and timeout.isdigit() else 0
        if not 1 <= milliseconds <= _LONGEST_TIMEOUT_MS:
            problem = f"`X-Request-Timeout-Ms` is not a whole number from 1 to {_LONGEST_TIMEOUT_MS}"
            raise MalformedRequestError(problem=problem)
    if priority is not None and priority not in _PRIORITIES:
        raise MalformedRequestError(problem="`X-Request-Priority` is none of online, batch, shadow")
    return Terms(milliseconds / 1000 or None, _PRIORITIES[priority or b"online"])


def _asks_probabilities(query: bytes) -> bool:
    if not query:
        return False
    answers = {"probabilities=true": True, "probabilities=false": False}
    text = query.decode("latin-1").lower()
    if text not in answers:
        raise MalformedRequestError(problem=f"the query `{text[:80]}` is not `probabilities=true`")
    return answers[text]


def _json(document: object, status: int = 200) -> Answer:
    return Answer(orjson.dumps(document), status)


def _packed(call: Call, body: bytes, headers: tuple[Header, ...]) -> Answer:
    accepted = call.headers.get(b"accept-encoding")
    if accepted is None:
        return Answer(body, 200, headers)
    packed, coding = pack_body(body, accepted)
    if coding is None:
        return Answer(body, 200, headers)
    return Answer(packed, 200, (*headers, (b"content-encoding", coding), (b"vary", b"accept-encoding")))

"""What the data plane says about models, the repository and itself: one method per action of `web.paths`."""

from __future__ import annotations

import asyncio

import msgspec

import crossfade
from crossfade.core.identity import ModelRef
from crossfade.errors import MalformedRequestError, NotServedError
from crossfade.serving.prediction import PredictionService, ServedVersion
from crossfade.serving.protocol.answers import describe_model
from crossfade.serving.protocol.configuration import describe_configuration
from crossfade.serving.protocol.statistics import describe_statistics
from crossfade.settings import HttpSettings
from crossfade.web.callers import CallerCheck
from crossfade.web.calls import Answer, BodyReader, Call, Header, json_answer, packed_answer

_METRICS: Header = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
_EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "statistics")


class Repository:
    """The actions of the data plane that predict nothing.

    Args:
        predictions: What is served.
        settings: Limits of requests.
        bodies: Reads their bodies.
        callers: Decides who may load and unload models.
    """

    def __init__(
        self, predictions: PredictionService, settings: HttpSettings, bodies: BodyReader, callers: CallerCheck
    ) -> None:
        self._predictions = predictions
        self._bodies = bodies
        self._callers = callers
        self._max_rows = settings.max_rows

    # --- models ---

    async def model(self, call: Call) -> Answer:
        """Describe a model."""
        version = await self._answering(call.ref)
        versions = [item.version for item in self._ready(version.model)]
        return json_answer(describe_model(version.model, versions, version.flavor, version.signature))

    async def configuration(self, call: Call) -> Answer:
        """Describe a model as Triton's configuration does."""
        version = await self._answering(call.ref)
        return json_answer(describe_configuration(version.model, version.flavor, version.signature, self._max_rows))

    async def statistics(self, _call: Call) -> Answer:
        """Tell what every version has done in this process."""
        return _statistics([item for item in self._predictions.served() if item.ready])

    async def model_statistics(self, call: Call) -> Answer:
        """Tell what a version has done in this process; without one, all of the model, the one that answers first."""
        answering = await self._answering(call.ref)
        others = [item for item in self._ready(answering.model) if item.version != answering.version]
        return _statistics([answering] if call.ref.alias is None else [answering, *others])

    async def model_ready(self, call: Call) -> Answer:
        """Tell whether a model answers; 503 when it does not."""
        version = await self._predictions.find(call.ref)
        return json_answer({"name": version.model, "ready": version.ready}, 200 if version.ready else 503)

    async def index(self, call: Call) -> Answer:
        """List every version in this process."""
        body = await self._bodies.read(call)
        ready_only = bool(body.strip()) and _decode_index(body).ready
        return json_answer(
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
        return await self._bodies.read(call)

    # --- the process ---

    async def server(self, _call: Call) -> Answer:
        """Describe the server."""
        return json_answer({"name": "crossfade", "version": crossfade.__version__, "extensions": _EXTENSIONS})

    async def live(self, _call: Call) -> Answer:
        """Tell that the process answers."""
        return Answer(b'{"live":true}')

    async def ready(self, _call: Call) -> Answer:
        """Tell whether every champion answers; 503 when not."""
        ready = not self._predictions.unready()
        return json_answer({"ready": ready}, 200 if ready else 503)

    async def healthz(self, _call: Call) -> Answer:
        """Tell that the process answers."""
        return Answer(b'{"status":"ok"}')

    async def readyz(self, _call: Call) -> Answer:
        """Tell whether requests should come here, and if not, why; 503 then."""
        waiting = list(self._predictions.unready())
        return json_answer(
            {"status": "waiting" if waiting else "ready", "waiting_for": waiting}, 503 if waiting else 200
        )

    async def metrics(self, call: Call) -> Answer:
        """Return the metrics of this server for Prometheus."""
        return packed_answer(call, await asyncio.to_thread(self._predictions.metrics), (_METRICS,))

    async def _answering(self, ref: ModelRef) -> ServedVersion:
        version = await self._predictions.find(ref)
        if not version.ready:
            raise NotServedError(ref=f"{version.model}:{version.version}", problem=version.problem)
        return version

    def _ready(self, model: str) -> list[ServedVersion]:
        return [item for item in self._predictions.served() if item.model == model and item.ready]


class _IndexRequest(msgspec.Struct):
    ready: bool = False


def _decode_index(body: bytes) -> _IndexRequest:
    try:
        return msgspec.json.decode(body, type=_IndexRequest)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise MalformedRequestError(problem=str(error)[:200]) from error


def _statistics(versions: list[ServedVersion]) -> Answer:
    return json_answer(
        {"model_stats": [describe_statistics(item.model, item.version, item.counters) for item in versions]}
    )

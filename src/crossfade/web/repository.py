"""What the data plane says about models, the repository and itself: one method per action of `web.paths`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from crossfade.errors import MalformedRequestError
from crossfade.serving.prediction import PredictionService
from crossfade.settings import HttpSettings
from crossfade.web.callers import CallerCheck
from crossfade.web.calls import BodyReader, Call, json_answer, packed_answer
from crossfade.web.descriptions import Descriptions
from crossfade.web.exchange import Answer, Header
from crossfade.web.rendering import Rendering

T = TypeVar("T")
_METRICS: Header = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")


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
        self._descriptions = Descriptions(predictions, settings.max_rows)
        self._metrics = Rendering(predictions.metrics)

    # --- models ---

    async def model(self, call: Call) -> Answer:
        """Describe a model."""
        return json_answer(await self._descriptions.model(call.ref))

    async def configuration(self, call: Call) -> Answer:
        """Describe a model as Triton's configuration does."""
        return json_answer(await self._descriptions.configuration(call.ref))

    async def statistics(self, _call: Call) -> Answer:
        """Tell what every version has done in this process."""
        return json_answer(await self._descriptions.statistics())

    async def model_statistics(self, call: Call) -> Answer:
        """Tell what a version has done in this process; without one, all of the model, the one that answers first."""
        return json_answer(await self._descriptions.statistics(call.ref))

    async def model_ready(self, call: Call) -> Answer:
        """Tell whether a model answers; 503 when it does not."""
        version = await self._predictions.find(call.ref)
        return json_answer({"name": version.model, "ready": version.ready}, 200 if version.ready else 503)

    async def index(self, call: Call) -> Answer:
        """List every version in this process."""
        body = await self._bodies.read(call)
        ready_only = bool(body.strip()) and _decode(body, _decode_index).ready
        return json_answer(self._descriptions.index(ready_only=ready_only))

    async def load(self, call: Call) -> Answer:
        """Serve a model that was unloaded."""
        await self._check_control(call)
        await self._predictions.set_loaded(call.ref.name, loaded=True)
        return Answer(b"{}")

    async def unload(self, call: Call) -> Answer:
        """Stop serving a model."""
        await self._check_control(call)
        await self._predictions.set_loaded(call.ref.name, loaded=False)
        return Answer(b"{}")

    async def _check_control(self, call: Call) -> None:
        """Pass callers of this machine; the body may hold parameters, of which none is known."""
        self._callers.check_local(call.client, call.headers)
        body = await self._bodies.read(call)
        if body.strip():
            _decode(body, _decode_object)

    # --- the process ---

    async def server(self, _call: Call) -> Answer:
        """Describe the server."""
        return json_answer(self._descriptions.server())

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
        waiting, emergencies = list(self._predictions.unready()), self._predictions.emergencies()
        document: dict[str, object] = {"status": "waiting" if waiting else "ready", "waiting_for": waiting}
        if emergencies:
            document["emergency"] = emergencies
        if away := self._predictions.database_away_seconds():
            document["database_away_seconds"] = away
        return json_answer(document, 503 if waiting else 200)

    async def metrics(self, call: Call) -> Answer:
        """Return the metrics of this server for Prometheus."""
        return packed_answer(call, await self._metrics(), (_METRICS,))


class _IndexRequest(msgspec.Struct):
    ready: bool = False


_decode_index = msgspec.json.Decoder(_IndexRequest).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


def _decode(body: bytes, decode: Callable[[bytes], T]) -> T:
    try:
        return decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise MalformedRequestError(problem=str(error)[:200]) from error

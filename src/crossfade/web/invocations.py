"""The routes of `mlflow models serve`: one method per action of `web.paths`."""

from __future__ import annotations

import crossfade
from crossfade.core.identity import ModelRef
from crossfade.errors import ModelNotNamedError
from crossfade.serving.prediction import PredictionService
from crossfade.serving.protocol.askers import asker_of_parameters, names_asker
from crossfade.serving.protocol.invocations import decode_invocation, encode_predictions
from crossfade.settings import HttpSettings
from crossfade.web.calls import (
    BodyReader,
    Call,
    identity_headers,
    known_as,
    packed_answer,
    terms_of,
)
from crossfade.web.exchange import JSON, Answer, Header

_TEXT: Header = (b"content-type", b"text/plain; charset=utf-8")


class Invocations:
    """The actions of the data plane that stand in for MLflow's scoring server.

    Args:
        predictions: What answers.
        settings: Limits of requests, and which model is meant when the path names none.
        bodies: Reads the bodies of requests.

    Raises:
        InvalidRefError: The setting is no reference.
    """

    def __init__(self, predictions: PredictionService, settings: HttpSettings, bodies: BodyReader) -> None:
        self._predictions = predictions
        self._bodies = bodies
        self._max_rows = settings.max_rows
        self._default = ModelRef.parse(settings.invocations_model) if settings.invocations_model else None

    async def invocations(self, call: Call) -> Answer:
        """Answer a request to the model of the path, of the settings, or the only one."""
        content_type, terms = call.headers.get(b"content-type", b""), terms_of(call.headers)
        body = await self._bodies.read(call)
        ref = call.route.ref or self._default or self._only_model()
        asker = None
        if self._predictions.asks_who(ref) or names_asker(call.headers):
            asker = asker_of_parameters({}, call.headers, known_as(terms))
        with await self._predictions.hold(ref, terms, asker) as held:
            request = decode_invocation(content_type, body, held.signature, self._max_rows)
            prediction = await held.predict(request.tensors, frozenset(request.wanted), terms, known_as(terms))
        told = prediction.decision is not None or prediction.safety is not None
        headers = identity_headers(prediction) if told else ()
        return packed_answer(call, encode_predictions(prediction.outputs, request), (JSON, *headers))

    async def ping(self, _call: Call) -> Answer:
        """Tell whether every champion answers, 503 when not, and name emergencies, which no restart would end."""
        said = self._predictions.emergencies()
        body = f"emergency: {said}\n".encode() if said else b"\n"
        return Answer(body, 503 if self._predictions.unready() else 200, (_TEXT,))

    async def version(self, _call: Call) -> Answer:
        """Return the version of Crossfade, where MLflow has its own."""
        return Answer(crossfade.__version__.encode(), 200, (_TEXT,))

    def _only_model(self) -> ModelRef:
        names = {item.model for item in self._predictions.served()}
        if len(names) != 1:
            raise ModelNotNamedError(count=len(names))
        return ModelRef.parse(names.pop())

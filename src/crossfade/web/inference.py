"""Predictions of the data plane: one method per action of `web.paths`."""

from __future__ import annotations

from typing import Any

import msgspec

from crossfade.core.identity import new_id
from crossfade.core.tensors import row_count
from crossfade.errors import MalformedRequestError
from crossfade.serving.holding import HeldVersion, Terms
from crossfade.serving.prediction import PredictionService
from crossfade.serving.protocol.answers import encode_answer
from crossfade.serving.protocol.askers import asker_of_parameters, asker_of_rows, names_asker
from crossfade.serving.protocol.columnar import STREAM
from crossfade.serving.protocol.formats import answer_format, decode_body, encode_binary, is_parquet, peek_body
from crossfade.serving.protocol.oip import InferRequest, decode_request, peek_document
from crossfade.serving.protocol.rows import encode_rows
from crossfade.serving.replies import Reply
from crossfade.settings import HttpSettings
from crossfade.traffic.allocation.decisions import Decision
from crossfade.web.calls import (
    BodyReader,
    Call,
    identity_headers,
    identity_parameters,
    known_as,
    packed_answer,
    terms_of,
)
from crossfade.web.exchange import JSON, Answer, Header

_BINARY: Header = (b"content-type", b"application/octet-stream")


class Inference:
    """The actions of the data plane that predict.

    Args:
        predictions: What answers.
        settings: Limits of requests.
        bodies: Reads their bodies.
    """

    def __init__(self, predictions: PredictionService, settings: HttpSettings, bodies: BodyReader) -> None:
        self._predictions = predictions
        self._bodies = bodies
        self._max_rows = settings.max_rows

    async def infer(self, call: Call) -> Answer:
        """Answer an Open Inference Protocol request."""
        terms = terms_of(call.headers)
        body = await self._bodies.read(call)
        header_length = call.headers.get(b"inference-header-content-length")
        asker = document = None
        if self._is_asked(call):
            document = peek_document(body, header_length)
            parameters = None if document is None else document.parameters
            asker = asker_of_parameters(parameters or {}, call.headers, known_as(terms))
        with await self._predictions.hold(call.ref, terms, asker) as held:
            question = held.question(terms, header_length or b"", body)
            reply = None if question is None else held.recall(question)
            if reply is None:
                request = decode_request(body, header_length, held.signature, self._max_rows, document)
                reply = await _predict(held, request, terms)
                if question is not None:
                    held.remember(question, reply)
        if reply.json_bytes is None:
            return packed_answer(call, reply.body, (JSON,))
        length = b"%d" % reply.json_bytes
        return packed_answer(call, reply.body, (_BINARY, (b"inference-header-content-length", length)))

    async def predict(self, call: Call) -> Answer:
        """Answer plain rows, in any of the formats of `serving.protocol.formats`."""
        probabilities, terms = _asks_probabilities(call.query), terms_of(call.headers)
        request_id = known_as(terms) or new_id()
        kind = answer_format(call.headers.get(b"accept", b""))
        content_type = call.headers.get(b"content-type", b"")
        if is_parquet(content_type):
            body, content_type = await self._bodies.read_parquet(call, self._max_rows), STREAM.encode()
        else:
            body = await self._bodies.read(call)
        asker = document = None
        if self._is_asked(call):
            document = peek_body(content_type, body)
            asker = asker_of_rows(document, call.headers, known_as(terms))
        with await self._predictions.hold(call.ref, terms, asker) as held:
            signature = held.signature
            request = decode_body(
                content_type, body, signature, self._max_rows, probabilities=probabilities, document=document
            )
            prediction = await held.predict(request.tensors, frozenset(request.wanted), terms, request_id)
        if kind is not None:
            headers = ((b"content-type", kind.encode()), *identity_headers(prediction))
            return packed_answer(call, encode_binary(kind, prediction.outputs, request), headers)
        identity: dict[str, Any] = {"model": prediction.model, "version": prediction.version}
        if prediction.alias is not None:
            identity["alias"] = prediction.alias
        if prediction.fallback:
            identity["fallback"] = True
        if prediction.decision is not None:
            identity["experiment"] = _described(prediction.decision, prediction.decision_id)
        if prediction.safety is not None:
            identity["safety"] = msgspec.to_builtins(prediction.safety)
        identity["request_id"] = request_id
        return packed_answer(call, encode_rows(identity, prediction.outputs, request, signature), (JSON,))

    def _is_asked(self, call: Call) -> bool:
        """Tell whether it matters who asks: to an experiment, to safety, or because the request says so."""
        return self._predictions.asks_who(call.ref) or names_asker(call.headers)


def _described(decision: Decision, decision_id: str) -> dict[str, str]:
    said = {
        "name": decision.experiment,
        "variant": decision.variant,
        "reason": decision.reason.value,
        "why": decision.words,
    }
    return said | {"decision_id": decision_id} if decision_id else said


async def _predict(held: HeldVersion, request: InferRequest, terms: Terms) -> Reply:
    request_id = known_as(terms) if request.id is None else request.id
    prediction = await held.predict(request.tensors, frozenset(request.wanted) or None, terms, request_id)
    names = request.wanted or [spec.name for spec in held.signature.outputs]
    body, json_bytes = encode_answer(
        prediction.model,
        prediction.version,
        {name: prediction.outputs[name] for name in names},
        request_id=request_id or request.id,
        binary=request.binary,
        parameters=identity_parameters(prediction),
    )
    return Reply(body, json_bytes, row_count(request.tensors))


def _asks_probabilities(query: bytes) -> bool:
    if not query:
        return False
    answers = {"probabilities=true": True, "probabilities=false": False}
    text = query.decode("latin-1").lower()
    if text not in answers:
        raise MalformedRequestError(problem=f"the query `{text[:80]}` is not `probabilities=true`")
    return answers[text]

"""The Open Inference Protocol's `GRPCInferenceService`, on the event loop and with the rules of the HTTP routes.

It is for programs that speak gRPC already, not the fast way: Python's gRPC takes more than half a millisecond of CPU
for a request, whatever the model does.

Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_grpc.md
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

import msgspec

from crossfade.core.identity import ModelRef
from crossfade.serving.holding import Terms
from crossfade.serving.prediction import PredictionService
from crossfade.serving.protocol.askers import asker_of_parameters, names_asker
from crossfade.serving.protocol.messages import message_class
from crossfade.serving.protocol.remote import decode_message, decode_parameters, encode_message
from crossfade.settings import HttpSettings
from crossfade.web.callers import CallerCheck
from crossfade.web.calls import LONGEST_TIMEOUT_MS, identity_parameters, known_as, terms_of
from crossfade.web.descriptions import Descriptions
from crossfade.web.paths import parse_ref


class RemoteCall(msgspec.Struct, frozen=True):
    """One call of a method of the service.

    Args:
        message: What was sent, parsed.
        headers: The metadata.
        client: Address and port of the caller, None where there are none.
        seconds_left: Until the caller's deadline, None when it has none.
    """

    message: Any
    headers: dict[bytes, bytes]
    client: tuple[str, int] | None = None
    seconds_left: float | None = None

    @property
    def ref(self) -> ModelRef:
        """The model or version that the message names."""
        return parse_ref(self.message.name, self.message.version)

    @property
    def terms(self) -> Terms:
        """What the caller asks for besides the answer: as over HTTP, and its deadline, whichever is earlier."""
        terms = terms_of(self.headers)
        if self.seconds_left is None:
            return terms
        # a deadline is a wish like others, and must not pass for work of the server itself, which may take for ever
        most = LONGEST_TIMEOUT_MS / 1000 if terms.timeout_seconds is None else terms.timeout_seconds
        return msgspec.structs.replace(terms, timeout_seconds=max(0.0, min(self.seconds_left, most)))


Method = Callable[[RemoteCall], Awaitable[Any]]


class GrpcService:
    """The methods of the service: each takes a call and returns the message that answers it.

    Args:
        predictions: What answers.
        settings: Limits of requests, and who may load and unload models.
    """

    def __init__(self, predictions: PredictionService, settings: HttpSettings) -> None:
        self._predictions = predictions
        self._max_rows = settings.max_rows
        self._callers = CallerCheck(settings)
        self._descriptions = Descriptions(predictions, settings.max_rows)

    def methods(self) -> dict[str, Method]:
        """Return every method of the service by its name; its messages are called `NameRequest` and `NameResponse`."""
        return {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._model_infer,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._repository_index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }

    async def _server_live(self, _call: RemoteCall) -> Any:
        return message_class("ServerLiveResponse")(live=True)

    async def _server_ready(self, _call: RemoteCall) -> Any:
        return message_class("ServerReadyResponse")(ready=not self._predictions.unready())

    async def _server_metadata(self, _call: RemoteCall) -> Any:
        return _message("ServerMetadataResponse", self._descriptions.server())

    async def _model_ready(self, call: RemoteCall) -> Any:
        version = await self._predictions.find(call.ref)
        return message_class("ModelReadyResponse")(ready=version.ready)

    async def _model_metadata(self, call: RemoteCall) -> Any:
        return _message("ModelMetadataResponse", await self._descriptions.model(call.ref))

    async def _model_config(self, call: RemoteCall) -> Any:
        return _message("ModelConfigResponse", {"config": await self._descriptions.configuration(call.ref)})

    async def _model_statistics(self, call: RemoteCall) -> Any:
        document = await self._descriptions.statistics(call.ref if call.message.name else None)
        return _message("ModelStatisticsResponse", document)

    async def _repository_index(self, call: RemoteCall) -> Any:
        index = self._descriptions.index(ready_only=call.message.ready)
        return _message("RepositoryIndexResponse", {"models": index})

    async def _load(self, call: RemoteCall) -> Any:
        await self._set_loaded(call, loaded=True)
        return message_class("RepositoryModelLoadResponse")()

    async def _unload(self, call: RemoteCall) -> Any:
        await self._set_loaded(call, loaded=False)
        return message_class("RepositoryModelUnloadResponse")()

    async def _set_loaded(self, call: RemoteCall, *, loaded: bool) -> None:
        self._callers.check_local(call.client, call.headers)
        await self._predictions.set_loaded(parse_ref(call.message.model_name).name, loaded=loaded)

    async def _model_infer(self, call: RemoteCall) -> Any:
        message, terms = call.message, call.terms
        ref = parse_ref(message.model_name, message.model_version)
        asker = None
        if self._predictions.asks_who(ref) or names_asker(call.headers):
            asker = asker_of_parameters(decode_parameters(message.parameters), call.headers, known_as(terms))
        with await self._predictions.hold(ref, terms, asker) as held:
            request, raw = decode_message(message, held.signature, self._max_rows)
            request_id = request.id or known_as(terms)
            prediction = await held.predict(request.tensors, frozenset(request.wanted) or None, terms, request_id)
        names = request.wanted or [spec.name for spec in held.signature.outputs]
        return encode_message(
            prediction.model,
            prediction.version,
            {name: prediction.outputs[name] for name in names},
            request_id=request_id,
            raw=raw,
            parameters=identity_parameters(prediction),
        )


def _message(name: str, document: dict[str, Any]) -> Any:
    """Turn a document into the message that has fields of the same names."""
    return import_module("google.protobuf.json_format").ParseDict(document, message_class(name)())

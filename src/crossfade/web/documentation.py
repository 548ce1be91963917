"""The OpenAPI paths of the data plane, made from the table of its paths: what each action takes, answers and refuses.

The data plane writes its answers without these types, because that is faster; the tests hold its answers to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import msgspec

from crossfade.errors import (
    BodyTooLargeError,
    BodyTooSlowError,
    CrossfadeError,
    DeadlineExceededError,
    DeniedError,
    InvalidInputError,
    ModelCrashedError,
    NotAcceptableError,
    NotFoundError,
    QuotaExceededError,
    UnavailableError,
    UnsafeError,
    UnsupportedMediaTypeError,
)
from crossfade.serving.guarding import SafetyNote
from crossfade.serving.protocol.columnar import FILE, PARQUET, STREAM
from crossfade.serving.protocol.formats import NPY, RAW
from crossfade.serving.protocol.oip import InferDocument, Parameters
from crossfade.traffic.allocation.evaluation import Flag
from crossfade.web.api.contract import refusals, schema_of
from crossfade.web.calls import LONGEST_TIMEOUT_MS
from crossfade.web.dataplane import PARTS
from crossfade.web.paths import TABLE, Family, family_of
from crossfade.web.problems import MEDIA_TYPE, Problem

_JSON, _TEXT = "application/json", "text/plain"
_REF = {"type": "string", "pattern": "^[A-Za-z0-9_.@:+-]{1,160}$"}
_NAMES = {
    "model": "any spelling of a reference without a slash: `churn`, `churn@challenger`, `churn:1.2.0`",
    "version": "a semver",
    "flag": "the name of an experiment",
}


class ProtocolRefusal(msgspec.Struct):
    """A refusal in the words of the Open Inference Protocol."""

    error: str


class MlflowRefusal(msgspec.Struct):
    """A refusal in the words of MLflow."""

    error_code: str
    message: str


class FlagRefusal(msgspec.Struct, rename="camel"):
    """A refusal in the words of OpenFeature."""

    error_code: str
    error_details: str
    key: str | msgspec.UnsetType = msgspec.UNSET


class FlagQuestion(msgspec.Struct):
    """Whom flags are for: `targetingKey` is the `unit_id`, everything else is what segments look at."""

    context: dict[str, Any] = {}


class FlagAnswer(msgspec.Struct, rename="camel"):
    """A flag, or why it could not be evaluated."""

    key: str
    reason: str | msgspec.UnsetType = msgspec.UNSET
    variant: str | msgspec.UnsetType = msgspec.UNSET
    value: Any = msgspec.UNSET
    metadata: dict[str, str | bool | float] | msgspec.UnsetType = msgspec.UNSET
    error_code: str | msgspec.UnsetType = msgspec.UNSET
    error_details: str | msgspec.UnsetType = msgspec.UNSET


class FlagAnswers(msgspec.Struct):
    """Every flag."""

    flags: tuple[FlagAnswer, ...]


class ServerMetadata(msgspec.Struct):
    """What the server is."""

    name: str
    version: str
    extensions: tuple[str, ...]


class TensorMetadata(msgspec.Struct):
    """A tensor that a model takes or answers; -1 is a variable dimension."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class ModelMetadata(msgspec.Struct):
    """What a model takes and answers."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


class InferOutput(msgspec.Struct):
    """One output tensor; `data` is absent when its bytes follow the JSON."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any] | msgspec.UnsetType = msgspec.UNSET
    parameters: Parameters | msgspec.UnsetType = msgspec.UNSET


class InferAnswer(msgspec.Struct):
    """The answer to an infer request."""

    model_name: str
    model_version: str
    outputs: tuple[InferOutput, ...]
    id: str | msgspec.UnsetType = msgspec.UNSET
    parameters: Parameters | msgspec.UnsetType = msgspec.UNSET


class Rows(msgspec.Struct, forbid_unknown_fields=True):
    """Rows to predict: objects, or arrays for a version whose single input is a tensor. Experiments ask who asks."""

    rows: list[dict[str, Any] | list[Any] | str | float | bool | None]
    probabilities: bool = False
    unit_id: str | int | None = None
    context: dict[str, Any] | None = None
    experiment: str | None = None


class Decided(msgspec.Struct):
    """What an experiment decided for the request, and why; outcomes name the `decision_id` of whoever takes part."""

    name: str
    variant: str
    reason: str
    why: str
    decision_id: str | msgspec.UnsetType = msgspec.UNSET


class RowsAnswer(msgspec.Struct):
    """One prediction per row."""

    model: str
    version: str
    request_id: str
    predictions: list[Any]
    alias: str | msgspec.UnsetType = msgspec.UNSET
    fallback: Literal[True] | msgspec.UnsetType = msgspec.UNSET
    experiment: Decided | msgspec.UnsetType = msgspec.UNSET
    safety: SafetyNote | msgspec.UnsetType = msgspec.UNSET
    non_finite: Literal[True] | msgspec.UnsetType = msgspec.UNSET
    classes: list[bool | int | float | str] | msgspec.UnsetType = msgspec.UNSET
    probabilities: list[list[float | None]] | msgspec.UnsetType = msgspec.UNSET


class Invocation(msgspec.Struct):
    """Exactly one of these, and perhaps `params`, which is ignored."""

    inputs: list[Any] | dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    instances: list[Any] | dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    dataframe_split: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    dataframe_records: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET


class InvocationAnswer(msgspec.Struct):
    """One prediction per row."""

    predictions: list[Any]


class Live(msgspec.Struct):
    """The process answers."""

    live: Literal[True]


class Ready(msgspec.Struct):
    """Whether it answers predictions; `name` is the model that was asked for."""

    ready: bool
    name: str | msgspec.UnsetType = msgspec.UNSET


class ServerHealth(msgspec.Struct):
    """Whether requests should come here; if not, what is waited for; emergencies; since when the database is away."""

    status: Literal["ok", "ready", "waiting"]
    waiting_for: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    emergency: str | msgspec.UnsetType = msgspec.UNSET
    database_away_seconds: float | msgspec.UnsetType = msgspec.UNSET


class IndexRequest(msgspec.Struct):
    """Which versions to list."""

    ready: bool = False


class IndexEntry(msgspec.Struct):
    """A version in this process."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


class ModelStatistics(msgspec.Struct):
    """What a version has done in this process."""

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: dict[str, Any]
    batch_stats: list[dict[str, Any]]


class Statistics(msgspec.Struct):
    """What versions have done in this process."""

    model_stats: tuple[ModelStatistics, ...]


class Configuration(msgspec.Struct):
    """A model as Triton describes it."""

    name: str
    platform: str
    backend: str
    max_batch_size: int
    input: list[dict[str, Any]]
    output: list[dict[str, Any]]
    dynamic_batching: dict[str, Any]


class Action(NamedTuple):
    """What a client may send to an action, and may get back.

    Attributes:
        answers: Media type -> type of a success; None is bytes or text.
        takes: The same of the body; empty when there is none.
        refuses: Errors beyond those of every action.
        waits: It answers 503 with the body of a success while it is not ready.
        tagged: It answers 304 to a client that has the same already.
    """

    answers: dict[str, Any]
    takes: Mapping[str, Any] = MappingProxyType({})
    refuses: tuple[type[CrossfadeError], ...] = ()
    waits: bool = False
    tagged: bool = False


_BODY = (InvalidInputError, BodyTooSlowError, BodyTooLargeError, UnavailableError)
_MODEL = (NotFoundError, InvalidInputError, UnavailableError)
_PREDICTS = (*_BODY, NotFoundError, QuotaExceededError, DeadlineExceededError, ModelCrashedError, UnsafeError)
_STATISTICS, _EMPTY = {_JSON: Statistics}, {_JSON: dict[str, Any]}
_FILES = {NPY: None, STREAM: None, FILE: None, PARQUET: None}

ACTIONS: dict[str, Action] = {
    "server": Action({_JSON: ServerMetadata}),
    "live": Action({_JSON: Live}),
    "ready": Action({_JSON: Ready}, waits=True),
    "healthz": Action({_JSON: ServerHealth}),
    "readyz": Action({_JSON: ServerHealth}, waits=True),
    "ping": Action({_TEXT: None}, waits=True),
    "version": Action({_TEXT: None}),
    "metrics": Action({_TEXT: None}),
    "model": Action({_JSON: ModelMetadata}, refuses=_MODEL),
    "model_ready": Action({_JSON: Ready}, refuses=(NotFoundError, InvalidInputError), waits=True),
    "configuration": Action({_JSON: Configuration}, refuses=_MODEL),
    "statistics": Action(_STATISTICS),
    "model_statistics": Action(_STATISTICS, refuses=_MODEL),
    "index": Action({_JSON: list[IndexEntry]}, {_JSON: IndexRequest}, _BODY),
    "load": Action(_EMPTY, _EMPTY, (*_BODY, *_MODEL)),
    "unload": Action(_EMPTY, _EMPTY, (*_BODY, *_MODEL)),
    "infer": Action({_JSON: InferAnswer, RAW: None}, {_JSON: InferDocument, RAW: None}, _PREDICTS),
    "predict": Action(
        {_JSON: RowsAnswer, **_FILES},
        {_JSON: Rows, RAW: None, **_FILES},
        (*_PREDICTS, UnsupportedMediaTypeError, NotAcceptableError),
    ),
    "evaluate_flag": Action({_JSON: Flag}, {_JSON: FlagQuestion}, (*_BODY, NotFoundError)),
    "evaluate_flags": Action({_JSON: FlagAnswers}, {_JSON: FlagQuestion}, _BODY, tagged=True),
    "invocations": Action(
        {_JSON: InvocationAnswer}, {_JSON: Invocation, "text/csv": None}, (*_PREDICTS, UnsupportedMediaTypeError)
    ),
}
"""By the name of the method of a part of the data plane."""

_EXAMPLES = {
    "infer": {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]},
    "predict": {"rows": [[1.0, 2.0]]},
    "invocations": {"inputs": [[1.0, 2.0]]},
}
_TAGS = {"oip": "Open Inference Protocol", "plain": "predictions", "mlflow": "MLflow", "ofrep": "OpenFeature"}
_REFUSALS = {"oip": ProtocolRefusal, "mlflow": MlflowRefusal, "ofrep": FlagRefusal}
_MILLISECONDS = {"type": "integer", "minimum": 1, "maximum": LONGEST_TIMEOUT_MS}
_PREDICT_PARAMETERS = (
    (
        "X-Request-Timeout-Ms",
        "milliseconds until an answer is of no use",
        _MILLISECONDS,
    ),
    ("X-Request-Priority", "who goes first under load", {"enum": ["online", "batch", "shadow"]}),
    ("X-Request-Replay", "put to a version again, so that it is not captured", {"enum": ["true"]}),
    ("traceparent", "the caller's place in its trace", {"type": "string"}),
    ("X-Unit-ID", "who asks: what experiments are sticky to", {"type": "string"}),
    ("X-Experiment-ID", "the only experiment that may decide who answers", {"type": "string"}),
    ("X-Context", "what segments of experiments look at: a JSON object", {"type": "string"}),
)


def data_plane_paths() -> dict[str, Any]:
    """Return the OpenAPI path items of the data plane; their schemas are remembered by the contract."""
    found: dict[str, Any] = {}
    for method, path, action in TABLE:
        found.setdefault(path, {})[method.lower()] = _operation(path, action)
    return found


def _operation(path: str, name: str) -> dict[str, Any]:
    action = ACTIONS[name]
    family = family_of(path) or "plain"
    method = next(getattr(part, name) for part in PARTS if hasattr(part, name))
    operation: dict[str, Any] = {
        "tags": [_TAGS[family]],
        "summary": name.replace("_", " ").capitalize(),
        "description": (method.__doc__ or "").strip(),
        "operationId": _identifier(path, name),
        "parameters": list(_parameters(path, name)),
        "responses": _responses(action, family),
    }
    if action.takes:
        content = _content(action.takes)
        if name in _EXAMPLES:
            content[_JSON]["example"] = _EXAMPLES[name]
        operation["requestBody"] = {"required": name in _EXAMPLES, "content": content}
    return operation


def _identifier(path: str, name: str) -> str:
    """Return a name of its own for each path of an action."""
    same = [other for _, other, action in TABLE if action == name]
    return f"data_plane_{name}" if len(same) == 1 else f"data_plane_{name}_{same.index(path) + 1}"


def _parameters(path: str, name: str) -> list[dict[str, Any]]:
    named = [segment[1:-1] for segment in path.split("/") if segment.startswith("{")]
    found = [
        {"name": item, "in": "path", "required": True, "description": _NAMES[item], "schema": _REF} for item in named
    ]
    if name in _EXAMPLES:
        found += [
            {"name": header, "in": "header", "description": text, "schema": schema}
            for header, text, schema in _PREDICT_PARAMETERS
        ]
    if ACTIONS[name].tagged:
        text = "the `ETag` of an answer that the client has"
        found.append({"name": "If-None-Match", "in": "header", "description": text, "schema": {"type": "string"}})
    if name == "predict":
        text = "answer the probability of each class, too"
        found.append({"name": "probabilities", "in": "query", "description": text, "schema": {"type": "boolean"}})
    return found


def _responses(action: Action, family: Family) -> dict[str, Any]:
    content = _content(action.answers)
    media_types: dict[str, Any] = {MEDIA_TYPE: {"schema": schema_of(Problem)}}
    if family in _REFUSALS:
        media_types[_JSON] = {"schema": schema_of(_REFUSALS[family])}
    responses = refusals((DeniedError, *action.refuses), media_types)
    if family == "mlflow":
        _as_mlflow_says(responses)
    if family == "ofrep" and "422" in responses:
        responses["400"] = responses.pop("422")
    if action.tagged:
        responses["304"] = {"description": "What the client has is still true"}
    if action.waits:
        waiting = {"description": "Not ready", "content": content | responses.get("503", {}).get("content", {})}
        responses["503"] = waiting
    return {"200": {"description": "Done", "content": content}, **dict(sorted(responses.items()))}


def _as_mlflow_says(responses: dict[str, Any]) -> None:
    """MLflow answers 400 to whatever cannot be used, and text to a wrong media type."""
    if "422" in responses:
        responses["400"] = responses.pop("422")
    if "415" in responses:
        responses["415"] = {**responses["415"], "content": {_TEXT: {"schema": {"type": "string"}}}}


def _content(kinds: Mapping[str, Any]) -> dict[str, Any]:
    return {media: {"schema": _schema(media, kind)} for media, kind in kinds.items()}


def _schema(media: str, kind: Any) -> dict[str, Any]:
    if kind is None:
        return {"type": "string"} if media == _TEXT else {"type": "string", "format": "binary"}
    return schema_of(kind)

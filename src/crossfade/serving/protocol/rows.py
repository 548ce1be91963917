"""Plain prediction requests: rows as JSON objects in, one prediction per row out, for people with curl.

Request, any of:
    `{"rows": [{"distance": 733, "carrier": "UA"}], "probabilities": true}`, or only the list of rows. A version with
    a single tensor as its input also takes rows that are arrays: `{"rows": [[0.1, 0.2, 0.3]]}`. Where experiments run,
    `unit_id`, `context` and `experiment` say who asks, see `askers`.

Answer:
    `{"model", "version", "alias"?, "request_id", "predictions": [one per row], "classes"?, "probabilities"?: [one
    array per row, in the order of "classes"]}`. A prediction that is not a finite number is null, and then
    `"non_finite": true` is there too. `"fallback": true` says that a former version answered, because the one behind
    the alias is not ready. Where an experiment was about the request, `"experiment"` says what it decided.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from crossfade.core.conversion import to_tensors
from crossfade.core.tensors import Signature, Tensors
from crossfade.errors import MalformedRequestError
from crossfade.serving.predictor import LABELS, PROBABILITIES
from crossfade.serving.protocol.answers import has_non_finite, json_values
from crossfade.serving.protocol.numbers import parse_rows


class RowsRequest(msgspec.Struct, frozen=True):
    """A decoded request: the inputs, not yet checked against the signature, and the outputs to compute."""

    tensors: Tensors
    label: str
    probabilities: bool

    @property
    def wanted(self) -> tuple[str, ...]:
        """The outputs to compute."""
        return (self.label, PROBABILITIES) if self.probabilities else (self.label,)


class RowsDocument(msgspec.Struct, forbid_unknown_fields=True):
    """A request as it is written down: the rows, and who asks for them."""

    rows: msgspec.Raw
    probabilities: bool = False
    unit_id: str | int | None = None
    context: dict[str, Any] | None = None
    experiment: str | None = None


_decode_document = msgspec.json.Decoder(RowsDocument).decode
_decode_objects = msgspec.json.Decoder(list[dict[str, Any]]).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


def peek_rows(body: bytes) -> RowsDocument | None:
    """Return a request before it is known which version answers.

    None when it is only a list of rows, or when it cannot be read: then `decode_rows`, which takes what this returns,
    says why.
    """
    text = body.strip()
    if text.startswith(b"["):
        return None
    try:
        return _decode_document(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def decode_rows(
    body: bytes,
    signature: Signature,
    max_rows: int,
    *,
    probabilities: bool = False,
    document: RowsDocument | None = None,
) -> RowsRequest:
    """Decode rows by the signature of the version that will answer.

    Args:
        body: See the module.
        signature: Names and types of the inputs.
        max_rows: The largest accepted number of rows.
        probabilities: Asked for outside of the body.
        document: The body, where somebody has read it already.

    Raises:
        MalformedRequestError: It is not what the module describes.
        SignatureMismatchError: A row does not fit, or the version has no probabilities.

    Example:
        >>> from crossfade.core.tensors import TensorSpec
        >>> signature = Signature((TensorSpec("age", "FP64", (-1,)),), (TensorSpec("predict", "FP64", (-1,)),))
        >>> decode_rows(b'[{"age": 41}]', signature, 10).tensors
        {'age': array([41.])}
    """
    try:
        tensors, in_body = _decode(body, document, signature, max_rows)
    except msgspec.MsgspecError as error:
        raise MalformedRequestError(problem=str(error)) from error
    except UnicodeDecodeError as error:
        raise MalformedRequestError(problem="the JSON is not UTF-8") from error
    except RecursionError:
        raise MalformedRequestError(problem="the JSON is nested too deeply") from None
    return ask_for(tensors, signature, probabilities=probabilities or in_body)


def ask_for(tensors: Tensors, signature: Signature, *, probabilities: bool) -> RowsRequest:
    """Return the request for predictions of these inputs, however they arrived.

    Raises:
        SignatureMismatchError: The version has no probabilities.
    """
    names = [spec.name for spec in signature.outputs]
    if probabilities:
        signature.output(PROBABILITIES)
    return RowsRequest(tensors, LABELS if LABELS in names else names[0], probabilities)


def encode_rows(identity: dict[str, Any], outputs: Tensors, request: RowsRequest, signature: Signature) -> bytes:
    """Encode the answer.

    Args:
        identity: What answered: `model`, `version`, `request_id`, perhaps `alias`, `fallback` and `experiment`.
        outputs: Holds the request's `wanted`.
        request: What was asked.
        signature: Of the version that answered.
    """
    document: dict[str, Any] = {**identity, "predictions": json_values(request.label, outputs[request.label])}
    if request.probabilities:
        document["classes"] = signature.classes
        document["probabilities"] = json_values(PROBABILITIES, outputs[PROBABILITIES])
    if any(has_non_finite(outputs[name]) for name in request.wanted):
        document["non_finite"] = True
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _decode(body: bytes, document: RowsDocument | None, signature: Signature, max_rows: int) -> tuple[Tensors, bool]:
    text, probabilities = body.strip(), False
    if not text.startswith(b"["):
        if document is None:
            document = _decode_document(text)
        text, probabilities = bytes(document.rows), document.probabilities
    first = text[1:].lstrip()[:1]
    if not text.startswith(b"[") or first in {b"]", b""}:
        raise MalformedRequestError(problem="`rows` must be an array of at least one row")
    if text.count(b"{" if first == b"{" else b",") >= max_rows:
        rows = len(_decode_items(text))
        if rows > max_rows:
            raise MalformedRequestError(problem=f"{rows} rows, at most {max_rows} at once")
    if first == b"{":
        return to_tensors(_decode_objects(text), signature.inputs), probabilities
    spec = signature.inputs[0]
    if len(signature.inputs) > 1:
        names = ", ".join(item.name for item in signature.inputs[:20])
        raise MalformedRequestError(problem=f"every row must be an object with the inputs {names}")
    return {spec.name: parse_rows(spec.name, spec.datatype, len(spec.shape), text)}, probabilities

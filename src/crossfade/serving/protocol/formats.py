"""The formats of plain predictions: which decoder reads a body, and how the answer is written, by media type."""

from __future__ import annotations

from crossfade.core.conversion import to_tensors
from crossfade.core.tensors import Signature, Tensors
from crossfade.errors import NotAcceptableError, UnsupportedMediaTypeError
from crossfade.serving.predictor import PROBABILITIES
from crossfade.serving.protocol.columnar import FILE, PARQUET, STREAM, read_table, write_table
from crossfade.serving.protocol.npy import read_npy, write_npy
from crossfade.serving.protocol.oip import decode_raw
from crossfade.serving.protocol.rows import RowsDocument, RowsRequest, ask_for, decode_rows, peek_rows

NPY = "application/x-npy"
RAW = "application/octet-stream"
_JSON = frozenset({"", "application/json", "text/json", "text/plain", "application/x-www-form-urlencoded"})
"""What clients say about JSON; curl claims a form unless it is told otherwise."""
_BINARY = (NPY, STREAM, FILE, RAW)
_ANSWERS = frozenset({NPY, STREAM, FILE, PARQUET})


def peek_body(content_type: bytes, body: bytes) -> RowsDocument | None:
    """Return what a body says before it is known which version answers; None where it says only rows, or is unread."""
    return peek_rows(body) if _media_type(content_type) in _JSON else None


def decode_body(
    content_type: bytes,
    body: bytes,
    signature: Signature,
    max_rows: int,
    *,
    probabilities: bool,
    document: RowsDocument | None = None,
) -> RowsRequest:
    """Decode the body of a plain prediction.

    Args:
        content_type: The header; empty means JSON.
        body: Unpacked.
        signature: Of the version that will answer.
        max_rows: The largest accepted number of rows.
        probabilities: Asked for outside of the body.
        document: What `peek_body` returned, if it was asked.

    Raises:
        UnsupportedMediaTypeError: No decoder reads this type.
        InvalidInputError: The body does not fit its type or the signature.
    """
    kind = _media_type(content_type)
    if kind in _JSON:
        return decode_rows(body, signature, max_rows, probabilities=probabilities, document=document)
    if kind not in _BINARY:
        raise UnsupportedMediaTypeError(given=kind[:80], supported=", ".join(("application/json", *_BINARY, PARQUET)))
    tensors = _decode_binary(kind, body, signature, max_rows)
    return ask_for(tensors, signature, probabilities=probabilities)


def is_parquet(content_type: bytes) -> bool:
    """Tell whether a body has to go through `serving.protocol.parquet` first, and is an Arrow stream then."""
    return _media_type(content_type) == PARQUET


def answer_format(accept: bytes) -> str | None:
    """Return the first binary format that an `Accept` header names, None when the answer is JSON.

    Example:
        >>> answer_format(b"application/x-npy, */*;q=0.1")
        'application/x-npy'
    """
    kinds = (_media_type(wish) for wish in accept.split(b","))
    return next((kind for kind in kinds if kind in _ANSWERS), None)


def encode_binary(kind: str, outputs: Tensors, request: RowsRequest) -> bytes:
    """Encode an answer: `.npy` holds the probabilities when they were asked for, else the predictions.

    Raises:
        NotAcceptableError: The format cannot hold them.
        MissingExtraError: Arrow needs pyarrow.
    """
    if kind != NPY:
        return write_table(kind, {name: outputs[name] for name in request.wanted})
    array = outputs[PROBABILITIES if request.probabilities else request.label]
    if array.dtype.kind in "OSU":
        raise NotAcceptableError(wanted=NPY, problem="the predictions are text")
    return write_npy(array)


def _decode_binary(kind: str, body: bytes, signature: Signature, max_rows: int) -> Tensors:
    if kind == RAW:
        return decode_raw(body, signature, max_rows)
    if kind == NPY:
        return to_tensors(read_npy(body, max_rows), signature.inputs)
    return read_table(kind, body, signature, max_rows)


def _media_type(header: bytes) -> str:
    return header.partition(b";")[0].strip().lower().decode("latin-1")

"""Who asks: the unit, its context and perhaps an experiment, read before it is known which version will answer.

| | plain rows | Open Inference Protocol | any request |
|---|---|---|---|
| unit | `"unit_id"` | `parameters.unit_id` | header `X-Unit-ID` |
| experiment | `"experiment"` | `parameters.experiment` | header `X-Experiment-ID` |
| context | `"context"`, an object | other `parameters` | header `X-Context`, a JSON object |

A whole number as a unit is its decimal text. What the body says goes before what a header says. A body is decoded once:
the decoders of its format hand on what they have read, which for a large one takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from crossfade.errors import MalformedRequestError
from crossfade.serving.protocol.rows import RowsDocument
from crossfade.traffic.routing import Asker

UNIT, EXPERIMENT, CONTEXT = b"x-unit-id", b"x-experiment-id", b"x-context"
_HEADERS = frozenset({UNIT, EXPERIMENT, CONTEXT})
_MAX_CONTEXT_BYTES = 16 * 2**10
_NO_CONTEXT = frozenset({"unit_id", "experiment", "binary_data_output"})
"""Parameters that say something else; the last one is the protocol's own."""
_decode_context = msgspec.json.Decoder(dict[str, Any]).decode


def names_asker(headers: Mapping[bytes, bytes]) -> bool:
    """Tell whether the headers of a request say who asks, or which experiment shall decide."""
    return not headers.keys().isdisjoint(_HEADERS)


def asker_of_rows(document: RowsDocument | None, headers: Mapping[bytes, bytes], request_id: str = "") -> Asker:
    """Return who asks for plain rows.

    Args:
        document: The body; None where it says nothing about that.
        headers: Of the request.
        request_id: What the client calls the request.

    Raises:
        MalformedRequestError: `X-Context` is no JSON object.

    Example:
        >>> asker_of_rows(RowsDocument(msgspec.Raw(b"[]"), unit_id=7), {b"x-experiment-id": b"late"}).unit
        '7'
    """
    if document is None:
        return asker_of_parameters({}, headers, request_id)
    unit = _text(document.unit_id, headers.get(UNIT))
    experiment = _text(document.experiment, headers.get(EXPERIMENT))
    context = document.context
    if context is None:
        context = _context_of(headers)
    return Asker(unit, context, experiment or "", request_id)


def asker_of_parameters(parameters: Mapping[str, Any], headers: Mapping[bytes, bytes], request_id: str = "") -> Asker:
    """Return who asks, from the parameters of the Open Inference Protocol.

    Args:
        parameters: Of the request.
        headers: Of the request.
        request_id: What the client calls the request.

    Raises:
        MalformedRequestError: What it says is of a wrong type.

    Example:
        >>> asker_of_parameters({"unit_id": "UA-1545", "origin": "JFK"}, {}).context
        {'origin': 'JFK'}
    """
    unit = _text(parameters.get("unit_id"), headers.get(UNIT))
    experiment = _text(parameters.get("experiment"), headers.get(EXPERIMENT))
    context = {name: value for name, value in parameters.items() if name not in _NO_CONTEXT}
    return Asker(unit, context or _context_of(headers), experiment or "", request_id)


def _text(said: Any, header: bytes | None) -> str | None:
    if type(said) is str:
        return said
    if said is None:
        return None if header is None else header.decode("latin-1")
    if type(said) is int:
        return str(said)
    raise MalformedRequestError(problem="`unit_id` and `experiment` are texts")


def _context_of(headers: Mapping[bytes, bytes]) -> dict[str, Any] | None:
    header = headers.get(CONTEXT)
    if header is None:
        return None
    if len(header) > _MAX_CONTEXT_BYTES:
        raise MalformedRequestError(problem=f"`X-Context` is larger than {_MAX_CONTEXT_BYTES} bytes")
    try:
        return _decode_context(header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRequestError(problem=f"`X-Context` is no JSON object: {error}") from error

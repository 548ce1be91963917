"""Who asks: the unit, its context and perhaps an experiment, read before it is known which version will answer.

| | plain rows | Open Inference Protocol | any body |
|---|---|---|---|
| unit | `"unit_id"` | `parameters.unit_id` | header `X-Unit-ID` |
| experiment | `"experiment"` | `parameters.experiment` | header `X-Experiment-ID` |
| context | `"context"`, an object | other `parameters` | header `X-Context`, a JSON object |

A whole number as a unit is its decimal text. What the body says goes before what a header says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from crossfade.errors import MalformedRequestError
from crossfade.traffic.routing import Asker

_HEADERS = (b"x-unit-id", b"x-experiment-id", b"x-context")
_MAX_CONTEXT_BYTES = 16 * 2**10
_NO_CONTEXT = frozenset({"unit_id", "experiment", "binary_data_output"})
"""Parameters that say something else; the last one is the protocol's own."""


class _Body(msgspec.Struct, gc=False):
    """What a JSON body says about its sender; everything else is left to the decoder of the version."""

    unit_id: str | int | None = None
    context: dict[str, Any] | None = None
    experiment: str | None = None
    parameters: dict[str, Any] | None = None


_NOTHING = _Body()
_decode_body = msgspec.json.Decoder(_Body).decode
_decode_context = msgspec.json.Decoder(dict[str, Any]).decode


def names_asker(headers: Mapping[bytes, bytes]) -> bool:
    """Tell whether the headers of a request say who asks, or which experiment shall decide."""
    return any(name in headers for name in _HEADERS)


def decode_asker(headers: Mapping[bytes, bytes], text: bytes | None, request_id: str = "") -> Asker:
    """Return who asks.

    Args:
        headers: Of the request.
        text: The JSON of its body; None when it has none.
        request_id: What the client calls the request.

    Raises:
        MalformedRequestError: What it says is of a wrong type.

    Example:
        >>> decode_asker({b"x-experiment-id": b"late"}, b'{"rows": [], "unit_id": 7}').unit
        '7'
    """
    body = _NOTHING if text is None or text.lstrip()[:1] != b"{" else _read(text)
    parameters = body.parameters or {}
    unit = _text(body.unit_id, parameters.get("unit_id"), headers.get(b"x-unit-id"))
    experiment = _text(body.experiment, parameters.get("experiment"), headers.get(b"x-experiment-id"))
    context = body.context if body.context is not None else _context(parameters, headers.get(b"x-context"))
    return Asker(unit, context, experiment or "", request_id)


def asker_of_parameters(parameters: Mapping[str, Any], headers: Mapping[bytes, bytes], request_id: str = "") -> Asker:
    """Return who asks, from parameters that are decoded already.

    Raises:
        MalformedRequestError: What it says is of a wrong type.
    """
    unit = _text(parameters.get("unit_id"), headers.get(b"x-unit-id"))
    experiment = _text(parameters.get("experiment"), headers.get(b"x-experiment-id"))
    return Asker(unit, _context(parameters, headers.get(b"x-context")), experiment or "", request_id)


def _read(text: bytes) -> _Body:
    try:
        return _decode_body(text)
    except msgspec.ValidationError as error:
        raise MalformedRequestError(problem=str(error)) from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _NOTHING  # the decoder of the version says what is wrong with it


def _text(*wishes: Any) -> str | None:
    for wish in wishes:
        if isinstance(wish, bytes):
            return wish.decode("latin-1")
        if isinstance(wish, str) or (isinstance(wish, int) and not isinstance(wish, bool)):
            return str(wish)
        if wish is not None:
            raise MalformedRequestError(problem="`unit_id` and `experiment` are texts")
    return None


def _context(parameters: Mapping[str, Any], header: bytes | None) -> Mapping[str, Any] | None:
    own = {name: value for name, value in parameters.items() if name not in _NO_CONTEXT}
    if own or header is None:
        return own or None
    if len(header) > _MAX_CONTEXT_BYTES:
        raise MalformedRequestError(problem=f"`X-Context` is larger than {_MAX_CONTEXT_BYTES} bytes")
    try:
        return _decode_context(header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRequestError(problem=f"`X-Context` is no JSON object: {error}") from error

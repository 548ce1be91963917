"""Open Inference Protocol v2 over gRPC: messages to tensors and answers to messages.

What a tensor says about itself is checked by the code that checks it over HTTP. Elements come raw, as in a binary
tensor, or typed; an answer comes in the way of its request. FP16 has no typed form and makes an answer raw.

Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_grpc.md
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from crossfade.core.tensors import DTYPES, Array, Signature, Tensors, datatype_of
from crossfade.errors import MalformedRequestError
from crossfade.serving.protocol.binary import element_bytes, pack_tensor, unpack_tensor
from crossfade.serving.protocol.messages import message_class
from crossfade.serving.protocol.oip import (
    MAX_TENSORS,
    InferRequest,
    WantedOutput,
    as_wanted,
    check_head,
    select_outputs,
)

_SMALL_BYTES = 64 * 2**10
_MAX_FIELDS = 4 * MAX_TENSORS
"""Of a large request: inputs, their raw contents, wanted outputs, parameters."""
_VARINT, _LENGTH_DELIMITED = 0, 2
_FIXED = {1: 8, 5: 4}

_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Datatype -> where its elements are when they come typed."""


def parse_message(name: str, body: bytes) -> Any:
    r"""Parse a message of the protocol.

    Two bytes can announce a tensor that takes a hundred in memory, so a large message is first looked over.

    Raises:
        MalformedRequestError: It is none, or has more fields than any sensible request.

    Example:
        >>> parse_message("ModelReadyRequest", b"\n\x02lr").name
        'lr'
    """
    if len(body) > _SMALL_BYTES:
        _check_fields(body)
    try:
        return message_class(name).FromString(body)
    except import_module("google.protobuf.message").DecodeError as error:
        raise MalformedRequestError(problem=f"this is no {name}") from error


def decode_message(message: Any, signature: Signature, max_rows: int) -> tuple[InferRequest, bool]:
    """Decode a `ModelInferRequest`.

    Args:
        message: From `parse_message`.
        signature: Of the version that will answer.
        max_rows: The largest accepted first dimension.

    Returns:
        The request, and whether its tensors came raw.

    Raises:
        MalformedRequestError: What it says about itself is untrue.
        SignatureMismatchError: It asks for an output that does not exist.
    """
    raw = message.raw_input_contents
    if not message.inputs:
        raise MalformedRequestError(problem="`inputs` is empty")
    if len(message.inputs) + len(message.outputs) > MAX_TENSORS:
        raise MalformedRequestError(problem=f"more than {MAX_TENSORS} tensors")
    if raw and len(raw) != len(message.inputs):
        raise MalformedRequestError(problem=f"{len(raw)} raw_input_contents for {len(message.inputs)} inputs")
    tensors: Tensors = {}
    for index, item in enumerate(message.inputs):
        if item.name in tensors:
            raise MalformedRequestError(problem=f"input `{item.name[:80]}` is given twice")
        array = _read_input(item, raw[index] if raw else None, max_rows)
        tensors[item.name] = array if array.dtype.kind != "O" else as_wanted(item.name, array, signature)
    wanted, _ = select_outputs([WantedOutput(output.name) for output in message.outputs], {}, signature)
    return InferRequest(message.id, {}, tensors, wanted, frozenset()), bool(raw)


def decode_parameters(parameters: Any) -> dict[str, Any]:
    """Return the parameters of a message, each as the type that it was sent as; those without a value are left out."""
    kinds = {name: parameter.WhichOneof("choice") for name, parameter in parameters.items()}
    return {name: getattr(parameters[name], kind) for name, kind in kinds.items() if kind}


def encode_message(
    model: str,
    version: str,
    outputs: Tensors,
    *,
    request_id: str,
    raw: bool,
    parameters: dict[str, str | bool] | None = None,
) -> Any:
    """Return the `ModelInferResponse` with these outputs.

    Args:
        model: The name of the model that answered.
        version: Its semver.
        outputs: Name -> array, in the order of the answer.
        request_id: The `id` of the request; empty when it had none.
        raw: Whether the elements are written as in a binary tensor.
        parameters: Of the answer as a whole.

    Example:
        >>> encode_message("lr", "1.0.0", {"y": np.ones(1)}, request_id="", raw=False).outputs[0].contents.fp64_contents
        [1.0]
    """
    answer = message_class("ModelInferResponse")(model_name=model, model_version=version, id=request_id)
    for key, value in (parameters or {}).items():
        setattr(answer.parameters[key], "bool_param" if isinstance(value, bool) else "string_param", value)
    described = [(name, datatype_of(array.dtype), array) for name, array in outputs.items()]
    raw = raw or any(datatype not in _CONTENTS for _, datatype, _ in described)
    for name, datatype, array in described:
        output = answer.outputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw:
            answer.raw_output_contents.append(pack_tensor(array))
        else:
            elements = array.ravel().tolist()
            values = [element_bytes(item) for item in elements] if datatype == "BYTES" else elements
            getattr(output.contents, _CONTENTS[datatype]).extend(values)
    return answer


def _read_input(item: Any, raw: bytes | None, max_rows: int) -> Array:
    name, datatype, shape = item.name[:80], item.datatype, tuple(item.shape)
    elements = check_head(name, datatype, shape, max_rows)
    given = [field.name for field, _ in item.contents.ListFields()]
    if raw is not None:
        if given:
            raise MalformedRequestError(problem=f"input `{name}` has both raw and typed contents")
        return unpack_tensor(name, datatype, shape, memoryview(raw))
    field = _CONTENTS.get(datatype)
    if field is None:
        raise MalformedRequestError(problem=f"input `{name}`: {datatype} comes in raw_input_contents only")
    if given not in ([], [field]):
        raise MalformedRequestError(problem=f"input `{name}`: {datatype} comes in {field}, not in {', '.join(given)}")
    values = getattr(item.contents, field)
    if len(values) != elements:
        problem = f"input `{name}`: shape {list(shape)} means {elements} elements, {field} has {len(values)}"
        raise MalformedRequestError(problem=problem)
    try:
        return np.fromiter(values, DTYPES[datatype], elements).reshape(shape)
    except OverflowError as error:
        raise MalformedRequestError(problem=f"input `{name}`: a number does not fit {datatype}") from error


def _check_fields(body: bytes) -> None:
    """Count the fields at the top of a message; what is no message at all is left to the parser."""
    position = fields = 0
    while position < len(body):
        fields += 1
        if fields > _MAX_FIELDS:
            raise MalformedRequestError(problem=f"the message has more than {_MAX_FIELDS} fields")
        tag, position = _varint(body, position)
        kind = tag & 7
        if kind == _VARINT:
            _, position = _varint(body, position)
        elif kind == _LENGTH_DELIMITED:
            size, position = _varint(body, position)
            position += size
        elif kind in _FIXED:
            position += _FIXED[kind]
        else:
            return


def _varint(body: bytes, position: int) -> tuple[int, int]:
    """Read a number of 7 bits a byte; one that does not end ends the body."""
    value = shift = 0
    for byte in body[position : position + 10]:
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    return 0, len(body)

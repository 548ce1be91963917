"""Open Inference Protocol v2 over HTTP: infer requests to tensors.

Everything that a request says about sizes is checked against what it holds before anything is allocated. Unknown
fields are accepted, as the protocol asks. `answers` has the way back.

Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from crossfade.core.tensors import DTYPES, Array, Signature, Tensors
from crossfade.errors import MalformedRequestError, SignatureMismatchError
from crossfade.serving.protocol.binary import unpack_tensor
from crossfade.serving.protocol.numbers import count_elements, parse_data

Parameters = dict[str, str | int | float | bool]

MAX_TENSORS = 4096
"""Inputs plus requested outputs of one request."""
_SMALL_BYTES = 64 * 2**10


class InferInput(msgspec.Struct, gc=False):
    """One input tensor as it is announced."""

    name: str
    shape: tuple[int, ...]
    datatype: str
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    parameters: Parameters | None = None


class WantedOutput(msgspec.Struct, gc=False):
    """One output that the client asks for."""

    name: str
    parameters: Parameters | None = None


class InferDocument(msgspec.Struct, gc=False):
    """The JSON part of an infer request."""

    inputs: list[InferInput]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[WantedOutput] | None = None


class InferRequest(msgspec.Struct, frozen=True, gc=False):
    """A decoded infer request.

    Args:
        id: What the client calls it, or None.
        parameters: Of the request.
        tensors: Input name -> array, not yet checked against the signature.
        wanted: Output names in the order asked for; empty means all.
        binary: Names of outputs to be answered as binary tensors.
    """

    id: str | None
    parameters: Parameters
    tensors: Tensors
    wanted: tuple[str, ...]
    binary: frozenset[str]


_decode_document = msgspec.json.Decoder(InferDocument).decode


def peek_document(body: bytes, header_length: bytes | None) -> InferDocument | None:
    """Return the JSON part of an infer request before it is known which version answers.

    None when it has none, or when it cannot be read: then `decode_request`, which takes what this returns, says why.
    """
    try:
        length = json_length(header_length, len(body))
        return _parse(body[:length]) if length > 0 else None
    except MalformedRequestError:
        return None


def decode_request(
    body: bytes,
    header_length: bytes | None,
    signature: Signature,
    max_rows: int,
    document: InferDocument | None = None,
) -> InferRequest:
    """Decode the body of an infer request.

    Args:
        body: JSON, or JSON followed by binary tensors, or one raw tensor.
        header_length: The `Inference-Header-Content-Length` header: how many bytes of `body` are JSON; `0` means that
            the body is the single input.
        signature: Of the version that will answer.
        max_rows: The largest accepted first dimension.
        document: The JSON part, where somebody has read it already.

    Raises:
        MalformedRequestError: It is no infer request, or what it says about itself is untrue.
        SignatureMismatchError: It asks for an output that does not exist, or is raw and the signature leaves its
            shape open.

    Example:
        >>> from crossfade.core.tensors import TensorSpec
        >>> spec = TensorSpec("x", "FP64", (-1, 2))
        >>> body = b'{"id": "7", "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}]}'
        >>> decode_request(body, None, Signature((spec,), ()), 100).tensors["x"].tolist()
        [[1.0, 2.0]]
    """
    json_bytes = json_length(header_length, len(body))
    if json_bytes == 0:
        names = frozenset(output.name for output in signature.outputs)
        return InferRequest(None, {}, decode_raw(body, signature, max_rows), (), names)
    if document is None:
        document = _parse(body[:json_bytes])
    if not document.inputs:
        raise MalformedRequestError(problem="`inputs` is empty")
    tensors: Tensors = {}
    rest = memoryview(body)[json_bytes:]
    for item in document.inputs:
        if item.name in tensors:
            raise MalformedRequestError(problem=f"input `{item.name[:80]}` is given twice")
        array, rest = _decode_input(item, rest, max_rows)
        tensors[item.name] = array if array.dtype.kind != "O" else as_wanted(item.name, array, signature)
    if rest:
        raise MalformedRequestError(problem=f"{len(rest)} bytes follow the last binary tensor")
    parameters = document.parameters or {}
    wanted, binary = select_outputs(document.outputs or (), parameters, signature)
    return InferRequest(document.id, parameters, tensors, wanted, binary)


def json_length(header: bytes | None, body_bytes: int) -> int:
    """Return how many bytes of a body are JSON; -1 for an empty body.

    Raises:
        MalformedRequestError: `Inference-Header-Content-Length` says what cannot be.
    """
    if header is None:
        return body_bytes or -1
    length = int(header) if header.isdigit() and len(header) < 16 else -1
    if not 0 <= length <= body_bytes:
        raise MalformedRequestError(
            problem=f"Inference-Header-Content-Length is {header[:32]!r}, the body has {body_bytes} bytes"
        )
    return length


def _parse(text: bytes) -> InferDocument:
    if len(text) > _SMALL_BYTES and text.count(b'"name"') > MAX_TENSORS:
        raise MalformedRequestError(problem=f"more than {MAX_TENSORS} tensors")
    try:
        return _decode_document(text)
    except msgspec.MsgspecError as error:
        raise MalformedRequestError(problem=str(error)) from error
    except UnicodeDecodeError as error:
        raise MalformedRequestError(problem="the JSON is not UTF-8") from error
    except RecursionError:
        raise MalformedRequestError(problem="the JSON is nested too deeply") from None


def check_head(name: str, datatype: str, shape: tuple[int, ...], max_rows: int) -> int:
    """Return how many elements an input announces, after checking what it says before its data.

    Raises:
        MalformedRequestError: The datatype is unknown, or the shape cannot be or has too many rows.
    """
    elements = count_elements(name, datatype, shape)
    if shape and shape[0] > max_rows:
        raise MalformedRequestError(problem=f"input `{name}`: {shape[0]} rows, at most {max_rows} at once")
    return elements


def _decode_input(item: InferInput, rest: memoryview, max_rows: int) -> tuple[Array, memoryview]:
    name, shape = item.name[:80], item.shape
    check_head(name, item.datatype, shape, max_rows)
    size = item.parameters.get("binary_data_size") if item.parameters else None
    if size is None:
        if item.data is msgspec.UNSET:
            raise MalformedRequestError(problem=f"input `{name}` has neither `data` nor `binary_data_size`")
        return parse_data(name, item.datatype, shape, bytes(item.data)), rest
    if item.data is not msgspec.UNSET:
        raise MalformedRequestError(problem=f"input `{name}` has both `data` and `binary_data_size`")
    if type(size) is not int or not 0 <= size <= len(rest):
        raise MalformedRequestError(
            problem=f"input `{name}`: binary_data_size is {size!r}, {len(rest)} bytes are left in the body"
        )
    return unpack_tensor(name, item.datatype, shape, rest[:size]), rest[size:]


def decode_raw(body: bytes, signature: Signature, max_rows: int) -> Tensors:
    """Decode a body that is the single input of a version, with nothing said about it.

    Raises:
        SignatureMismatchError: There are several inputs, or the signature leaves the shape of its rows open.
        MalformedRequestError: The size is not that of whole rows, or there are too many.

    Example:
        >>> from crossfade.core.tensors import TensorSpec
        >>> decode_raw(b"RIFF", Signature((TensorSpec("audio", "BYTES", (-1,), text=False),), ()), 10)
        {'audio': array([b'RIFF'], dtype=object)}
    """
    spec = signature.inputs[0]
    open_shape = spec.datatype != "BYTES" and any(size < 0 for size in spec.shape[1:])
    if len(signature.inputs) != 1 or open_shape:
        raise SignatureMismatchError(
            field=spec.name,
            expected="a request with a JSON part, because the body alone does not say the shapes",
            given="raw bytes",
        )
    if spec.datatype == "BYTES":
        shape = tuple(1 for _ in spec.shape)
        array = unpack_tensor(spec.name, "BYTES", shape, memoryview(len(body).to_bytes(4, "little") + body))
        return {spec.name: as_wanted(spec.name, array, signature)}
    row_bytes = count_elements(spec.name, spec.datatype, spec.shape[1:]) * DTYPES[spec.datatype].itemsize
    rows = len(body) // row_bytes if row_bytes else 0
    if rows > max_rows:
        raise MalformedRequestError(problem=f"input `{spec.name}`: {rows} rows, at most {max_rows} at once")
    return {spec.name: unpack_tensor(spec.name, spec.datatype, (rows, *spec.shape[1:]), memoryview(body))}


def select_outputs(
    outputs: Sequence[WantedOutput], parameters: Parameters, signature: Signature
) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return which outputs a request wants, in its order, and which of them as binary tensors.

    Raises:
        SignatureMismatchError: There is no such output.
        MalformedRequestError: One is wanted twice, or a flag is no truth value.
    """
    everything = _flag(parameters, "binary_data_output", default=False)
    if not outputs:
        return (), frozenset(spec.name for spec in signature.outputs) if everything else frozenset()
    wanted = tuple(signature.output(output.name).name for output in outputs)
    if len(set(wanted)) != len(wanted):
        raise MalformedRequestError(problem="an output is asked for twice")
    binary = {output.name for output in outputs if _flag(output.parameters or {}, "binary_data", default=everything)}
    return wanted, frozenset(binary)


def _flag(parameters: Parameters, name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise MalformedRequestError(problem=f"parameter `{name}` must be true or false, got {value!r}"[:200])
    return value


def as_wanted(name: str, array: Array, signature: Signature) -> Array:
    """Turn BYTES elements into text or raw bytes, whichever the signature wants."""
    text = next((spec.text for spec in signature.inputs if spec.name == name), True)
    flat = array.reshape(-1)
    try:
        for index, item in enumerate(flat):
            if text and isinstance(item, bytes):
                flat[index] = item.decode()
            elif not text and isinstance(item, str):
                flat[index] = item.encode()
    except UnicodeError as error:
        raise SignatureMismatchError(field=name[:80], expected="UTF-8 text", given="other bytes") from error
    return array

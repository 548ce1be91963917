"""Tensors on the wire, from the client's side: Open Inference Protocol v2 with binary tensors.

Source: https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_binary_data.html
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import msgspec
import numpy as np

from crossfade.client.calls import Call
from crossfade.core.tensors import DTYPES, Array, Signature, Tensors, datatype_of
from crossfade.serving.protocol.binary import pack_tensor, unpack_tensor

PROBLEM = "application/problem+json"
HEADER_LENGTH = "Inference-Header-Content-Length"
_REPLAY = {"x-request-replay": "true", "x-request-priority": "batch"}


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: dict[str, str | int | float | bool] = {}
    data: list[Any] | None = None


class _Answer(msgspec.Struct):
    model_name: str
    model_version: str
    outputs: list[_Output]


@dataclass(frozen=True)
class Answered:
    """An answer: which version gave it (`name:1.2.0`), and the outputs."""

    ref: str
    outputs: Tensors


def infer(
    target: str, signature: Signature, tensors: Tensors, wanted: Iterable[str], *, replay: bool = False
) -> Call[Answered]:
    """Describe the call that asks a version or an alias, given as a segment of a path.

    A replay makes way for whoever waits for an answer, and is not captured.
    """
    body, headers = encode_request(tensors, wanted)
    headers |= _REPLAY if replay else {}
    answer = partial(decode_answer, signature=signature)
    return Call("POST", f"/v2/models/{target}/infer", answer, body=body, headers=headers, repeatable=True)


def encode_request(tensors: Tensors, wanted: Iterable[str]) -> tuple[bytes, dict[str, str]]:
    """Encode an infer request: numbers and raw bytes as binary tensors, text (which may be null) as JSON.

    Returns:
        The body and its headers.

    Example:
        >>> body, headers = encode_request({"x": np.array([[1.0, 2.0]])}, ["predict"])
        >>> len(body) - int(headers["Inference-Header-Content-Length"])
        16
    """
    inputs: list[dict[str, Any]] = []
    tails: list[bytes] = []
    for name, array in tensors.items():
        item: dict[str, Any] = {"name": name, "datatype": datatype_of(array.dtype), "shape": array.shape}
        if array.dtype.kind == "O" and not any(isinstance(value, bytes) for value in array.flat):
            item["data"] = array.ravel().tolist()
        else:
            tails.append(pack_tensor(array))
            item["parameters"] = {"binary_data_size": len(tails[-1])}
        inputs.append(item)
    outputs = [{"name": name, "parameters": {"binary_data": True}} for name in wanted]
    head = msgspec.json.encode({"inputs": inputs, "outputs": outputs})
    # with the usual errors of the protocol, a refusal would arrive without its class
    headers = {"content-type": "application/octet-stream", "accept": PROBLEM, HEADER_LENGTH: str(len(head))}
    return b"".join((head, *tails)), headers


def decode_answer(response: httpx.Response, signature: Signature) -> Answered:
    """Decode the answer to an infer request; texts of which one is not UTF-8 stay bytes."""
    body = response.content
    length = int(response.headers.get(HEADER_LENGTH, len(body)))
    texts = {spec.name for spec in signature.outputs if spec.datatype == "BYTES" and spec.text}
    document = msgspec.json.decode(body[:length], type=_Answer)
    rest = memoryview(body)[length:]
    tensors: Tensors = {}
    for output in document.outputs:
        size = output.parameters.get("binary_data_size")
        if isinstance(size, int):
            array = unpack_tensor(output.name, output.datatype, output.shape, rest[:size])
            rest = rest[size:]
        else:
            array = np.array(output.data, dtype=DTYPES[output.datatype]).reshape(output.shape)
        tensors[output.name] = _texts(array) if output.name in texts else array
    return Answered(f"{document.model_name}:{document.model_version}", tensors)


def _texts(array: Array) -> Array:
    decoded = np.empty(array.size, dtype=object)
    try:
        decoded[:] = [item.decode() if isinstance(item, bytes) else item for item in array.ravel()]
    except UnicodeDecodeError:  # the data plane does not say which outputs are raw bytes
        return array
    return decoded.reshape(array.shape)

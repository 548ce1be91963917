"""Open Inference Protocol v2 over HTTP: outputs to bodies, JSON or binary tensors, and the documents about models.

JSON has no NaN and no infinities. An output that holds one is answered with null in its place and the parameter
`"non_finite": true`; a binary tensor carries it as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from crossfade.core.tensors import DTYPES, Array, Signature, Tensors, TensorSpec, datatype_of
from crossfade.errors import SignatureMismatchError
from crossfade.serving.protocol.binary import pack_tensor

_DATATYPES = {dtype: name for name, dtype in DTYPES.items()}


def encode_answer(
    model: str,
    version: str,
    outputs: Tensors,
    *,
    request_id: str | None = None,
    binary: frozenset[str] = frozenset(),
    parameters: dict[str, str | bool] | None = None,
) -> tuple[bytes, int | None]:
    """Encode the answer to an infer request.

    Args:
        model: The name of the model that answered.
        version: Its semver.
        outputs: Name -> array, in the order of the answer.
        request_id: The `id` of the request.
        binary: Names of the outputs to append as binary tensors.
        parameters: Of the answer as a whole.

    Returns:
        The body, and how many bytes of it are JSON when binary tensors follow, else None.

    Raises:
        SignatureMismatchError: An output of raw bytes was not asked for as a binary tensor.

    Example:
        >>> encode_answer("lr", "1.0.0", {"y": np.array([1.5, np.nan])})[0]
        b'{"model_name":"lr","model_version":"1.0.0","outputs":[{"name":"y","datatype":"FP64","shape":[2],"data":[1.5,null],"parameters":{"non_finite":true}}]}'
    """
    document: dict[str, Any] = {"model_name": model, "model_version": version}
    if request_id is not None:
        document["id"] = request_id
    if parameters is not None:
        document["parameters"] = parameters
    tails: list[bytes] = []
    described = document["outputs"] = [_describe_output(name, array, tails, binary) for name, array in outputs.items()]
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if b"null" in head:  # finding the word is far cheaper than looking at every number of every answer
        _mark_non_finite(described, outputs)
        head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not tails:
        return head, None
    return b"".join((head, *tails)), len(head)


def describe_model(model: str, versions: list[str], platform: str, signature: Signature) -> dict[str, Any]:
    """Return the metadata document of a model; -1 is a variable dimension."""
    return {
        "name": model,
        "versions": versions,
        "platform": platform,
        "inputs": [_describe(spec) for spec in signature.inputs],
        "outputs": [_describe(spec) for spec in signature.outputs],
    }


def has_non_finite(array: Array) -> bool:
    """Tell whether a float array holds a NaN or an infinity."""
    return array.dtype.kind == "f" and not bool(np.isfinite(array).all())


def json_values(name: str, array: Array) -> Any:
    """Return an array as something that orjson writes, rows nested.

    Raises:
        SignatureMismatchError: It holds bytes that are not text.
    """
    if array.dtype.kind in "OSU":
        return [_json_text(name, item) for item in array] if array.ndim else _json_text(name, array.item())
    if array.flags.c_contiguous and array.dtype.isnative:
        return array
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _describe_output(name: str, array: Array, tails: list[bytes], binary: frozenset[str]) -> dict[str, Any]:
    datatype = _DATATYPES.get(array.dtype) or datatype_of(array.dtype)
    if name in binary:
        tail = pack_tensor(array)
        tails.append(tail)
        parameters = {"binary_data_size": len(tail)}
        return {"name": name, "datatype": datatype, "shape": array.shape, "parameters": parameters}
    return {"name": name, "datatype": datatype, "shape": array.shape, "data": json_values(name, array.reshape(-1))}


def _mark_non_finite(described: list[dict[str, Any]], outputs: Tensors) -> None:
    for output in described:
        if "data" in output and has_non_finite(outputs[output["name"]]):
            output["parameters"] = {"non_finite": True}


def _json_text(name: str, item: object) -> object:
    if isinstance(item, np.ndarray):
        return [_json_text(name, part) for part in item]
    if not isinstance(item, bytes):
        return item if item is None else str(item)
    try:
        return item.decode()
    except UnicodeDecodeError as error:
        raise SignatureMismatchError(
            field=name,
            expected="to be asked for with `binary_data`, because it is not text",
            given="JSON",
            what="output",
        ) from error


def _describe(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}

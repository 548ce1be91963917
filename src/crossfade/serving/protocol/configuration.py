"""The model configuration extension: a version described as Triton's clients expect it.

The first dimension of every tensor counts rows, which is what this configuration calls a batch: `dims` leaves it out.
A column has no further dimension; the configuration has no word for that but one dimension of 1 that is reshaped away.

Source: https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html
"""

from __future__ import annotations

from typing import Any

from crossfade.core.tensors import Signature, TensorSpec

_TYPES = {"BYTES": "TYPE_STRING"}


def describe_configuration(model: str, platform: str, signature: Signature, max_rows: int) -> dict[str, Any]:
    """Return the configuration document of a version.

    Args:
        model: Its name.
        platform: Its flavor.
        signature: Its inputs and outputs.
        max_rows: The most rows that one request may have.

    Example:
        >>> signature = Signature((TensorSpec("x", "FP64", (-1, 30)),), (TensorSpec("predict", "INT64", (-1,)),))
        >>> describe_configuration("lr", "sklearn", signature, 100)["input"]
        [{'name': 'x', 'data_type': 'TYPE_FP64', 'dims': [30]}]
    """
    return {
        "name": model,
        "platform": platform,
        "backend": "crossfade",
        "max_batch_size": max_rows,
        "input": [_describe(spec) for spec in signature.inputs],
        "output": [_describe(spec) for spec in signature.outputs],
        "dynamic_batching": {"max_queue_delay_microseconds": 0},
    }


def _describe(spec: TensorSpec) -> dict[str, Any]:
    described = {"name": spec.name, "data_type": _TYPES.get(spec.datatype, f"TYPE_{spec.datatype}")}
    if len(spec.shape) > 1:
        return {**described, "dims": list(spec.shape[1:])}
    return {**described, "dims": [1], "reshape": {"shape": []}}

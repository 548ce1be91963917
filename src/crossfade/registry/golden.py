"""Golden requests: a few inputs stored with a version, and the answers it gave when it was registered.

They are JSON, in the manner of the Open Inference Protocol, so that anybody can read them. Floats survive exactly: the
shortest decimal that gives the same float64 is written; NaN is null, infinities are text.
"""

from __future__ import annotations

import base64
import math
from typing import Any, Protocol

import msgspec
import numpy as np
import orjson

from crossfade.core.hashing import canonical_json
from crossfade.core.tensors import DTYPES, Array, Tensors, datatype_of
from crossfade.errors import GoldenMismatchError, LoadFailedError

MAX_ROWS = 8
"""Rows of the example that are kept."""

TOLERANCE = 1e-5
"""Allowed difference: |answer - golden| <= tolerance * (1 + |golden|), relative for large values, absolute near zero.

Wider than what other BLAS builds and thread counts change in float32, far narrower than what a wrong model changes.
"""


class Predictor(Protocol):
    """What golden requests are put to."""

    def predict(self, tensors: Tensors, wanted: frozenset[str]) -> Tensors:
        """Return the wanted outputs."""


class GoldenRequests(msgspec.Struct, frozen=True):
    """One batch of inputs and its answers.

    Args:
        inputs: Arrays by input name.
        outputs: Arrays by output name. Numbers may differ within the tolerance, everything else must be equal.
        tolerance: See `TOLERANCE`.

    Example:
        >>> golden = GoldenRequests({"x": np.ones((1, 2))}, {"predict": np.array([0.1])})
        >>> GoldenRequests.decode(golden.encode()).outputs
        {'predict': array([0.1])}
    """

    inputs: Tensors
    outputs: Tensors
    tolerance: float = TOLERANCE

    def encode(self) -> bytes:
        """Return canonical JSON; equal requests give equal bytes."""
        return canonical_json(
            {
                "inputs": [_encode(name, value) for name, value in self.inputs.items()],
                "outputs": [_encode(name, value) for name, value in self.outputs.items()],
                "tolerance": self.tolerance,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> GoldenRequests:
        """Parse what `encode` returned.

        Raises:
            LoadFailedError: It is something else.
        """
        try:
            document = orjson.loads(data)
            tolerance = float(document["tolerance"])
            inputs, outputs = (dict(map(_decode, document[key])) for key in ("inputs", "outputs"))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise LoadFailedError(ref="golden.json", problem=f"these are no golden requests ({error})") from error
        return cls(inputs, outputs, tolerance)


def verify(pipeline: Predictor, golden: GoldenRequests, ref: str) -> float:
    """Put the golden requests to a pipeline.

    Returns:
        The largest difference, |answer - golden| / (1 + |golden|), over all numbers.

    Raises:
        GoldenMismatchError: An answer differs by more than the tolerance, or is of another shape or type.
        PredictionError: The pipeline fails on them.
    """
    answers = pipeline.predict(golden.inputs, frozenset(golden.outputs))
    worst = 0.0
    for name, expected in golden.outputs.items():
        worst = max(worst, _compare(ref, name, answers[name], expected, golden.tolerance))
    return worst


def _compare(ref: str, output: str, answer: Array, expected: Array, tolerance: float) -> float:
    if answer.shape != expected.shape or answer.dtype != expected.dtype:
        difference = f"its form: {answer.dtype} {list(answer.shape)} instead of {expected.dtype} {list(expected.shape)}"
        raise GoldenMismatchError(ref=ref, output=output, difference=difference)
    if answer.dtype.kind != "f":
        different = int(np.count_nonzero(answer != expected))
        if different:
            raise GoldenMismatchError(ref=ref, output=output, difference=f"{different} of {answer.size} values")
        return 0.0
    got, want = answer.astype(np.float64), expected.astype(np.float64)
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    with np.errstate(invalid="ignore"):
        distance = np.where(same, 0.0, np.abs(got - want) / (1.0 + np.abs(want)))
    worst = float(np.max(np.where(np.isnan(distance), np.inf, distance), initial=0.0))
    if worst > tolerance:
        raise GoldenMismatchError(ref=ref, output=output, difference=f"{worst:.3g} (tolerance {tolerance:g})")
    return worst


def _encode(name: str, value: Array) -> dict[str, Any]:
    raw = value.dtype.kind == "O" and any(isinstance(item, bytes) for item in value.flat)
    return {
        "name": name,
        "datatype": datatype_of(value.dtype),
        "shape": list(value.shape),
        "data": [_plain(item) for item in value.ravel().tolist()],
        **({"base64": True} if raw else {}),
    }


def _plain(item: Any) -> Any:
    if isinstance(item, float) and not math.isfinite(item):
        return None if math.isnan(item) else str(item)
    return base64.b64encode(item).decode() if isinstance(item, bytes) else item


def _decode(tensor: dict[str, Any]) -> tuple[str, Array]:
    dtype, data = DTYPES[tensor["datatype"]], tensor["data"]
    if dtype.kind == "f":
        data = [math.nan if item is None else float(item) for item in data]
    elif tensor.get("base64"):
        data = [None if item is None else base64.b64decode(item, validate=True) for item in data]
    if any(size < 0 for size in tensor["shape"]):
        raise ValueError("a size is negative")
    values = np.empty(len(data), dtype=dtype)
    values[:] = data
    return str(tensor["name"]), values.reshape(tensor["shape"])

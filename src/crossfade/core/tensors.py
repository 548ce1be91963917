"""Typed tensors: the datatypes of the Open Inference Protocol, `TensorSpec`, `Signature`, and the check of inputs.

Inside Crossfade a request is `Tensors`: one numpy array per input name. The first dimension of every tensor counts
rows. BYTES tensors are object arrays of `str` (text, the default) or `bytes` (`text=False`: audio, images).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from crossfade.errors import SignatureMismatchError

Array = NDArray[Any]
Tensors = dict[str, Array]
Layout = Literal["tensors", "matrix", "pandas", "polars"]
Label = bool | int | float | str

DTYPES: dict[str, np.dtype[np.generic]] = {
    "BOOL": np.dtype(np.bool_),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
"""Open Inference Protocol datatype -> numpy dtype (little endian on every supported machine)."""

DATATYPES: dict[str, str] = {dtype.str.lstrip("<|="): name for name, dtype in DTYPES.items()}
"""numpy type code (`f8`, `i4`, `O`) -> datatype."""

MAX_RANK = 16


def datatype_of(dtype: np.dtype[np.generic]) -> str:
    """Return the datatype of a numpy dtype; strings and bytes of any width are BYTES.

    Raises:
        KeyError: The protocol has no such datatype (complex, datetime, structured).
    """
    return "BYTES" if dtype.kind in "OSU" else DATATYPES[dtype.str.lstrip("<>|=")]


class TensorSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What one tensor must look like.

    Args:
        name: Unique among the inputs (or outputs).
        datatype: One of `DTYPES`.
        shape: -1 means any size; the first dimension counts rows and is -1.
        missing: Whether values may be absent: NaN in floats, null in JSON. Infinities are never accepted.
        text: Whether BYTES are UTF-8 text (`str` objects) or raw `bytes`.

    Example:
        >>> TensorSpec("x", "FP64", (-1, 30)).describe()
        'FP64 [-1, 30]'
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    missing: bool = False
    text: bool = True

    def describe(self) -> str:
        """Return datatype and shape in words for error messages."""
        return f"{self.datatype} [{', '.join(map(str, self.shape))}]"

    def check(self, value: Array) -> Array:
        """Return `value` in this spec's dtype, when it fits without loss.

        Raises:
            SignatureMismatchError: Datatype, shape, NaN or infinity does not fit; names both sides.
        """
        if value.shape[1:] != self.shape[1:] or value.ndim != len(self.shape):
            self._check_shape(value.shape)
        dtype = DTYPES[self.datatype]
        if value.dtype != dtype:
            value = self._cast(value, dtype)
        if dtype.kind == "f":
            self._check_finite(value)
        elif dtype.kind == "O":
            self._check_objects(value)
        return value

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        fits = len(shape) == len(self.shape) and all(
            want in (-1, have) for want, have in zip(self.shape, shape, strict=True)
        )
        if not fits:
            raise SignatureMismatchError(
                field=self.name, expected=f"shape {list(self.shape)}", given=f"shape {list(shape)}"
            )

    def _cast(self, value: Array, dtype: np.dtype[np.generic]) -> Array:
        if dtype.kind == "O" and value.dtype.kind in "SU":
            return value.astype(object)
        if dtype.kind == "O" or value.dtype.kind == "O" or not np.can_cast(value.dtype, dtype, "safe"):
            raise SignatureMismatchError(field=self.name, expected=self.datatype, given=_name(value.dtype))
        return value.astype(dtype)

    def _check_finite(self, value: Array) -> None:
        # x·x is finite only if every x is: one BLAS call, several times cheaper than isfinite().all(); huge but finite
        # numbers overflow it, so only then is every element looked at
        if math.isfinite(np.vdot(value, value)):
            return
        bad = np.isinf(value) if self.missing else ~np.isfinite(value)
        if bad.any():
            position = [int(i) for i in np.argwhere(bad)[0]]
            expected = "finite numbers or NaN" if self.missing else "finite numbers"
            raise SignatureMismatchError(
                field=self.name, expected=expected, given=f"{value[tuple(position)]} at {position}"
            )

    def _check_objects(self, value: Array) -> None:
        kind = str if self.text else bytes
        for item in value.flat:
            if not (isinstance(item, kind) or (self.missing and item is None)):
                expected = "text" if self.text else "bytes"
                raise SignatureMismatchError(field=self.name, expected=expected, given=type(item).__name__)


class Signature(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The typed schema of a version.

    Args:
        inputs: What a request must hold.
        outputs: What an answer can hold. Classifiers have `predict` and `predict_proba`.
        layout: How the model wants its inputs: `tensors` by name, or columns (each of shape [-1]) assembled to a
            float64 `matrix`, a `pandas` or a `polars` frame.
        classes: The labels that the columns of `predict_proba` stand for, in order.

    Example:
        >>> signature = Signature((TensorSpec("x", "FP64", (-1, 2)),), (TensorSpec("predict", "FP64", (-1,)),))
        >>> signature.check({"x": np.zeros((3, 2))})["x"].shape
        (3, 2)
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    layout: Layout = "tensors"
    classes: tuple[Label, ...] = ()

    def check(self, tensors: Tensors) -> Tensors:
        """Return the inputs in the signature's order and dtypes.

        Raises:
            SignatureMismatchError: A name is missing or unknown, a tensor does not fit, or row counts differ.
        """
        checked: Tensors = {}
        rows = -1
        for spec in self.inputs:
            value = tensors.get(spec.name)
            if value is None:
                raise SignatureMismatchError(field=spec.name, expected=spec.describe(), given="nothing")
            if value.ndim == 0:
                raise SignatureMismatchError(field=spec.name, expected=spec.describe(), given="a scalar")
            value = spec.check(value)
            if rows >= 0 and value.shape[0] != rows:
                raise SignatureMismatchError(field=spec.name, expected=f"{rows} rows", given=f"{value.shape[0]} rows")
            rows = value.shape[0]
            checked[spec.name] = value
        if len(tensors) != len(checked):
            self._refuse_unknown(tensors)
        return checked

    def _refuse_unknown(self, tensors: Tensors) -> None:
        known = [spec.name for spec in self.inputs]
        unknown = next(name for name in tensors if name not in known)
        raise SignatureMismatchError(
            field=str(unknown)[:80], expected=f"only the inputs {', '.join(known[:20])}", given="an unknown input"
        )

    def output(self, name: str) -> TensorSpec:
        """Return the spec of one output.

        Raises:
            SignatureMismatchError: There is no such output.
        """
        for spec in self.outputs:
            if spec.name == name:
                return spec
        expected = f"one of the outputs {', '.join(s.name for s in self.outputs)}"
        raise SignatureMismatchError(field=name[:80], expected=expected, given="an unknown output", what="output")


def row_count(tensors: Tensors) -> int:
    """Return how many rows a request has; 0 when it has no tensors."""
    for value in tensors.values():  # a generator would cost more than all the rest
        return len(value)
    return 0


def _name(dtype: np.dtype[np.generic]) -> str:
    try:
        return datatype_of(dtype)
    except KeyError:
        return str(dtype)

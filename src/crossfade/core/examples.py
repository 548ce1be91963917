"""The inputs of a signature, inferred from example data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np

from crossfade.core.conversion import as_array, columns_of, is_frame
from crossfade.core.tensors import Array, Layout, TensorSpec, datatype_of
from crossfade.errors import SignatureMismatchError


def infer_inputs(example: object) -> tuple[tuple[TensorSpec, ...], Layout]:
    """Return the inputs that an example shows, and the layout in which its model wants them.

    A frame gives one input per column, a list of rows (dicts) does the same, a dict of arrays gives a tensor by each
    name, and a single array is the input `x`. The first dimension counts rows. Datatypes are those of the example; a
    null or NaN in a column says that values may be missing, and makes integers float64.

    Args:
        example: A few rows of what the model is asked: pandas, polars, numpy, torch, a dict of arrays, or rows.

    Raises:
        SignatureMismatchError: A column holds something other than numbers, booleans and text, or there are no rows.

    Example:
        >>> infer_inputs(np.zeros((5, 30), dtype=np.float32))
        ((TensorSpec(name='x', datatype='FP32', shape=(-1, 30), missing=False, text=True),), 'tensors')
    """
    if is_frame(example):
        return _frame(example)
    if isinstance(example, Mapping):
        return tuple(_spec(str(name), as_array(value, str(name))) for name, value in example.items()), "tensors"
    if isinstance(example, list) and example and isinstance(example[0], Mapping):
        return _rows(cast("list[Mapping[str, object]]", example)), "pandas"
    return (_spec("x", as_array(example, "x")),), "tensors"


def _frame(frame: object) -> tuple[tuple[TensorSpec, ...], Layout]:
    if type(frame).__module__.startswith("polars"):
        return _columns(columns_of(frame)), "polars"
    labels = list(frame.columns)  # type: ignore[attr-defined] # a pandas frame, which may not be installed
    if labels == list(range(len(labels))):
        return (_spec("x", as_array(frame.to_numpy(), "x")),), "tensors"  # type: ignore[attr-defined]
    return _columns(columns_of(frame)), "pandas"


def _rows(rows: list[Mapping[str, object]]) -> tuple[TensorSpec, ...]:
    """A name that some row lacks is missing there, as it is in a frame made of these rows."""
    names = dict.fromkeys(str(name) for row in rows for name in row)
    columns: dict[str, Array] = {}
    for name in names:
        column = np.empty(len(rows), dtype=object)
        column[:] = [row.get(name) for row in rows]
        columns[name] = as_array(column, name)
    return _columns(columns)


def _columns(columns: dict[str, Array]) -> tuple[TensorSpec, ...]:
    return tuple(_spec(name, values) for name, values in columns.items())


def _spec(name: str, array: Array) -> TensorSpec:
    if array.ndim == 0 or len(array) == 0:
        given = "no rows" if array.ndim else "a scalar"
        raise SignatureMismatchError(field=name, expected="at least one row of example data", given=given)
    shape = (-1, *array.shape[1:])
    if array.dtype.kind != "O":
        missing = array.dtype.kind == "f" and bool(np.isnan(array).any())
        return TensorSpec(name, datatype_of(array.dtype), shape, missing=missing)
    present = [value for value in array.flat if value is not None]
    if not present:
        raise SignatureMismatchError(field=name, expected="a value in at least one row", given="only nulls")
    return TensorSpec(name, "BYTES", shape, missing=len(present) < array.size, text=not isinstance(present[0], bytes))

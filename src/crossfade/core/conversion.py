"""From what people have (frames, arrays, rows as dicts) to `Tensors`, by the inputs of a signature.

Conversion only bridges representations: integers become floats, a float width becomes the other, null becomes NaN where
missing values are allowed. It never parses text and never rounds. `Signature.check` has the last word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from crossfade.core.tensors import DTYPES, Array, Tensors, TensorSpec
from crossfade.errors import SignatureMismatchError

Objects = NDArray[np.object_]
Row = Mapping[str, Any]

_EXPECTED = "numbers, booleans or text (turn times into numbers, such as the hour, first)"
_KINDS = {
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "text",
    bytes: "bytes",
    type(None): "null",
    list: "a list",
    dict: "an object",
}
_ACCEPTED: dict[str, frozenset[type]] = {
    "b": frozenset({bool}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "f": frozenset({int, float}),
}


def to_tensors(data: object, inputs: Sequence[TensorSpec]) -> Tensors:
    """Convert data to one array per input. The result still has to pass `Signature.check`.

    Args:
        data: A pandas or polars frame, a list of rows (each a dict), a dict of arrays, or one array (numpy, torch,
            nested lists) for a single input or with one column per input.
        inputs: The inputs of the signature.

    Returns:
        Arrays by name; names that only the data has are kept, so that the check can refuse them.

    Raises:
        SignatureMismatchError: A name is missing, or a value has a type that the input does not take.

    Example:
        >>> specs = [TensorSpec("age", "FP64", (-1,)), TensorSpec("income", "FP64", (-1,), missing=True)]
        >>> to_tensors([{"age": 41, "income": None}], specs)
        {'age': array([41.]), 'income': array([nan])}
    """
    if isinstance(data, list) and data and isinstance(data[0], dict):
        return _from_rows(data, inputs)
    columns = columns_of(data) if is_frame(data) else data
    if isinstance(columns, Mapping):
        arrays = {str(name): as_array(value, str(name)) for name, value in columns.items()}
        if is_frame(data) and len(inputs) == 1 and len(inputs[0].shape) == 2:
            arrays = {inputs[0].name: _stack(arrays, inputs[0].name)}
    else:
        arrays = _split(as_array(data, inputs[0].name if inputs else "x"), inputs)
    specs = {spec.name: spec for spec in inputs}
    return {name: _fit(value, specs[name]) if name in specs else value for name, value in arrays.items()}


def is_frame(data: object) -> bool:
    """Tell whether this is a pandas or polars frame, without importing either."""
    return type(data).__module__.partition(".")[0] in {"pandas", "polars"} and type(data).__name__ == "DataFrame"


def columns_of(frame: Any) -> dict[str, Array]:
    """Return the columns of a frame as plain arrays: nulls are NaN in numbers and None in text.

    Raises:
        SignatureMismatchError: Two columns have the same name, or a column holds something other than numbers,
            booleans and text.
    """
    polars = type(frame).__module__.startswith("polars")
    columns: dict[str, Array] = {}
    for position, label in enumerate(frame.columns):
        name = str(label)
        if name in columns:
            raise SignatureMismatchError(field=name, expected="one column of this name", given="several")
        if polars and frame[label].dtype.is_nested():
            raise SignatureMismatchError(field=name, expected=_EXPECTED, given=str(frame[label].dtype))
        column = frame[label].to_numpy() if polars else _pandas_column(frame.iloc[:, position])
        columns[name] = _plain(column, name)
    return columns


def as_array(value: object, name: str) -> Array:
    """Return an array (numpy, torch, nested lists, a series) as numpy, not copied where possible.

    Raises:
        SignatureMismatchError: It is ragged, or it holds neither numbers, booleans nor text.
    """
    if type(value).__module__.partition(".")[0] == "torch":
        value = cast("Any", value).detach().cpu().numpy()
    try:
        array = value if isinstance(value, np.ndarray) else np.asarray(value)
    except ValueError as error:
        raise SignatureMismatchError(field=name, expected="an array", given="lists of unequal length") from error
    return _plain(array, name)


def _pandas_column(series: Any) -> Array:
    kind = getattr(series.dtype, "kind", "O")
    if kind in "fiub":
        plain = np.dtype(f"{kind}{series.dtype.itemsize}")
        if kind != "f" and series.hasnans:
            plain = np.dtype(np.float64 if kind in "iu" else object)
        return cast("Array", series.to_numpy(dtype=plain, na_value=None if kind == "b" else np.nan))
    if kind in "mMc":
        return cast("Array", series.to_numpy())
    values = series.astype(object)
    return cast("Array", values.where(series.notna(), None).to_numpy(dtype=object))


def _plain(array: Array, name: str) -> Array:
    """Give an array of unknown origin one of our dtypes, or refuse it."""
    kind = array.dtype.kind
    if kind == "O":
        return _plain_objects(array, name)
    if kind in "US":
        return array.astype(object)
    if kind in "biu" or (kind == "f" and array.dtype.itemsize <= 8):
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    raise SignatureMismatchError(field=name, expected=_EXPECTED, given=str(array.dtype))


def _plain_objects(array: Array, name: str) -> Array:
    kinds = {type(value.item() if isinstance(value, np.generic) else value) for value in array.flat}
    present = kinds - {type(None)}
    if present <= {str} or present <= {bytes}:
        return array
    if present == {bool} and kinds == present:
        return array.astype(np.bool_)
    if present <= {int, float}:
        return _plain_numbers(array, name, whole=kinds == {int})
    given = " and ".join(sorted(_KINDS.get(kind, kind.__name__) for kind in kinds))
    raise SignatureMismatchError(field=name, expected=_EXPECTED, given=given)


def _plain_numbers(array: Array, name: str, *, whole: bool) -> Array:
    """Turn Python numbers into an array; what is too large for an integer is a float, which JSON may write like one."""
    for dtype in (np.int64, np.float64) if whole else (np.float64,):
        with suppress(OverflowError):
            return array.astype(dtype)
    raise SignatureMismatchError(field=name, expected="numbers of 64 bits", given="an integer outside of their range")


def _stack(columns: Tensors, name: str) -> Array:
    try:
        return np.stack(list(columns.values()), axis=1)
    except ValueError as error:
        raise SignatureMismatchError(field=name, expected="columns of numbers", given="an empty frame") from error


def _split(array: Array, inputs: Sequence[TensorSpec]) -> Tensors:
    if len(inputs) == 1:
        return {inputs[0].name: array}
    columns = all(len(spec.shape) == 1 for spec in inputs)
    if not columns or array.ndim != 2 or array.shape[1] != len(inputs):
        expected = ", ".join(spec.name for spec in inputs[:20])
        given = f"one array of shape {list(array.shape)}"
        raise SignatureMismatchError(field="x", expected=f"the inputs {expected}", given=given)
    return {spec.name: array[:, position] for position, spec in enumerate(inputs)}


def _fit(array: Array, spec: TensorSpec) -> Array:
    """Cast numbers to the float width or the integer width of the spec, when every value fits."""
    dtype = DTYPES[spec.datatype]
    if array.dtype == dtype:
        return array
    if dtype.kind == "f" and array.dtype.kind in "fiu":
        with np.errstate(over="ignore"):  # an overflow becomes an infinity, which the check refuses
            return array.astype(dtype)
    if dtype.kind in "iu" and array.dtype.kind in "iu":
        cast_array = array.astype(dtype)
        return cast_array if np.array_equal(cast_array, array) else array
    return array


# --- rows ----------------------------------------------------------------------------------------------------------


def _from_rows(rows: Sequence[Row], inputs: Sequence[TensorSpec]) -> Tensors:
    try:
        tensors = _all_floats(rows, [spec for spec in inputs if spec.datatype == "FP64" and len(spec.shape) == 1])
        for spec in inputs:
            if spec.name not in tensors:
                get = itemgetter(spec.name)
                tensors[spec.name] = _column(list(map(get, rows)), spec)
    except (KeyError, TypeError):
        _refuse_rows(rows, inputs)
        raise
    width = len(inputs)
    if any(len(row) != width for row in rows):
        _refuse_rows(rows, inputs)
    return tensors


def _all_floats(rows: Sequence[Row], specs: Sequence[TensorSpec]) -> Tensors:
    """Build all float64 columns in one go: far cheaper than an array for each when there are few rows."""
    if len(specs) < 2:
        return {}
    get = itemgetter(*(spec.name for spec in specs))
    cells = list(map(get, rows))
    kinds: set[type] = set()
    for row in cells:
        kinds.update(map(type, row))
    if not kinds <= _ACCEPTED["f"]:
        return {}
    try:
        matrix = np.array(cells, dtype=np.float64)
    except OverflowError:
        return {}
    return {spec.name: matrix[:, position] for position, spec in enumerate(specs)}


def _column(values: list[Any], spec: TensorSpec) -> Array:
    dtype = DTYPES[spec.datatype]
    if len(spec.shape) > 1:
        return _fit(as_array(values, spec.name), spec)
    if dtype.kind == "O":
        return _text(values, spec)
    if not _ACCEPTED[dtype.kind].issuperset(map(type, values)):
        values = [_number(value, row, spec, dtype.kind) for row, value in enumerate(values)]
    try:
        with np.errstate(over="ignore"):  # an overflow becomes an infinity, which the check refuses
            return np.array(values, dtype=dtype)
    except OverflowError as error:
        given = "an integer outside of its range"
        raise SignatureMismatchError(field=spec.name, expected=spec.datatype, given=given) from error


def _text(values: list[Any], spec: TensorSpec) -> Array:
    kind = str if spec.text else bytes
    if any(type(value) is not kind for value in values):
        for row, value in enumerate(values):
            if not isinstance(value, kind) and not (value is None and spec.missing):
                raise _misfit(value, row, spec, "text" if spec.text else "bytes")
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _number(value: Any, row: int, spec: TensorSpec, kind: str) -> bool | int | float:
    plain = value.item() if isinstance(value, np.generic) else value
    if plain is None and spec.missing and kind == "f":
        return float("nan")
    if type(plain) not in _ACCEPTED[kind]:
        raise _misfit(value, row, spec, spec.datatype)
    return cast("float", plain)


def _misfit(value: object, row: int, spec: TensorSpec, expected: str) -> SignatureMismatchError:
    given = _KINDS.get(type(value), type(value).__name__)
    return SignatureMismatchError(field=spec.name, expected=expected, given=f"{given} in row {row}")


def _refuse_rows(rows: Sequence[object], inputs: Sequence[TensorSpec]) -> None:
    """Name the first row that is no dict or has other names than the inputs."""
    known = [spec.name for spec in inputs]
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            given = f"{_KINDS.get(type(row), type(row).__name__)} in row {number}"
            raise SignatureMismatchError(field=known[0] if known else "", expected="an object per row", given=given)
        for spec in inputs:
            if spec.name not in row:
                raise SignatureMismatchError(
                    field=spec.name, expected=spec.describe(), given=f"nothing in row {number}"
                )
        for name in row:
            if name not in known:
                expected = f"only the inputs {', '.join(known[:20])}"
                given = f"an unknown input in row {number}"
                raise SignatureMismatchError(field=str(name)[:80], expected=expected, given=given)

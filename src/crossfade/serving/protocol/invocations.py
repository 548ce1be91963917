"""MLflow's scoring protocol: the bodies that `mlflow models serve` reads, and its answers.

Whatever is accepted is answered as MLflow answers it. MLflow also cuts decimals off for integer columns and takes any
text for true; what would be lost that way is refused here instead. Extra columns are ignored, as are `params`, because
no version declares any. Raw bytes travel in Base64.

Source: https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally
"""

from __future__ import annotations

import csv
import io
import json
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import orjson

from crossfade.core.conversion import to_tensors
from crossfade.core.tensors import DTYPES, Array, Signature, Tensors, TensorSpec
from crossfade.errors import MalformedRequestError, SignatureMismatchError, UnsupportedMediaTypeError
from crossfade.serving.protocol.answers import json_values
from crossfade.serving.protocol.rows import RowsRequest, ask_for

FORMATS = ("dataframe_records", "dataframe_split", "inputs", "instances")
_JSON, _CSV = "application/json", "text/csv"
MISSING = frozenset(
    {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"}
    | {"<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
)
"""What pandas, and with it MLflow, reads as a missing value in CSV."""
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}

Columns = dict[str, list[Any]]


def decode_invocation(content_type: bytes, body: bytes, signature: Signature, max_rows: int) -> RowsRequest:
    r"""Decode a request by the signature of the version that will answer.

    Raises:
        UnsupportedMediaTypeError: It is neither JSON nor CSV in UTF-8.
        MalformedRequestError: It is in none of MLflow's formats.
        SignatureMismatchError: A column is missing, or a value does not fit.

    Example:
        >>> signature = Signature((TensorSpec("age", "FP64", (-1,)),), (TensorSpec("predict", "FP64", (-1,)),))
        >>> decode_invocation(b"text/csv", b"age,name\n41,Ada\n", signature, 10).tensors
        {'age': array([41.])}
    """
    kind = _check_type(content_type)
    try:
        data = _parse_csv(body, max_rows) if kind == _CSV else _read_format(_parse_json(body))
    except UnicodeDecodeError as error:
        raise MalformedRequestError(problem="the body is not UTF-8") from error
    except RecursionError:
        raise MalformedRequestError(problem="the JSON is nested too deeply") from None
    rows = len(next(iter(data.values()), [])) if isinstance(data, dict) else len(data)
    if rows > max_rows:
        raise MalformedRequestError(problem=f"{rows} rows, at most {max_rows} at once")
    if rows == 0:
        raise MalformedRequestError(problem="there is no row")
    return ask_for(to_inputs(data, signature, written=kind == _CSV), signature, probabilities=False)


def encode_predictions(outputs: Tensors, request: RowsRequest) -> bytes:
    """Encode the answer; what is not a finite number is null."""
    document = {"predictions": json_values(request.label, outputs[request.label])}
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _check_type(header: bytes) -> str:
    kind, *parameters = (part.strip().lower() for part in header.decode("latin-1").split(";"))
    if kind not in {"", _JSON, _CSV} or any(parameter not in {"charset=utf-8", ""} for parameter in parameters):
        raise UnsupportedMediaTypeError(given=header.decode("latin-1")[:80], supported=f"{_JSON}, {_CSV}, in UTF-8")
    return kind


# --- the formats ---------------------------------------------------------------------------------------------------


def _parse_json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        if b"NaN" not in body and b"Infinity" not in body:
            raise MalformedRequestError(problem=str(error)) from error
    try:
        document = json.loads(body)  # MLflow's clients write NaN, which is no JSON
        if b"\\u" in body:
            json.dumps(document, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except ValueError as error:
        raise MalformedRequestError(problem=str(error)[:200]) from error
    return document


def _read_format(document: Any) -> Columns | list[Any]:
    """Return columns by name, or a list of rows without names."""
    names = [name for name in FORMATS if name in document] if isinstance(document, dict) else []
    if len(names) != 1:
        raise MalformedRequestError(problem=f"the body must be an object with exactly one of {', '.join(FORMATS)}")
    value = document[names[0]]
    if names[0] == "dataframe_split":
        return _split(value)
    if names[0] == "dataframe_records":
        return _records(names[0], value, padded=True)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return _records(names[0], value, padded=names[0] == "inputs")
    if isinstance(value, dict):
        return _named(names[0], value)
    if not isinstance(value, list):
        raise MalformedRequestError(problem=f"`{names[0]}` must be an array or an object")
    return value


def _records(name: str, value: Any, *, padded: bool) -> Columns:
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise MalformedRequestError(problem=f"`{name}` must be an array of objects")
    columns = list(dict.fromkeys(column for row in value for column in row))
    if len(columns) * len(value) > 2 * sum(map(len, value)) + 10_000:
        raise MalformedRequestError(problem=f"the objects of `{name}` have too few names in common")
    if not padded and any(len(row) != len(columns) for row in value):
        raise MalformedRequestError(problem=f"the objects of `{name}` have not all the same names")
    return {column: [row.get(column) for row in value] for column in columns}


def _named(name: str, value: dict[str, Any]) -> Columns:
    if not any(isinstance(items, list) for items in value.values()):
        return {column: [item] for column, item in value.items()}
    lengths = {len(items) if isinstance(items, list) else -1 for items in value.values()}
    if len(lengths) != 1:
        raise MalformedRequestError(problem=f"the columns of `{name}` have not all the same number of values")
    return value


def _split(value: Any) -> Columns | list[Any]:
    if not isinstance(value, dict) or "data" not in value or not set(value) <= {"columns", "data", "index"}:
        raise MalformedRequestError(
            problem="`dataframe_split` must be an object with `data`, and perhaps `columns` and `index`"
        )
    rows, names, index = value["data"], value.get("columns"), value.get("index")
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise MalformedRequestError(problem="`data` must be an array of rows, each an array")
    if index is not None and (not isinstance(index, list) or len(index) != len(rows)):
        raise MalformedRequestError(problem="`index` must have one entry per row")
    if names is None:
        return rows
    if not isinstance(names, list) or len(set(map(str, names))) != len(names):
        raise MalformedRequestError(problem="`columns` must be an array of different names")
    return _by_name([str(name) for name in names], rows)


def _by_name(names: list[str], rows: list[list[Any]]) -> Columns:
    """Turn rows into columns; what a short row lacks is missing."""
    if len(names) * len(rows) > 2 * sum(map(len, rows)) + 10_000:
        raise MalformedRequestError(problem="most rows have no value in most columns")
    if any(len(row) > len(names) for row in rows):
        raise MalformedRequestError(problem=f"a row has more than {len(names)} values, one per column")
    columns: Columns = {}
    for position, name in enumerate(names):
        # pandas gives a second column of the same name another one, so the first keeps it
        columns.setdefault(name, [row[position] if position < len(row) else None for row in rows])
    return columns


def _parse_csv(body: bytes, max_rows: int) -> Columns:
    reader = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
    rows: list[list[Any]] = []
    try:
        for row in reader:
            if row:
                rows.append([None if cell in MISSING else cell for cell in row] if rows else list(row))
            if len(rows) > max_rows + 1:
                raise MalformedRequestError(problem=f"more than {max_rows} rows at once")
    except csv.Error as error:
        raise MalformedRequestError(problem=f"the CSV cannot be read ({error})") from error
    if not rows:
        raise MalformedRequestError(problem="the CSV is empty")
    return _by_name(rows[0], rows[1:])


# --- values --------------------------------------------------------------------------------------------------------


def to_inputs(data: Columns | list[Any], signature: Signature, *, written: bool) -> Tensors:
    """Turn columns or rows into inputs; `written` says that all values are text, booleans too.

    Raises:
        SignatureMismatchError: A column is missing, or a value does not fit.
        MalformedRequestError: The values of a tensor are ragged.
    """
    spec = signature.inputs[0]
    if len(signature.inputs) == 1 and len(spec.shape) > 1:
        if isinstance(data, dict):
            data = data[spec.name] if spec.name in data else list(map(list, zip(*data.values(), strict=True)))
        return {spec.name: _nested(data, spec)}
    if isinstance(data, list):
        raise SignatureMismatchError(field=spec.name, expected="columns with names", given="rows without names")
    tensors: Tensors = {}
    for spec in signature.inputs:
        if spec.name not in data:
            raise SignatureMismatchError(field=spec.name, expected=spec.describe(), given="nothing")
        values = data[spec.name]
        tensors[spec.name] = _nested(values, spec) if len(spec.shape) > 1 else _column(values, spec, written=written)
    return tensors


def _nested(values: list[Any], spec: TensorSpec) -> Array:
    try:
        if DTYPES[spec.datatype].kind == "f":
            return np.array(values, dtype=np.float64).astype(DTYPES[spec.datatype])
        return to_tensors({spec.name: values}, (spec,))[spec.name]
    except (ValueError, TypeError, OverflowError) as error:
        raise MalformedRequestError(problem=f"input `{spec.name}`: {str(error)[:200]}") from error


def _column(values: list[Any], spec: TensorSpec, *, written: bool) -> Array:
    dtype = DTYPES[spec.datatype]
    convert = _CONVERSIONS[dtype.kind]
    if dtype.kind == "O" and not spec.text:
        convert = _raw
    elif dtype.kind == "b" and written:
        convert = _written_boolean
    array = np.empty(len(values), dtype=object)
    for row, value in enumerate(values):
        try:
            array[row] = convert(value)
        except (ValueError, TypeError, OverflowError) as error:
            given = f"{str(value)[:40]!r} in row {row}"
            raise SignatureMismatchError(field=spec.name, expected=spec.datatype, given=given) from error
    try:
        return array.astype(dtype)
    except OverflowError as error:
        given = "an integer outside of its range"
        raise SignatureMismatchError(field=spec.name, expected=spec.datatype, given=given) from error


def _float(value: Any) -> float:
    if value is None:
        return float("nan")
    if isinstance(value, str) and "_" in value:  # Python reads 1_000, pandas does not
        raise ValueError(value)
    return float(value)


def _integer(value: Any) -> int:
    if isinstance(value, str) and value.strip().lstrip("+-").isdigit():
        return int(value)
    number = value if isinstance(value, int) else _float(value)
    whole = int(number)
    if whole != number:
        raise ValueError(value)
    return whole


def _boolean(value: Any) -> bool:
    if value not in (0, 1):
        raise ValueError(value)
    return bool(value)


def _written_boolean(value: Any) -> bool:
    return _boolean(None if value is None else _BOOLEANS.get(value.lower()))


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError(value)


def _raw(value: Any) -> bytes | None:
    return None if value is None else b64decode(value, validate=True)


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "f": _float,
    "i": _integer,
    "u": _integer,
    "b": _boolean,
    "O": _text,
}

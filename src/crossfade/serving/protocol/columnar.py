"""Arrow IPC: whole tables as bodies, read within limits although their library believes what they claim.

A stream must be uncompressed: what its compressed buffers claim is allocated before it is checked, and HTTP has
compression of its own. Views and other rare types are refused, because a few bytes of them can stand for any amount of
text. A file is read as the stream that it contains. Parquet is read in `parquet.py`, in another
process.

Source: https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
"""

from __future__ import annotations

import struct
from importlib import import_module
from io import BytesIO
from typing import Any

import numpy as np

from crossfade.core.conversion import to_tensors
from crossfade.core.tensors import Array, Signature, Tensors
from crossfade.errors import (
    MalformedRequestError,
    MissingExtraError,
    NotAcceptableError,
    SignatureMismatchError,
)

PARQUET = "application/vnd.apache.parquet"
STREAM = "application/vnd.apache.arrow.stream"
FILE = "application/vnd.apache.arrow.file"

_MAGIC = b"ARROW1\0\0"
_MAX_COLUMNS = 10_000
_MAX_TEXT = 64 * 2**20
_EXPECTED = "numbers, booleans, text, bytes, or lists of numbers"


def read_table(kind: str, body: bytes, signature: Signature, max_rows: int) -> Tensors:
    """Read a table into the inputs of a signature, by the names of its columns.

    Args:
        kind: Its media type: `STREAM` or `FILE`.
        body: All of it.
        signature: Of the version that will answer; a single tensor as its input takes all columns side by side.
        max_rows: The largest accepted number of rows.

    Raises:
        MalformedRequestError: It is damaged, compressed, or has too many rows.
        SignatureMismatchError: A column has a type that no input takes.
        MissingExtraError: pyarrow is not installed.
    """
    arrow = _arrow()
    try:
        return table_inputs(_read_stream(arrow, body, kind, max_rows), signature)
    except (arrow.ArrowException, OSError, OverflowError, struct.error, UnicodeDecodeError, ValueError) as error:
        raise MalformedRequestError(problem=f"the table cannot be read ({str(error)[:200]})") from error


def table_inputs(table: Any, signature: Signature) -> Tensors:
    """Turn a sound `pyarrow.Table` into the inputs of a signature.

    Raises:
        MalformedRequestError: Two columns have the same name.
        SignatureMismatchError: A column has a type that no input takes.
    """
    arrow, names = _arrow(), table.column_names
    if len(set(names)) != len(names):
        raise MalformedRequestError(problem="two columns have the same name")
    return _tensors({name: _column(arrow, name, table.column(name)) for name in names}, signature)


def write_table(kind: str, outputs: Tensors) -> bytes:
    """Write outputs as the columns of a table, rows of more than one number as lists of fixed size.

    Args:
        kind: `STREAM`, `FILE` or `PARQUET`.
        outputs: Name -> array with one entry per row.

    Raises:
        NotAcceptableError: An output has more than two dimensions.
        MissingExtraError: pyarrow is not installed.
    """
    arrow = _arrow()
    columns: dict[str, Any] = {}
    for name, array in outputs.items():
        if array.ndim > 2:
            raise NotAcceptableError(wanted=kind, problem=f"`{name}` has {array.ndim} dimensions")
        flat = arrow.array(np.ascontiguousarray(array).reshape(-1))
        columns[name] = flat if array.ndim == 1 else arrow.FixedSizeListArray.from_arrays(flat, array.shape[1])
    table = arrow.table(columns)
    file = BytesIO()
    if kind == PARQUET:
        import_module("pyarrow.parquet").write_table(table, file)
        return file.getvalue()
    with (arrow.ipc.new_file if kind == FILE else arrow.ipc.new_stream)(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def _arrow() -> Any:
    try:
        return import_module("pyarrow")
    except ModuleNotFoundError as error:
        raise MissingExtraError(feature="an Arrow body", package="pyarrow", extra="arrow") from error


def _read_stream(arrow: Any, body: bytes, kind: str, max_rows: int) -> Any:
    data = arrow.py_buffer(body)
    if kind == FILE:
        if not body.startswith(_MAGIC):
            raise MalformedRequestError(problem="the body is no Arrow file")
        data = data.slice(len(_MAGIC))
    _refuse_compression(arrow, data)
    batches, rows = [], 0
    with arrow.ipc.open_stream(data) as reader:
        if len(reader.schema) > _MAX_COLUMNS:
            raise MalformedRequestError(problem=f"{len(reader.schema)} columns, at most {_MAX_COLUMNS}")
        for batch in reader:
            rows += batch.num_rows
            if rows > max_rows:
                raise MalformedRequestError(problem=f"more than {max_rows} rows at once")
            batch.validate(full=True)
            batches.append(batch)
        return arrow.Table.from_batches(batches, reader.schema)


def _refuse_compression(arrow: Any, data: Any) -> None:
    for message in arrow.ipc.MessageReader.open_stream(data):
        if message.type in {"record batch", "dictionary"} and _is_compressed(message):
            raise MalformedRequestError(
                problem="the Arrow buffers are compressed; send them plain, perhaps with `Content-Encoding: gzip`"
            )


def _is_compressed(message: Any) -> bool:
    """Look for the field `compression` of a record batch, which pyarrow does not show."""
    metadata = bytes(message.metadata)
    batch = _child(metadata, struct.unpack_from("<I", metadata)[0], 2)
    if message.type == "dictionary":
        batch = _child(metadata, batch, 1)
    return _field(metadata, batch, 3) != 0


def _child(buffer: bytes, table: int, number: int) -> int:
    position = table + _field(buffer, table, number)
    return int(position + struct.unpack_from("<I", buffer, position)[0])


def _field(buffer: bytes, table: int, number: int) -> int:
    """Return where a field stands in a flatbuffer table, from the table's start; 0 when it is absent."""
    vtable = table - struct.unpack_from("<i", buffer, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", buffer, vtable)[0]:
        return 0
    return int(struct.unpack_from("<H", buffer, vtable + 4 + 2 * number)[0])


# --- columns -------------------------------------------------------------------------------------------------------


def _column(arrow: Any, name: str, column: Any) -> Array:
    try:
        parts = [_chunk(arrow, name, chunk) for chunk in column.chunks]
    except KeyError as error:  # pyarrow reads some rare types that it has no arrays of
        raise SignatureMismatchError(field=name[:80], expected=_EXPECTED, given=str(column.type)[:80]) from error
    array = np.concatenate(parts) if parts else np.empty(0)
    if arrow.types.is_dictionary(column.type) and array.dtype.kind == "O":
        # a model may copy text that stands once in the body as often as there are rows
        characters = sum(len(value) for value in array if isinstance(value, str | bytes))
        if characters > _MAX_TEXT:
            raise MalformedRequestError(problem=f"column `{name[:80]}` repeats text to {characters} characters")
    return array


def _chunk(arrow: Any, name: str, chunk: Any) -> Array:
    types, kind = arrow.types, chunk.type
    if types.is_dictionary(kind):
        return _dictionary(arrow, name, chunk)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _lists(arrow, name, chunk)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind):
        array = np.empty(len(chunk), dtype=object)
        array[:] = chunk.to_pylist()
        return array
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        raise SignatureMismatchError(field=name[:80], expected=_EXPECTED, given=str(kind)[:80])
    if chunk.null_count and not types.is_floating(kind):
        return np.array(chunk.to_pylist(), dtype=object)
    return chunk.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _dictionary(arrow: Any, name: str, chunk: Any) -> Array:
    values = _chunk(arrow, name, chunk.dictionary)
    indices = chunk.indices
    if indices.null_count:
        values = np.concatenate((values.astype(object), np.array([None], dtype=object)))
        indices = indices.fill_null(len(values) - 1)
    positions = indices.to_numpy(zero_copy_only=False)
    return values[positions]  # type: ignore[no-any-return]


def _lists(arrow: Any, name: str, chunk: Any) -> Array:
    inner = chunk.flatten()
    rows, widths = len(chunk), set(import_module("pyarrow.compute").list_value_length(chunk).unique().to_pylist())
    if chunk.null_count or inner.null_count or len(widths) > 1 or not arrow.types.is_primitive(inner.type):
        given = "nulls, or lists of other things or of unequal length"
        raise SignatureMismatchError(field=name[:80], expected="lists of numbers, all of one length", given=given)
    return _chunk(arrow, name, inner).reshape(rows, widths.pop() if widths else 0)


def _tensors(columns: dict[str, Array], signature: Signature) -> Tensors:
    spec = signature.inputs[0]
    if len(signature.inputs) > 1 or len(spec.shape) != 2 or spec.name in columns:
        return to_tensors(columns, signature.inputs)
    if not columns or any(array.ndim != 1 for array in columns.values()):
        raise SignatureMismatchError(
            field=spec.name, expected=spec.describe(), given=f"the columns {list(columns)}"[:200]
        )
    return to_tensors(np.stack(list(columns.values()), axis=1), signature.inputs)

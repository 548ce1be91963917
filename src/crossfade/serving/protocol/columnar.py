"""Arrow IPC: whole tables as bodies, read within limits although their library believes what they claim.

A table must be uncompressed: what its compressed buffers claim is allocated before it is checked, and HTTP has
compression of its own. Where a few bytes can stand for any amount of text, as in dictionaries and views, the text is
counted first; other rare types are refused. A file is read through its footer, which must not name the same bytes again
and again. Parquet is read in `parquet.py`, in another process.

Source: https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
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

_MAGIC = b"ARROW1"
_FOOTER_END = struct.Struct("<i6s")
_BLOCK = struct.Struct("<qi4xq")
_DAMAGED = (EOFError, OSError, OverflowError, struct.error, UnicodeDecodeError, ValueError)
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
        read = _read_file if kind == FILE else _read_stream
        return table_inputs(read(arrow, body, max_rows), signature)
    except (*_DAMAGED, arrow.ArrowException) as error:
        raise MalformedRequestError(problem=f"the table cannot be read ({str(error)[:200]})") from error


def table_inputs(table: Any, signature: Signature) -> Tensors:
    """Turn a sound `pyarrow.Table` into the inputs of a signature.

    Raises:
        MalformedRequestError: Two columns have the same name, or too much text is named again and again.
        SignatureMismatchError: A column has a type that no input takes.
    """
    arrow, names = _arrow(), table.column_names
    if len(set(names)) != len(names):
        raise MalformedRequestError(problem="two columns have the same name")
    viewing = [column for column in table.columns if _has_views(arrow, column.type)]
    characters = sum(_viewed(arrow, chunk) for column in viewing for chunk in column.chunks)
    if characters > _MAX_TEXT:
        raise MalformedRequestError(problem=f"views repeat text to {characters} characters")
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


def _read_stream(arrow: Any, body: bytes, max_rows: int) -> Any:
    data = arrow.py_buffer(body)
    for message in arrow.ipc.MessageReader.open_stream(data):
        _refuse_compression(message)
    with arrow.ipc.open_stream(data) as reader:
        return _table(arrow, reader.schema, reader, max_rows)


def _read_file(arrow: Any, body: bytes, max_rows: int) -> Any:
    data, held = arrow.py_buffer(body), 0
    for offset in _blocks(body):
        message = arrow.ipc.read_message(data.slice(offset))
        _refuse_compression(message)
        held += message.metadata.size + (0 if message.body is None else message.body.size)
        if held > len(body):
            raise MalformedRequestError(problem="the footer of the Arrow file names the same bytes again")
    with arrow.ipc.open_file(data) as reader:
        batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        return _table(arrow, reader.schema, batches, max_rows)


def _table(arrow: Any, schema: Any, batches: Iterable[Any], max_rows: int) -> Any:
    if len(schema) > _MAX_COLUMNS:
        raise MalformedRequestError(problem=f"{len(schema)} columns, at most {_MAX_COLUMNS}")
    accepted, rows = [], 0
    for batch in batches:
        rows += batch.num_rows
        if rows > max_rows:
            raise MalformedRequestError(problem=f"more than {max_rows} rows at once")
        batch.validate(full=True)
        accepted.append(batch)
    return arrow.Table.from_batches(accepted, schema)


def _blocks(body: bytes) -> Iterator[int]:
    """Yield where the messages are that the footer of a file names: its dictionaries and record batches."""
    if len(body) < len(_MAGIC) + _FOOTER_END.size or not body.startswith(_MAGIC):
        raise MalformedRequestError(problem="the body is no Arrow file")
    size, magic = _FOOTER_END.unpack_from(body, len(body) - _FOOTER_END.size)
    start = len(body) - _FOOTER_END.size - size
    if magic != _MAGIC or size <= 0 or start < 0:
        raise MalformedRequestError(problem="the body is no whole Arrow file: it lacks its footer")
    footer = body[start : start + size]
    table = struct.unpack_from("<I", footer)[0]
    for number in (2, 3):
        if _field(footer, table, number):
            vector = _child(footer, table, number)
            for index in range(struct.unpack_from("<I", footer, vector)[0]):
                offset, _, _ = _BLOCK.unpack_from(footer, vector + 4 + index * _BLOCK.size)
                if not 0 <= offset < start:
                    raise MalformedRequestError(problem="the footer of the Arrow file names what is not there")
                yield offset


def _refuse_compression(message: Any) -> None:
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
    plain = types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind)
    if plain or _is_view(arrow, kind):
        array = np.empty(len(chunk), dtype=object)
        array[:] = chunk.to_pylist()
        return array
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        raise SignatureMismatchError(field=name[:80], expected=_EXPECTED, given=str(kind)[:80])
    if chunk.null_count and not types.is_floating(kind):
        return np.array(chunk.to_pylist(), dtype=object)
    return chunk.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _is_view(arrow: Any, kind: Any) -> bool:
    return bool(arrow.types.is_string_view(kind) or arrow.types.is_binary_view(kind))


def _has_views(arrow: Any, kind: Any) -> bool:
    return _has_views(arrow, kind.value_type) if arrow.types.is_dictionary(kind) else _is_view(arrow, kind)


def _viewed(arrow: Any, chunk: Any) -> int:
    """Return how many bytes views stand for: each begins with its length, and several may mean the same text."""
    if arrow.types.is_dictionary(chunk.type):
        return _viewed(arrow, chunk.dictionary)
    if not len(chunk):
        return 0
    views = np.frombuffer(chunk.buffers()[1], dtype=np.int32).reshape(-1, 4)
    return int(views[chunk.offset : chunk.offset + len(chunk), 0].sum(dtype=np.int64))


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

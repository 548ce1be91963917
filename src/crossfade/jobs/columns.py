"""Files of columns: Arrow IPC and Parquet, read in batches of rows whose number the file alone decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from itertools import chain
from typing import Any, BinaryIO

from crossfade.core.tensors import Tensors
from crossfade.errors import MalformedRequestError
from crossfade.jobs.chunks import ReadTask
from crossfade.jobs.groups import GROUP_BYTES, Group, plain
from crossfade.serving.protocol.columnar import table_inputs
from crossfade.serving.protocol.parquet import open_parquet

_FILE_MAGIC = b"ARROW1"
_STREAM_MAGIC = b"\xff\xff\xff\xff"
_VALUE_BYTES = 8


def parquet_groups(source: BinaryIO, task: ReadTask) -> Iterator[Group]:
    """Group the rows of a Parquet file, row group by row group.

    Raises:
        MalformedRequestError: It is damaged, or lacks a column.
    """
    file = open_parquet(source)
    total = file.metadata.num_rows
    try:
        found = file.schema_arrow.names
    except UnicodeDecodeError as error:
        raise MalformedRequestError(problem="the name of a column is not UTF-8") from error
    names = _wanted(found, task)
    rows = _rows_at_once(task, _bytes_per_row(file.metadata))
    batches = file.iter_batches(rows, columns=names, use_threads=False)
    yield from _groups(batches, rows, task, lambda done: task.input_bytes * done // max(total, done))


def arrow_groups(source: BinaryIO, task: ReadTask) -> Iterator[Group]:
    """Group the rows of an Arrow IPC file or stream; compressed ones too, because this process may fail.

    Raises:
        MalformedRequestError: It is damaged, or lacks a column.
    """
    arrow = import_module("pyarrow")
    begin = source.read(len(_FILE_MAGIC))
    source.seek(0)
    if begin != _FILE_MAGIC and not begin.startswith(_STREAM_MAGIC):
        raise MalformedRequestError(problem="it is not Arrow IPC (it begins as neither a file nor a stream)")
    try:
        reader = (arrow.ipc.open_file if begin == _FILE_MAGIC else arrow.ipc.open_stream)(source)
        batches = map(reader.get_batch, range(reader.num_record_batches)) if begin == _FILE_MAGIC else iter(reader)
        first, found = next(batches, None), reader.schema.names
    except MemoryError:
        raise
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise MalformedRequestError(problem=f"it is not Arrow IPC ({str(error)[:200]})") from error
    names = _wanted(found, task)
    if first is None:
        return
    rows = _rows_at_once(task, first.nbytes / max(first.num_rows, 1))
    selected = (batch.select(names) for batch in chain([first], batches))
    yield from _groups(selected, rows, task, lambda _: source.tell())


def _bytes_per_row(metadata: Any) -> float:
    """Return what a row takes in memory, about; its encoding in the file may be far smaller."""
    if metadata.num_row_groups == 0:
        return 0.0
    first = metadata.row_group(0)
    values = sum(first.column(number).num_values for number in range(first.num_columns))
    return float(max(first.total_byte_size, _VALUE_BYTES * values) / max(first.num_rows, 1))


def _rows_at_once(task: ReadTask, bytes_per_row: float) -> int:
    return max(1, min(task.chunk_rows, int(GROUP_BYTES / max(bytes_per_row, 1.0))))


def _groups(batches: Iterable[Any], rows: int, task: ReadTask, position: Callable[[int], int]) -> Iterator[Group]:
    """Cut batches of any size into groups of exactly so many rows, the last one perhaps of fewer."""
    arrow = import_module("pyarrow")
    waiting: list[Any] = []
    gathered = done = 0
    try:
        for batch in batches:
            batch.validate(full=True)
            begin = 0
            while batch.num_rows - begin >= rows - gathered:
                piece = batch.slice(begin, rows - gathered)
                begin += piece.num_rows
                done += rows
                yield _group(arrow.Table.from_batches([*waiting, piece]), position(done), task)
                waiting, gathered = [], 0
            if begin < batch.num_rows:
                waiting.append(batch.slice(begin))
                gathered += batch.num_rows - begin
        if waiting:
            yield _group(arrow.Table.from_batches(waiting), position(done + gathered), task)
    except MemoryError:
        raise
    except (arrow.ArrowException, OSError, ValueError, KeyError) as error:  # KeyError: a type that it has no arrays of
        raise MalformedRequestError(problem=f"it is damaged after row {done} ({str(error)[:200]})") from error


def _group(table: Any, bytes_done: int, task: ReadTask) -> Group:
    kept = {name: [plain(value) for value in table.column(name).to_pylist()] for name in task.keep}
    inputs = table.select([name for name in table.column_names if name not in task.keep or _is_input(name, task)])

    def read(start: int, stop: int) -> Tensors:
        return table_inputs(inputs.slice(start, stop - start), task.signature)

    return Group(table.num_rows, read, list(range(table.num_rows)), {}, kept, bytes_done)


def _wanted(found: list[str], task: ReadTask) -> list[str]:
    """Return the columns to read: inputs and what is kept; all of them when together they are a single tensor."""
    if len(set(found)) < len(found):
        raise MalformedRequestError(problem="two columns have the same name")
    specs = task.signature.inputs
    if len(specs) == 1 and len(specs[0].shape) > 1 and specs[0].name not in found:
        wanted = list(found)
    else:
        wanted = [spec.name for spec in specs] + [name for name in task.keep if not _is_input(name, task)]
    for name in (*wanted, *task.keep):
        if name not in found:
            raise MalformedRequestError(problem=f"it has no column `{name[:80]}`")
    return wanted


def _is_input(name: str, task: ReadTask) -> bool:
    return any(spec.name == name for spec in task.signature.inputs)

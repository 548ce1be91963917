"""Parquet: read in a child process only, because on some damaged files its library ends the whole process.

The child turns the file into an Arrow stream, which this process reads as carefully as one that a client sent. It costs
a third of a second of processor time per file, mostly for starting Python and pyarrow: send small requests as Arrow or
JSON.

Source: https://parquet.apache.org/docs/file-format/
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import msgspec

from crossfade.core.child import Limits, read_frames, run
from crossfade.errors import MalformedRequestError, MissingExtraError

_LIMITS = Limits(memory_bytes=2**30, cpu_seconds=20, idle_seconds=30.0)
_BATCH_ROWS = 8192
_MAX_COLUMNS = 10_000
_MODULE = "crossfade.serving.protocol.parquet"


class _Task(msgspec.Struct):
    max_rows: int
    limit_bytes: int


def parquet_to_stream(body: bytes, *, max_rows: int, limit_bytes: int) -> bytes:
    """Return a Parquet file as an Arrow stream. It takes a while: call it on a thread.

    Args:
        body: The file.
        max_rows: The largest accepted number of rows.
        limit_bytes: The largest accepted stream.

    Raises:
        MalformedRequestError: It is damaged or too large, or it crashed or hung its reader.
        MissingExtraError: pyarrow is not installed.
    """
    require_arrow("a Parquet body")
    task = msgspec.json.encode(_Task(max_rows, limit_bytes))
    with TemporaryFile() as source:
        source.write(body)
        source.seek(0)
        try:
            return b"".join(read_frames(_MODULE, task, source, _LIMITS))
        except MalformedRequestError as error:
            raise MalformedRequestError(problem=f"the Parquet file cannot be used: {error.facts['problem']}") from error


def require_arrow(feature: str) -> None:
    """Make sure that pyarrow can be imported.

    Raises:
        MissingExtraError: It is not installed.
    """
    if find_spec("pyarrow") is None:
        raise MissingExtraError(feature=feature, package="pyarrow", extra="arrow")


def open_parquet(source: BinaryIO) -> Any:
    """Return the `pyarrow.parquet.ParquetFile`: for child processes only.

    Raises:
        MalformedRequestError: It is none, or has too many columns.
    """
    arrow = import_module("pyarrow")
    arrow.set_cpu_count(1)
    try:
        file = import_module("pyarrow.parquet").ParquetFile(source)
    except MemoryError:
        raise
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise MalformedRequestError(problem=f"it is not a sound Parquet file ({str(error)[:200]})") from error
    if file.metadata.num_columns > _MAX_COLUMNS:
        raise MalformedRequestError(problem=f"{file.metadata.num_columns} columns, at most {_MAX_COLUMNS}")
    return file


def _convert(task: bytes, source: BinaryIO) -> Iterator[bytes]:
    limits = msgspec.json.decode(task, type=_Task)
    arrow = import_module("pyarrow")
    file = open_parquet(source)
    if file.metadata.num_rows > limits.max_rows:
        raise MalformedRequestError(problem=f"{file.metadata.num_rows} rows, at most {limits.max_rows} at once")
    sink, rows = BytesIO(), 0
    try:
        with arrow.ipc.new_stream(sink, file.schema_arrow) as writer:
            for batch in file.iter_batches(_BATCH_ROWS, use_threads=False):
                rows += batch.num_rows
                if rows > limits.max_rows:
                    raise MalformedRequestError(problem=f"more than {limits.max_rows} rows")
                writer.write_batch(batch)
                if sink.tell() > limits.limit_bytes:
                    raise MalformedRequestError(problem=f"unpacked it has more than {limits.limit_bytes} bytes")
    except MemoryError:  # pyarrow's is an ArrowException, too
        raise
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise MalformedRequestError(problem=f"it is damaged ({str(error)[:200]})") from error
    yield sink.getvalue()


if __name__ == "__main__":
    run(_convert)

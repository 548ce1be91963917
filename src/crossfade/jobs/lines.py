"""Files of lines: CSV with a heading, and JSON lines."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, TypeVar

import msgspec

from crossfade.core.conversion import to_tensors
from crossfade.core.tensors import Signature, Tensors
from crossfade.errors import MalformedRequestError
from crossfade.jobs.chunks import ReadTask
from crossfade.jobs.groups import GROUP_BYTES, Group, plain
from crossfade.serving.protocol.invocations import MISSING, to_inputs

_LONGEST_CELL = 2**20
_LONGEST_LINE = 64 * 2**20
_MAX_COLUMNS = 10_000

T = TypeVar("T", bound=str | bytes)
Read = tuple[Any, str]
"""A row, and why it is no row; empty when it is one."""
_decode_row = msgspec.json.Decoder(dict[str, Any] | list[Any]).decode


def csv_groups(source: BinaryIO, task: ReadTask) -> Iterator[Group]:
    """Group the rows of a CSV file. Cells are read as MLflow reads them; columns that nobody asks for are ignored.

    Raises:
        MalformedRequestError: There is no heading, or it lacks a column.
    """
    before = csv.field_size_limit(_LONGEST_CELL)  # of the whole process, which may be another one than the child
    try:
        yield from _csv_groups(source, task)
    finally:
        csv.field_size_limit(before)


def _csv_groups(source: BinaryIO, task: ReadTask) -> Iterator[Group]:
    # what is not UTF-8 becomes surrogates, so that it costs its own row only
    lines = _Counted(io.TextIOWrapper(source, encoding="utf-8-sig", errors="surrogateescape", newline="").readline)
    reader = csv.reader(lines, strict=True)
    try:
        heading = next(reader, [])
    except csv.Error as error:
        raise MalformedRequestError(problem=f"the heading of the CSV cannot be read ({error})") from error
    places = _places(heading, task)
    wanted = _inputs_of(heading, task)

    def inputs(rows: list[list[str | None]], signature: Signature) -> Tensors:
        columns = {name: [row[places[name]] for row in rows] for name in wanted}
        return to_inputs(columns, signature, written=True)

    def kept(row: list[str | None] | None, name: str) -> object:
        return None if row is None else plain(row[places[name]])

    yield from _groups(_csv_rows(reader, len(heading)), lines, task, inputs, kept)


def jsonl_groups(source: BinaryIO, task: ReadTask) -> Iterator[Group]:
    """Group the rows of a JSON lines file: an object per line, or an array for a single tensor. Blank lines are none.

    Raises:
        MalformedRequestError: A line has no end, or no row of the first group has a column that is to be kept.
    """
    specs = task.signature.inputs
    names = [spec.name for spec in specs]

    def inputs(rows: list[dict[str, Any]], signature: Signature) -> Tensors:
        return to_tensors([{name: row[name] for name in names if name in row} for row in rows], signature.inputs)

    met: set[str] = set()

    def kept(row: dict[str, Any] | None, name: str) -> object:
        if row is None:
            return None
        met.update({name} & row.keys())
        return plain(row.get(name))

    lines = _Counted(lambda: source.readline(_LONGEST_LINE + 1))
    groups = _groups(_json_rows(lines, names[0] if len(names) == 1 else None), lines, task, inputs, kept)
    for number, group in enumerate(groups):
        if number == 0 and group.offsets and (missing := [name for name in task.keep if name not in met]):
            problem = f"none of its first {group.rows} rows has a `{missing[0][:80]}` to keep"
            raise MalformedRequestError(problem=problem)
        yield group


class _Counted(Iterator[T]):
    """Lines, and how much of the file they were: bytes, or characters, which are about as many."""

    def __init__(self, readline: Callable[[], T]) -> None:
        self._readline = readline
        self.count = 0

    def __next__(self) -> T:
        line = self._readline()
        if not line:
            raise StopIteration
        self.count += len(line)
        return line


def _groups(
    rows: Iterator[Read],
    lines: _Counted[Any],
    task: ReadTask,
    inputs: Callable[[list[Any], Signature], Tensors],
    kept: Callable[[Any, str], object],
) -> Iterator[Group]:
    gathered: list[Read] = []
    begun_at = lines.count
    for row in rows:
        gathered.append(row)
        if len(gathered) >= task.chunk_rows or lines.count - begun_at >= GROUP_BYTES:
            yield _group(gathered, lines.count, task, inputs, kept)
            gathered, begun_at = [], lines.count
    if gathered:
        yield _group(gathered, lines.count, task, inputs, kept)


def _group(
    read: list[Read],
    bytes_done: int,
    task: ReadTask,
    inputs: Callable[[list[Any], Signature], Tensors],
    kept: Callable[[Any, str], object],
) -> Group:
    offsets = [offset for offset, (_, problem) in enumerate(read) if not problem]
    rows = [read[offset][0] for offset in offsets]
    return Group(
        rows=len(read),
        inputs=lambda start, stop: inputs(rows[start:stop], task.signature),
        offsets=offsets,
        bad={offset: problem for offset, (_, problem) in enumerate(read) if problem},
        kept={name: [kept(row, name) for row, _ in read] for name in task.keep},
        bytes_done=bytes_done,
    )


# --- CSV -----------------------------------------------------------------------------------------------------------


def _csv_rows(reader: Iterator[list[str]], width: int) -> Iterator[Read]:
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:  # the reader goes on with the next line
            yield None, f"the CSV of the row cannot be read ({error})"
            continue
        if row is None:
            return
        if not row:
            continue
        if len(row) != width:
            yield None, f"the row has {len(row)} cells, and the heading {width}"
        elif any(map(_is_broken, row)):
            yield None, "the row is not UTF-8"
        else:
            yield [None if cell in MISSING else cell for cell in row], ""


def _is_broken(cell: str) -> bool:
    return not cell.isascii() and any("\udc80" <= character <= "\udcff" for character in cell)


def _places(heading: list[str], task: ReadTask) -> dict[str, int]:
    if not heading:
        raise MalformedRequestError(problem="the CSV has no heading")
    if len(heading) > _MAX_COLUMNS:
        raise MalformedRequestError(problem=f"{len(heading)} columns, at most {_MAX_COLUMNS}")
    places = {name: position for position, name in enumerate(heading)}
    if len(places) < len(heading):
        raise MalformedRequestError(problem="two columns have the same name")
    for name in (*_inputs_of(heading, task), *task.keep):
        if name not in places:
            raise MalformedRequestError(problem=f"it has no column `{name[:80]}`")
    return places


def _inputs_of(heading: list[str], task: ReadTask) -> list[str]:
    """Return the columns that are inputs: side by side, all that are not kept make a single tensor."""
    specs = task.signature.inputs
    if len(specs) == 1 and len(specs[0].shape) > 1 and specs[0].name not in heading:
        return [name for name in heading if name not in task.keep]
    return [spec.name for spec in specs]


# --- JSON lines ----------------------------------------------------------------------------------------------------


def _json_rows(lines: Iterable[bytes], single: str | None) -> Iterator[Read]:
    for line in lines:
        if len(line) > _LONGEST_LINE:
            raise MalformedRequestError(problem=f"a line has more than {_LONGEST_LINE >> 20} MiB")
        if not line.strip():
            continue
        try:
            row = _decode_row(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            yield None, f"the line is not a JSON object ({error})"
        except RecursionError:
            yield None, "the JSON is nested too deeply"
        else:
            if isinstance(row, list) and single is None:
                yield None, "the line is an array, and there are several inputs"
            else:
                yield ({single: row} if isinstance(row, list) else row), ""

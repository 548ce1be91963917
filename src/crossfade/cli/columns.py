"""Columns of numbers and names from a file or stdin, of millions of rows: CSV, JSON, JSON lines, Parquet."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossfade.errors import InvalidDecisionLogError, MissingExtraError

if TYPE_CHECKING:
    from crossfade.methods.stats.distributions import Array

Columns = dict[str, Sequence[Any]]
_LONGEST_CELL = 2**20
_SEE = "crossfade experiments evaluate-policy --help"


def read_columns(path: Path, names: Sequence[str]) -> Columns:
    """Return some columns of a file, as they are written there.

    Args:
        path: The file; `-` is stdin, as CSV or JSON.
        names: Of the columns; all others are left out.

    Raises:
        InvalidDecisionLogError: It has no rows, lacks a column, or is damaged.
        MalformedRequestError: It is no text, or no JSON.
        MissingExtraError: Parquet needs pyarrow.
    """
    if path.suffix.lower() in {".parquet", ".pq"}:
        return _parquet(path, names)
    from crossfade.cli.rows import is_csv, read_text

    text = read_text(path, _SEE)
    return _csv(text, names) if is_csv(path, text) else _json(text, names, str(path))


def numbers(columns: Columns, name: str) -> Array:
    """Return a column as numbers, NaN where there is none; true and false are 1 and 0.

    Raises:
        InvalidDecisionLogError: Something in it is no number.
    """
    import numpy as np

    try:
        column = np.array(columns[name], dtype=np.float64)
        if column.ndim == 1:  # a column of lists has more
            return column
    except (ValueError, TypeError, OverflowError):
        pass  # which row it is, or whether cells are only empty, is found out below
    found = []
    for row, value in enumerate(columns[name], start=1):
        try:
            found.append(math.nan if value is None or value == "" else float(value))
        except (ValueError, TypeError, OverflowError):
            problem = f"row {row}: `{str(value)[:40]}` in column `{name}` is no number"
            raise InvalidDecisionLogError(problem=problem) from None
    return np.array(found)


def texts(columns: Columns, name: str) -> list[str]:
    """Return a column as text.

    Raises:
        InvalidDecisionLogError: A cell is empty.
    """
    found = [value if isinstance(value, str) else "" if value is None else str(value) for value in columns[name]]
    if "" in found:
        raise InvalidDecisionLogError(problem=f"row {found.index('') + 1} has nothing in column `{name}`")
    return found


def _csv(text: str, names: Sequence[str]) -> Columns:
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        heading = next(reader, [])
        places = [_place(heading, name) for name in names]
        rows = [row for row in reader if row]
        for number, row in enumerate(rows, start=1):
            if len(row) != len(heading):
                problem = f"row {number} has {len(row)} cells, and the heading {len(heading)}"
                raise InvalidDecisionLogError(problem=problem)
    except csv.Error as error:
        raise InvalidDecisionLogError(problem=f"the CSV cannot be read ({error})") from error
    finally:
        csv.field_size_limit(before)
    if not rows:
        raise InvalidDecisionLogError(problem="it has no rows")
    return {name: [row[place] for row in rows] for name, place in zip(names, places, strict=True)}


def _json(text: str, names: Sequence[str], path: str) -> Columns:
    from crossfade.cli.rows import read_json

    rows = read_json(text, path, _SEE) if text.strip() else []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InvalidDecisionLogError(problem="its rows are no JSON objects")
    if not rows:
        raise InvalidDecisionLogError(problem="it has no rows")
    for name in names:  # a row may leave out what is missing there, but some row has it
        if not any(name in row for row in rows):
            _place(list(rows[0]), name)
    return {name: [row.get(name) for row in rows] for name in names}


def _parquet(path: Path, names: Sequence[str]) -> Columns:
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingExtraError(feature="reading Parquet", package="pyarrow", extra="arrow") from error
    try:
        with parquet.ParquetFile(path) as file:
            for name in names:
                _place(file.schema_arrow.names, name)
            table = file.read(columns=list(names))
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise InvalidDecisionLogError(problem=f"the Parquet file cannot be read ({str(error)[:200]})") from error
    if table.num_rows == 0:
        raise InvalidDecisionLogError(problem="it has no rows")
    return {name: table.column(name).to_pylist() for name in names}


def _place(heading: Sequence[str], name: str) -> int:
    found = [place for place, each in enumerate(heading) if each == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise InvalidDecisionLogError(problem=f"it has {len(found)} columns `{name}`")
    there = ", ".join(f"`{each[:40]}`" for each in heading[:20]) or "none"
    raise InvalidDecisionLogError(problem=f"it has no column `{name[:80]}`; it has {there}")

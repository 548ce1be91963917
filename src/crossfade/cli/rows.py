"""Rows of input from a file or stdin: JSON, JSON lines, CSV, Parquet."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from crossfade.errors import MalformedRequestError, MissingExtraError

STDIN = Path("-")


def read_rows(path: Path) -> Any:
    """Return what a file holds: a list of row dicts, or a frame for Parquet.

    CSV cells that are numbers become numbers, empty ones become null; everything else is text.

    Raises:
        MalformedRequestError: It is not in its format.
        MissingExtraError: Parquet needs pandas or polars.
    """
    if path.suffix.lower() in {".parquet", ".pq"}:
        return _parquet(path)
    content = sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedRequestError(problem=f"`{path}` is not UTF-8 text") from error
    if path.suffix.lower() == ".csv" or (path == STDIN and not text.lstrip().startswith(("[", "{"))):
        return _csv(text)
    return _json(text, str(path))


def _json(text: str, name: str) -> Any:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        try:
            value = msgspec.json.decode_lines(text)
        except msgspec.DecodeError as error:
            raise MalformedRequestError(problem=f"`{name}` is not JSON: {error}") from error
    if isinstance(value, dict):
        return value.get("rows", [value])
    return value


def _csv(text: str) -> list[dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    rows = list(reader)
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise MalformedRequestError(problem=f"CSV row {number} has not one cell per heading")
    numeric = {name: all(_is_number(row[name]) for row in rows) for name in reader.fieldnames or ()}
    return [{name: _cell(value, numeric[name]) for name, value in row.items()} for row in rows]


def _is_number(text: str) -> bool:
    if not text:
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


def _cell(text: str, numeric: bool) -> float | int | str | None:  # noqa: FBT001 - one of two kinds of column
    if not text:
        return None
    if not numeric:
        return text
    return int(text) if text.lstrip("+-").isdigit() else float(text)


def _parquet(path: Path) -> Any:
    for library in ("polars", "pandas"):
        try:
            module = __import__(library)
        except ImportError:
            continue
        return module.read_parquet(path)
    raise MissingExtraError(feature="reading Parquet", package="polars", extra="polars")


rows_argument = click.argument(
    "rows", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path), default=STDIN
)

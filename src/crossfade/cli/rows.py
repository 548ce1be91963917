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


def read_rows(path: Path, see: str, texts: frozenset[str] = frozenset()) -> Any:
    """Return what a file holds: a list of row dicts, or a frame for Parquet.

    CSV cells are null when empty; a column of numbers becomes numbers unless `texts` names it; the rest is text.

    Args:
        path: The file; `-` is stdin.
        see: The command that shows what rows have to be.
        texts: Columns that are text even when they look like numbers.

    Raises:
        MalformedRequestError: It is not in its format.
        MissingExtraError: Parquet needs pandas or polars.
    """
    if path.suffix.lower() in {".parquet", ".pq"}:
        return _parquet(path)
    text = read_text(path, see)
    return _csv(text, texts, see) if is_csv(path, text) else read_json(text, str(path), see)


def read_text(path: Path, see: str) -> str:
    """Return the text of a file or of stdin.

    Raises:
        MalformedRequestError: It is not UTF-8.
    """
    content = sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedRequestError(problem=f"`{path}` is not UTF-8 text", see=see) from error


def is_csv(path: Path, text: str) -> bool:
    """Tell CSV from JSON: by the ending, and what comes over stdin by how it begins."""
    return path.suffix.lower() == ".csv" or (path == STDIN and not text.lstrip().startswith(("[", "{")))


def read_json(text: str, name: str, see: str) -> Any:
    """Return what JSON or JSON lines hold; of an object with `rows`, these.

    Raises:
        MalformedRequestError: It is neither.
    """
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        try:
            value = msgspec.json.Decoder().decode_lines(text)
        except msgspec.DecodeError as error:
            raise MalformedRequestError(problem=f"`{name}` is not JSON: {error}", see=see) from error
    if isinstance(value, dict):
        return value.get("rows", [value])
    return value


def _csv(text: str, texts: frozenset[str], see: str) -> list[dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    rows = list(reader)
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise MalformedRequestError(problem=f"CSV row {number} has not one cell per heading", see=see)
    names = [name for name in reader.fieldnames or () if name not in texts]
    numeric = {name for name in names if all(_is_number(row[name]) for row in rows)}
    return [{name: _cell(value, name in numeric) for name, value in row.items()} for row in rows]


def _is_number(text: str) -> bool:
    if not text:
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


def _cell(text: str, numeric: bool) -> float | int | str | None:
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
    "rows", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path), default="-"
)

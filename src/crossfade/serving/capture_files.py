"""Captured predictions as Parquet files (extra `arrow`): one row per row that was predicted, one version per file.

A file holds `request_id`, `at`, `row` (its place in the request), `model`, `version`, `digest`, and the tensors as
`input.<name>` and `output.<name>`; an output that was not asked for is null. Its metadata says how the tensors were
declared. A file is written beside its place, synchronised, and only then given its name. Only its owner may read it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from crossfade.core.identity import new_id
from crossfade.core.tensors import DTYPES, Array, Signature, Tensors, TensorSpec, row_count
from crossfade.errors import MalformedRequestError, MissingExtraError
from crossfade.storage.filesystem import LocalFileSystem, make_durable_folder

INPUT, OUTPUT = "input.", "output."
SEE = "crossfade replay --help"
"""Says which files can be read."""
_META = b"crossfade.capture"
_SUFFIX, _PART = ".parquet", ".part"
_NAME = re.compile(r".+-\d{8}T\d{6}Z-[0-9a-f-]{36}\.(parquet|part)")
_ARROW_TYPES = {"BOOL": "bool_", "FP16": "float32", "FP32": "float32", "FP64": "float64"}


class Captured(msgspec.Struct, frozen=True):
    """One prediction that was captured.

    Args:
        request_id: What its client knows it by.
        at_ns: When it was answered, in nanoseconds since 1970.
        inputs: Checked, n rows.
        outputs: Those that were asked for.
    """

    request_id: str
    at_ns: int
    inputs: Tensors
    outputs: Tensors


class Origin(msgspec.Struct, frozen=True):
    """Where the predictions of one file come from.

    Args:
        model: Who answered.
        version: Its semver.
        digest: Of its manifest.
        inputs: The fields that were kept as they are.
        outputs: Likewise.
        hashed: Fields of which only a keyed hash was kept.
    """

    model: str
    version: str
    digest: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    hashed: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, model: str, version: str, digest: str, signature: Signature, keeps: Callable[[str], bool | None]
    ) -> Origin:
        """Apply a field policy to a signature; `keeps` tells whether a field is kept, None for a hash of it."""
        specs = (*signature.inputs, *signature.outputs)
        inputs, outputs = (
            tuple(spec for spec in part if keeps(spec.name)) for part in (signature.inputs, signature.outputs)
        )
        hashed = tuple(dict.fromkeys(spec.name for spec in specs if keeps(spec.name) is None))
        return cls(model, version, digest, inputs, outputs, hashed)


def write_file(folder: Path, origin: Origin, captured: Sequence[Captured], digest: Callable[[bytes], str]) -> Path:
    """Write predictions of one version, and return the file.

    Args:
        folder: Of all captures; it is made when it is not there.
        origin: Of the version.
        captured: At least one.
        digest: The keyed hash of fields that are not kept as they are.

    Raises:
        OSError: It cannot be written; nothing with the name of a capture is left behind.
    """
    arrow, parquet = _arrow(), import_module("pyarrow.parquet")
    table = _table(arrow, origin, captured, digest)
    place = folder / origin.model
    filesystem = LocalFileSystem()
    make_durable_folder(filesystem, place)
    name = f"{origin.version}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{new_id()}"
    path, beside = place / f"{name}{_SUFFIX}", place / f"{name}{_PART}"
    try:
        with os.fdopen(filesystem.open_new(beside), "wb") as file:
            parquet.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return path


def delete_old(folder: Path, before: float) -> int:
    """Delete captures, and what crashes have left of some, that were last written before a time; tell how many."""
    deleted = 0
    for path in folder.glob("*/*"):  # whatever else somebody keeps there is not ours
        if _NAME.fullmatch(path.name) and path.stat().st_mtime < before:
            path.unlink(missing_ok=True)
            deleted += 1
    return deleted


def check_installed() -> None:
    """Import what writing takes: a server that cannot capture says so when it starts.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    _arrow()
    import_module("pyarrow.parquet")


def _table(arrow: Any, origin: Origin, captured: Sequence[Captured], digest: Callable[[bytes], str]) -> Any:
    rows = [row_count(one.inputs) for one in captured]
    total = sum(rows)
    columns = {
        "request_id": arrow.array(np.repeat(np.array([one.request_id for one in captured], dtype=object), rows)),
        "at": arrow.array(np.repeat([one.at_ns // 1000 for one in captured], rows), arrow.timestamp("us", tz="UTC")),
        "row": arrow.array(np.concatenate([np.arange(count, dtype=np.int32) for count in rows])),
        **{name: _same(arrow, getattr(origin, name), total) for name in ("model", "version", "digest")},
    }
    for prefix, specs, tensors in (
        (INPUT, origin.inputs, [one.inputs for one in captured]),
        (OUTPUT, origin.outputs, [one.outputs for one in captured]),
    ):
        for spec in specs:
            pieces = [values.get(spec.name) for values in tensors]
            columns[prefix + spec.name] = arrow.chunked_array(
                [_column(arrow, spec, piece, count) for piece, count in zip(pieces, rows, strict=True)]
            )
        for name in origin.hashed:
            if any(name in values for values in tensors):
                hashes = [
                    text
                    for values, count in zip(tensors, rows, strict=True)
                    for text in (_hashes(values[name], digest) if name in values else [None] * count)
                ]
                columns[prefix + name] = arrow.array(hashes, arrow.string())
    return arrow.table(columns).replace_schema_metadata({_META: msgspec.json.encode(origin)})


def _same(arrow: Any, text: str, rows: int) -> Any:
    return arrow.DictionaryArray.from_arrays(np.zeros(rows, dtype=np.int32), [text])


def _column(arrow: Any, spec: TensorSpec, value: Array | None, rows: int) -> Any:
    name = "string" if spec.text else "binary"
    if spec.datatype != "BYTES":
        name = _ARROW_TYPES.get(spec.datatype, DTYPES[spec.datatype].name)
    kind = getattr(arrow, name)()
    for _ in spec.shape[1:]:
        kind = arrow.list_(kind)
    if value is None:
        return arrow.nulls(rows, kind)
    if spec.datatype == "FP16":
        value = value.astype(np.float32)
    return arrow.array(value if value.ndim == 1 else value.tolist(), kind)


def _hashes(value: Array, digest: Callable[[bytes], str]) -> Iterator[str]:
    for row in value:
        plain = isinstance(row, np.generic | np.ndarray)
        yield digest(msgspec.msgpack.encode(row.tolist() if plain else row))


# --- reading -------------------------------------------------------------------------------------------------------


def find_files(path: Path) -> list[Path]:
    """Return the files of a capture: one, or all below a folder, in the order of their names."""
    return sorted(path.rglob(f"*{_SUFFIX}")) if path.is_dir() else [path]


def read_file(path: Path) -> tuple[Origin, Iterator[tuple[Tensors, Tensors]]]:
    """Read one file: where it comes from, and its rows, in groups whose rows have equal shapes.

    Outputs that were not asked for are left out of their group.

    Raises:
        MalformedRequestError: It is no capture.
        MissingExtraError: pyarrow is not installed.
    """
    arrow, parquet = _arrow(), import_module("pyarrow.parquet")
    try:
        table = parquet.read_table(path)
        origin = msgspec.json.decode((table.schema.metadata or {})[_META], type=Origin)
        names = {INPUT + spec.name for spec in origin.inputs} | {OUTPUT + spec.name for spec in origin.outputs}
        if not names <= set(table.column_names):
            raise MalformedRequestError(problem=f"`{path}` lacks columns that it declares", see=SEE)
    except (arrow.ArrowException, OSError, KeyError, msgspec.MsgspecError) as error:
        raise MalformedRequestError(problem=f"`{path}` is no capture ({str(error)[:200]})", see=SEE) from error
    return origin, _groups(origin, table)


def _groups(origin: Origin, table: Any) -> Iterator[tuple[Tensors, Tensors]]:
    specs = [(INPUT, spec) for spec in origin.inputs] + [(OUTPUT, spec) for spec in origin.outputs]
    columns = {prefix + spec.name: _values(spec, table.column(prefix + spec.name)) for prefix, spec in specs}
    absent = {OUTPUT + spec.name: table.column(OUTPUT + spec.name).is_null().to_numpy() for spec in origin.outputs}
    groups: dict[tuple[object, ...], list[int]] = {}
    nested = [name for (prefix, spec) in specs if len(spec.shape) > 1 for name in (prefix + spec.name,)]
    for row in range(table.num_rows):
        key = (*(bool(gone[row]) for gone in absent.values()), *(np.shape(columns[name][row]) for name in nested))
        groups.setdefault(key, []).append(row)
    for rows in groups.values():
        inputs = {spec.name: _stacked(spec, columns[INPUT + spec.name], rows) for spec in origin.inputs}
        outputs = {
            spec.name: _stacked(spec, columns[OUTPUT + spec.name], rows)
            for spec in origin.outputs
            if not absent[OUTPUT + spec.name][rows[0]]
        }
        yield inputs, outputs


def _values(spec: TensorSpec, column: Any) -> Any:
    """Return one value per row: an array, or a list of lists."""
    if len(spec.shape) > 1 or spec.datatype == "BYTES":
        return column.to_pylist()
    return column.to_numpy()


def _stacked(spec: TensorSpec, values: Any, rows: list[int]) -> Array:
    if len(spec.shape) == 1 and spec.datatype != "BYTES":
        return np.asarray(values[rows]).astype(DTYPES[spec.datatype])
    chosen = [values[row] for row in rows]
    if len(spec.shape) == 1:
        array = np.empty(len(chosen), dtype=object)
        array[:] = chosen
        return array
    return np.array(chosen, dtype=DTYPES[spec.datatype])


def _arrow() -> Any:
    try:
        return import_module("pyarrow")
    except ModuleNotFoundError as error:
        raise MissingExtraError(feature="a capture", package="pyarrow", extra="arrow") from error

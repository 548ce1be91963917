"""What a job answers: lines of JSON while it runs, and at its end one file in the format that was asked for.

Every part is JSON lines, one object per row: `{"row": 0, <kept columns>, "prediction": 1, "probabilities": [0.2,
0.8]}`, or `{"row": 7, <kept columns>, "error": "..."}`. The result is made of the parts alone, so making it again,
after a crash, gives the same bytes. A prediction that is not a finite number is null.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

import msgspec
import orjson

from crossfade.core.tensors import Signature, Tensors
from crossfade.jobs.chunks import Chunk
from crossfade.jobs.records import JobRequest, OutputFormat
from crossfade.serving.predictor import PROBABILITIES
from crossfade.serving.protocol.answers import json_values
from crossfade.serving.protocol.parquet import require_arrow


class Layout(msgspec.Struct, frozen=True):
    """The columns of a result.

    Args:
        signature: Of the version that answers.
        label: The output that is the prediction.
        keep: Columns copied from the file.
        probabilities: Whether there are probabilities.
    """

    signature: Signature
    label: str
    keep: tuple[str, ...]
    probabilities: bool

    @property
    def wanted(self) -> frozenset[str]:
        """The outputs to compute."""
        return frozenset((self.label, PROBABILITIES) if self.probabilities else (self.label,))


def require_packages(request: JobRequest) -> None:
    """Make sure that this process can read the file of a job and write its result.

    Raises:
        MissingExtraError: Parquet and Arrow need pyarrow.
    """
    if {"parquet", "arrow"} & {request.format, request.output}:
        require_arrow(f"a job with {request.format} in and {request.output} out")


class Answers:
    """Collects the answers to one chunk, row by row in their order.

    Attributes:
        failed: Rows that have an error.
    """

    def __init__(self, layout: Layout) -> None:
        self.failed = 0
        self._layout = layout
        self._rows: list[tuple[Any, Any] | str] = []

    def add(self, outputs: Tensors) -> None:
        """Take the answers to the next good rows."""
        layout = self._layout
        predictions = _plain(layout.label, outputs)
        probabilities = _plain(PROBABILITIES, outputs) if layout.probabilities else [None] * len(predictions)
        self._rows.extend(zip(predictions, probabilities, strict=True))

    def refuse(self, problem: str) -> None:
        """Take the refusal of the next good row."""
        self._rows.append(problem)

    def lines(self, first_row: int, chunk: Chunk) -> bytes:
        """Return the part: every row of the chunk, good or bad."""
        answers = iter(self._rows)
        names = self._layout.keep
        kept: Iterable[tuple[Any, ...]] = zip(*chunk.kept.values(), strict=True) if names else [()] * chunk.rows
        lines = []
        for offset, values in enumerate(kept):
            row: dict[str, Any] = {"row": first_row + offset, **dict(zip(names, values, strict=True))}
            answer = chunk.bad[offset] if offset in chunk.bad else next(answers)
            if isinstance(answer, str):
                self.failed += 1
                row["error"] = answer
            else:
                row["prediction"] = answer[0]
                if self._layout.probabilities:
                    row["probabilities"] = answer[1]
            lines.append(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        return b"".join(lines)


def _plain(name: str, outputs: Tensors) -> list[Any]:
    """Return an output as JSON values: the shortest decimals, as the predict routes write them."""
    written = orjson.dumps(json_values(name, outputs[name]), option=orjson.OPT_SERIALIZE_NUMPY)
    values: list[Any] = orjson.loads(written)
    return values


# --- the result ----------------------------------------------------------------------------------------------------


def render(output: OutputFormat, parts: Iterable[bytes], layout: Layout) -> Iterator[bytes]:
    """Yield the result made of all parts.

    Raises:
        MissingExtraError: Parquet needs pyarrow.
    """
    if output == "jsonl":
        return iter(parts)
    return _csv(parts, layout) if output == "csv" else _parquet(parts, layout)


def _rows(part: bytes) -> Iterator[dict[str, Any]]:
    return map(orjson.loads, part.splitlines())


def _csv(parts: Iterable[bytes], layout: Layout) -> Iterator[bytes]:
    classes = layout.signature.classes if layout.probabilities else ()
    shares = [f"probability_{name}" for name in classes] or ["probabilities"] * layout.probabilities
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("row", *layout.keep, "prediction", *shares, "error"))
    for part in parts:
        for row in _rows(part):
            given = row.get("probabilities")
            spread = (given or [None] * len(shares)) if classes else [given] * len(shares)
            cells = [row[name] for name in ("row", *layout.keep)]
            writer.writerow(map(_cell, (*cells, row.get("prediction"), *spread, row.get("error"))))
        yield text.getvalue().encode()
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
    yield text.getvalue().encode()


def _cell(value: object) -> object:
    return orjson.dumps(value).decode() if isinstance(value, bool | list | dict) else value


def _parquet(parts: Iterable[bytes], layout: Layout) -> Iterator[bytes]:
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    schema = _schema(arrow, layout)
    sink = _Sink()
    with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        for part in parts:
            rows = [_texts(row, layout.keep) for row in _rows(part)]
            writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
            yield sink.taken()
    yield sink.taken()


def _texts(row: dict[str, Any], keep: tuple[str, ...]) -> dict[str, Any]:
    """Make text of what is kept: a Parquet column has one type, and a column of ids may begin with anything."""
    kept = {name: row[name] if row[name] is None else str(_cell(row[name])) for name in keep}
    return {**row, **kept}


def _schema(arrow: Any, layout: Layout) -> Any:
    spec = layout.signature.output(layout.label)
    prediction = arrow.string() if spec.datatype == "BYTES" else _number(arrow, spec.datatype)
    for _ in spec.shape[1:]:
        prediction = arrow.list_(prediction)
    fields = [("row", arrow.int64()), *((name, arrow.string()) for name in layout.keep), ("prediction", prediction)]
    if layout.probabilities:
        fields.append(("probabilities", arrow.list_(arrow.float64())))
    return arrow.schema([*fields, ("error", arrow.string())])


def _number(arrow: Any, datatype: str) -> Any:
    if datatype == "BOOL":
        return arrow.bool_()
    # half and single precision were written as the shortest decimals, which only double precision keeps
    return arrow.float64() if datatype.startswith("FP") else getattr(arrow, datatype.lower())()


class _Sink(io.RawIOBase):
    """A file that is written once, from front to back, and taken away piece by piece."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._written += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._written

    def taken(self) -> bytes:
        """Return what was written since it was last asked."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)

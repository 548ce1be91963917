"""Raw events of one experiment as a Parquet file (extra `arrow`), written as they are read: memory does not grow."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, exists, or_, select

from crossfade.errors import MissingExtraError
from crossfade.ledger.gaps import incomplete
from crossfade.storage.database import Database
from crossfade.storage.tables import exposures, outcomes

ROWS = 10_000
"""Read and written at a time."""


class Exported(msgspec.Struct, frozen=True):
    """What an export wrote.

    Args:
        exposures: How many.
        outcomes: How many.
        incomplete: Why events are missing that there have been.
    """

    exposures: int
    outcomes: int
    incomplete: tuple[str, ...] = ()


def export_events(database: Database, experiment: str, target: Path) -> Exported:
    """Write the exposures of an experiment and the outcomes that belong to them, as one consistent state.

    One row is one event; `kind` is `exposure` or `outcome`, and columns of the other kind are null. `at` is a timestamp
    in UTC; `dimensions`, `context` and `shadows` are JSON. The file appears under its name when it is complete.

    Raises:
        MissingExtraError: pyarrow is not installed.
        DatabaseUnavailableError: The database does not answer.

    Example:
        >>> export_events(database, "late", Path("late.parquet")).exposures  # doctest: +SKIP
        1000
    """
    schema = _schema(arrow_package())
    counts = {"exposure": 0, "outcome": 0}

    def batches(connection: Connection) -> Iterator[list[dict[str, Any]]]:
        for kind, rows in _pages(connection, experiment):
            counts[kind] += len(rows)
            yield [{"kind": kind, **row} for row in rows]

    with database.read() as connection:
        write_parquet(target, schema, batches(connection))
        missing = incomplete(connection, experiment)
    return Exported(counts["exposure"], counts["outcome"], missing)


def write_parquet(target: Path, schema: Any, batches: Iterable[list[dict[str, Any]]]) -> None:
    """Write rows to a file that appears under its name when it is complete, and durable."""
    arrow, parquet = arrow_package(), import_module("pyarrow.parquet")
    beside = target.with_name(f"{target.name}.part")
    try:
        with beside.open("wb") as file:
            with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
                for rows in batches:
                    writer.write_batch(arrow.RecordBatch.from_pylist(rows, schema))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def _pages(connection: Connection, experiment: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    decided = exists().where((exposures.c.id == outcomes.c.decision) & (exposures.c.experiment == experiment))
    queries: tuple[tuple[str, Select[Any]], ...] = (
        ("exposure", select(exposures).where(exposures.c.experiment == experiment).order_by(exposures.c.id)),
        ("outcome", select(outcomes).where(or_(outcomes.c.experiment == experiment, decided)).order_by(outcomes.c.id)),
    )
    for kind, query in queries:
        with connection.execute(query, execution_options={"yield_per": ROWS}) as found:
            for page in found.mappings().partitions():
                yield kind, [{"at": row["at_us"], **row} for row in page]


def _schema(arrow: Any) -> Any:
    text, number = arrow.string(), arrow.float64()
    return arrow.schema(
        [
            ("kind", text),
            ("id", text),
            ("at", arrow.timestamp("us", tz="UTC")),
            ("experiment", text),
            ("revision", arrow.int64()),
            ("variant", text),
            ("unit", text),
            ("propensity", number),
            ("model", text),
            ("version", text),
            ("score", number),
            ("latency_seconds", number),
            ("error", arrow.bool_()),
            ("fallback", arrow.bool_()),
            ("dimensions", text),
            ("context", text),
            ("shadows", text),
            ("name", text),
            ("value", number),
            ("decision", text),
        ]
    )


def arrow_package() -> Any:
    """Return pyarrow.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return import_module("pyarrow")
    except ModuleNotFoundError as error:
        raise MissingExtraError(feature="an export", package="pyarrow", extra="arrow") from error

"""The cells of roll-ups in their table: rows of units are taken out and put in without counting everybody again.

What is taken out of a sum takes digits with it: after a unit with 1e12 has left, nothing that it covered is right. So
each cell remembers how large its sums of squares have been; when next to nothing is left of that, the caller is told to
count the cell again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, and_, delete, or_, select

from crossfade.ledger.changes import CellKey, Change
from crossfade.ledger.plan import MetricPlan
from crossfade.ledger.raw import chunks
from crossfade.methods.stats.distributions import Array
from crossfade.methods.stats.moments import Moments
from crossfade.methods.stats.sketch import Sketch
from crossfade.storage.tables import rollups
from crossfade.storage.upsert import upsert

_LOST = 1e-6
"""Share of the largest sum of squares below which too many digits have been lost."""
_NOISE = 1e-24
"""Sums of squares below this share of the squared means are nothing but rounding, whatever was taken out."""
_KEY = CellKey._fields


@dataclass(frozen=True, eq=False)
class StoredCells:
    """Cells of one metric, as they are stored.

    Args:
        moments: Of each.
        peaks: The largest that each column's m2 has been since the cell was counted, `(cells, columns)`.
        sketches: Of each.
    """

    moments: Moments
    peaks: Array
    sketches: list[Sketch]


def apply(
    connection: Connection, experiment: str, metric: MetricPlan, keys: Sequence[CellKey], made: Change
) -> list[CellKey]:
    """Change the cells of one metric.

    Args:
        connection: From `Database.write`.
        experiment: Its name.
        metric: Which.
        keys: Of all cells, by number.
        made: What changes.

    Returns:
        Cells that have lost too many digits.
    """
    touched = np.flatnonzero(made.touched)
    cells = [keys[number] for number in touched.tolist()]
    old = _read(connection, experiment, metric, cells)
    removed, added = _pick(made.removed, touched), _pick(made.added, touched)
    moments = old.moments.subtract(removed).merge(added)
    left = np.einsum("...ii->...i", moments.m2)
    peaks = np.maximum.reduce([old.peaks, np.einsum("...ii->...i", old.moments.m2), left])
    sketches = _changed(old.sketches, made, touched)
    _write(connection, experiment, metric, cells, StoredCells(moments, peaks, sketches))
    noise = _NOISE * moments.n[:, None] * moments.mean**2
    lost = ((left < _LOST * peaks) & (peaks > noise)).any(axis=1) & (moments.n > 0) & (removed.n > 0)
    return [cell for cell, is_lost in zip(cells, lost.tolist(), strict=True) if is_lost]


def recounted(
    connection: Connection, experiment: str, metric: MetricPlan, keys: Sequence[CellKey], exact: Moments
) -> None:
    """Replace the moments of cells by those that were counted again; their sketches stay."""
    old = _read(connection, experiment, metric, keys)
    peaks = np.einsum("...ii->...i", exact.m2)
    _write(connection, experiment, metric, keys, StoredCells(exact, peaks, old.sketches))


def values_of(connection: Connection, experiment: str, metric: MetricPlan, dimension: str) -> Sketch:
    """Return the sketch of all cells of a dimension together."""
    where = (rollups.c.metric == metric.spec.name) & (rollups.c.dimension == dimension)
    query = select(rollups.c.sketch).where(rollups.c.experiment == experiment, where)
    total = Sketch.of([])
    for blob in connection.execute(query).scalars():
        total = total.merge(decoded_sketch(blob))
    return total


def forget_cells(connection: Connection, experiment: str) -> None:
    """Forget all cells of an experiment."""
    connection.execute(delete(rollups).where(rollups.c.experiment == experiment))


def decoded_sketch(blob: bytes) -> Sketch:
    """Read a stored sketch."""
    keys, counts = np.frombuffer(blob, dtype="<i8").astype(np.int64).reshape(2, -1)
    return Sketch(keys, counts)


def decoded_moments(rows: Sequence[Row[Any]], columns: int) -> Moments:
    """Read the stored moments of rows that have `n`, `mean` and `m2`."""
    n = np.array([row.n for row in rows], dtype=np.int64)
    mean = np.frombuffer(b"".join(row.mean for row in rows), dtype="<f8").reshape(-1, columns)
    m2 = np.frombuffer(b"".join(row.m2 for row in rows), dtype="<f8").reshape(-1, columns, columns)
    return Moments(n, mean, m2)


def _read(connection: Connection, experiment: str, metric: MetricPlan, keys: Sequence[CellKey]) -> StoredCells:
    places = {key: place for place, key in enumerate(keys)}
    found = [row for row in _rows(connection, experiment, metric.spec.name, keys) if _key(row) in places]
    at = [places[_key(row)] for row in found]
    moments = Moments.empty(metric.columns, (len(keys),))
    peaks = np.zeros((len(keys), metric.columns))
    sketches = [Sketch.of([])] * len(keys)
    if found:
        stored = decoded_moments(found, metric.columns)
        moments.n[at], moments.mean[at], moments.m2[at] = stored.n, stored.mean, stored.m2
        peaks[at] = np.frombuffer(b"".join(row.peak for row in found), dtype="<f8").reshape(-1, metric.columns)
        for place, row in zip(at, found, strict=True):
            sketches[place] = decoded_sketch(row.sketch)
    return StoredCells(moments, peaks, sketches)


def _rows(connection: Connection, experiment: str, metric: str, keys: Iterable[CellKey]) -> list[Row[Any]]:
    """Return the rows of cells: by where units came in and what they are, so that each is one step into the index."""
    dimensions: dict[tuple[Any, ...], list[str]] = {}
    for key in keys:
        dimensions.setdefault(key[:4], []).append(key.value)
    rows: list[Row[Any]] = []
    for chunk in chunks(dimensions.items(), 50):
        parts = [
            and_(
                *(rollups.c[name] == part for name, part in zip(_KEY[:4], prefix, strict=True)),
                rollups.c.value.in_(values),
            )
            for prefix, values in chunk
        ]
        where = (rollups.c.experiment == experiment) & (rollups.c.metric == metric)
        rows += connection.execute(select(rollups).where(where, or_(*parts))).all()
    return rows


def _key(row: Row[Any]) -> CellKey:
    return CellKey(row.revision, row.variant, row.day, row.dimension, row.value)


def _write(
    connection: Connection, experiment: str, metric: MetricPlan, keys: Sequence[CellKey], cells: StoredCells
) -> None:
    rows, empty = [], []
    for place, key in enumerate(keys):
        sketch = cells.sketches[place]
        row = {**key._asdict(), "experiment": experiment, "metric": metric.spec.name}
        if not cells.moments.n[place] and not sketch.n:
            empty.append(row)
            continue
        row |= {
            "n": int(cells.moments.n[place]),
            "sketch": np.stack([sketch.keys, sketch.counts]).astype("<i8").tobytes(),
        }
        row |= {"mean": _bytes(cells.moments.mean[place]), "m2": _bytes(cells.moments.m2[place])}
        rows.append(row | {"peak": _bytes(cells.peaks[place])})
    upsert(connection, rollups, rows)
    for row in empty:
        where = and_(*(rollups.c[name] == value for name, value in row.items()))
        connection.execute(delete(rollups).where(where))


def _bytes(array: Array) -> bytes:
    return array.astype("<f8").tobytes()


def _pick(moments: Moments, places: NDArray[np.int64]) -> Moments:
    return Moments(moments.n[places], moments.mean[places], moments.m2[places])


def _changed(sketches: list[Sketch], made: Change, touched: NDArray[np.int64]) -> list[Sketch]:
    """Return the sketches with what has come and without what has gone."""
    starts = np.searchsorted(made.values.units, touched, side="left").tolist()
    ends = np.searchsorted(made.values.units, touched, side="right").tolist()
    changed = []
    for sketch, start, end in zip(sketches, starts, ends, strict=True):
        if start != end:
            merged = sketch.merge(Sketch(made.values.codes[start:end], made.values.counts[start:end]))
            sketch = Sketch(merged.keys[merged.counts != 0], merged.counts[merged.counts != 0])  # noqa: PLW2901
        changed.append(sketch)
    return changed

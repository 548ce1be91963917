"""Reading evidence: what an analysis needs of an experiment, from roll-ups alone, however many events there were."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, select

from crossfade.errors import ExperimentNotFoundError
from crossfade.ledger.arrivals import read_arrivals
from crossfade.ledger.cells import decoded_moments, decoded_sketch
from crossfade.ledger.counts import REFUSED, read_counts
from crossfade.ledger.evidence import Cell, Evidence
from crossfade.ledger.gaps import lost_and_awaited
from crossfade.ledger.measured import Measured, load
from crossfade.ledger.waiting import count_unplaced, count_waiting
from crossfade.methods.stats.sketch import Sketch
from crossfade.storage.database import Database
from crossfade.storage.tables import rollups


def read_evidence(source: Database | Connection, experiment: str, until_us: int | None = None) -> Evidence:
    """Return everything that an analysis of one experiment reads.

    Args:
        source: The database, or a connection within a transaction.
        experiment: Its name.
        until_us: When it ended, if it has: events that went missing later are not its own.

    Raises:
        ExperimentNotFoundError: Nothing is declared to be measured of it.
        DatabaseUnavailableError: The database does not answer.

    Example:
        >>> read_evidence(database, "flights").exposures  # doctest: +SKIP
        327346
    """
    if not isinstance(source, Connection):
        with source.read() as connection:
            return read_evidence(connection, experiment, until_us)
    measured = load(source, [experiment]).get(experiment)
    if measured is None:
        raise ExperimentNotFoundError(name=experiment)
    counts = read_counts(source, experiment)
    lost, awaited = lost_and_awaited(source, experiment, measured.first_us or 0, time.time_ns() // 1000, until_us)
    unplaced = count_unplaced(source, measured.plan.used, measured.first_us or 0)
    refused = {name.removeprefix(REFUSED): count for name, count in counts.items() if name.startswith(REFUSED)}
    return Evidence(
        experiment=experiment,
        cells=_cells(source, measured),
        arrivals=read_arrivals(source, experiment),
        multiple=counts.get("multiple", 0),
        exposures=counts.get("exposures", 0),
        outcomes=counts.get("outcomes", 0),
        early=counts.get("early", 0),
        orphans=count_waiting(source, experiment) + unplaced,
        unplaced=unplaced,
        refused=tuple(sorted(refused.items())),
        incomplete=lost,
        awaited=awaited,
        first_us=measured.first_us,
        last_us=measured.last_us,
    )


def _cells(connection: Connection, measured: Measured) -> tuple[Cell, ...]:
    metrics = {metric.spec.name: metric for metric in measured.plan.metrics}
    columns = [column for column in rollups.columns if column.name not in {"experiment", "peak"}]
    query = select(*columns).where(rollups.c.experiment == measured.experiment).order_by(rollups.c.metric)
    cells: list[Cell] = []
    for name, group in groupby(connection.execute(query), key=lambda row: row.metric):
        metric, rows = metrics[name], list(group)
        bucket = measured.cut(metric.number)
        cut = None if bucket is None else Sketch.right_edge(bucket)
        cells += _decoded(rows, metric.columns, cut, quantile=metric.spec.kind == "quantile")
    return tuple(sorted(cells, key=_order))


def _decoded(rows: Sequence[Row[Any]], columns: int, cut: float | None, *, quantile: bool) -> list[Cell]:
    moments = decoded_moments(rows, columns)
    return [
        Cell(
            revision=row.revision,
            variant=row.variant,
            day=row.day,
            dimension=row.dimension,
            value=row.value,
            metric=row.metric,
            moments=moments[place],
            sketch=decoded_sketch(row.sketch) if quantile else None,
            cut=cut,
        )
        for place, row in enumerate(rows)
    ]


def _order(cell: Cell) -> tuple[int, str, str, str, str, str]:
    return cell.revision, cell.day, cell.variant, cell.dimension, cell.value, cell.metric

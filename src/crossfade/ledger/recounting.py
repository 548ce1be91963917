"""Counting cells again from their units: where digits were lost, or the cut of a quantile has just been found."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from sqlalchemy import Connection, false, true

from crossfade.ledger.cells import recounted, values_of
from crossfade.ledger.changes import Base, CellKey, CellNumbers, grouped
from crossfade.ledger.evidence import EVERYBODY
from crossfade.ledger.measured import Measured
from crossfade.ledger.plan import MetricPlan
from crossfade.ledger.units import DAY_US, scan_units
from crossfade.methods.stats.moments import Moments
from crossfade.storage.tables import units

FIRST_VALUES = 400
"""Values over all variants from which a cut is found: fewer do not enclose a 99 % quantile."""


def recount(connection: Connection, measured: Measured, metric: MetricPlan, bases: Iterable[Base]) -> None:
    """Count the cells of one metric again, of all units that came in there.

    Args:
        connection: From `Database.write`.
        measured: The experiment; its units are written already.
        metric: Which.
        bases: Which units.
    """
    for base in bases:
        start = int(np.datetime64(base.day, "us").astype(np.int64))
        came = (units.c.first_us >= start) & (units.c.first_us < start + DAY_US)
        _recount(
            connection, measured, metric, (units.c.variant == base.variant) & (units.c.revision == base.revision) & came
        )


def find_cut(connection: Connection, measured: Measured, metric: MetricPlan) -> None:
    """Fix the cut of a quantile once there are enough values, and count its units by it.

    It is the same for all variants, and never changes again: the share of values below a value that moves with the
    data would be no mean of units.
    """
    level = metric.spec.level
    if level is None or measured.cut(metric.number) is not None:
        return
    found = values_of(connection, measured.experiment, metric, EVERYBODY)
    if found.n < FIRST_VALUES:
        return
    place = int(np.searchsorted(np.cumsum(found.counts), level * found.n))
    measured.frozen.cuts[metric.spec.name] = int(found.keys[min(place, len(found.keys) - 1)])
    _recount(connection, measured, metric, true())


def _recount(connection: Connection, measured: Measured, metric: MetricPlan, where: object) -> None:
    exact: dict[CellKey, Moments] = {}
    chosen = where & (units.c.multiple == false())  # type: ignore[operator]
    for group in scan_units(connection, measured.plan, chosen):
        numbers = CellNumbers(measured.plan)
        moments = grouped(metric, measured.cut(metric.number), group, numbers)
        for number, key in enumerate(numbers.keys):
            exact[key] = exact[key].merge(moments[number]) if key in exact else moments[number]
    if exact:
        recounted(connection, measured.experiment, metric, list(exact), Moments.stack(list(exact.values())))

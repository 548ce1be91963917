"""Rolling up: new events become sums by unit, and sums of units become cells that an analysis reads at once.

What counts of a unit depends on its first exposure, and events come in any order: outcomes before exposures, and first
exposures after later ones, from another process. Whatever the order and however events are grouped, the cells end as if
all had come in order, so they may be compared with what `rebuild` makes of all raw events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from crossfade.ledger.arrivals import arrive
from crossfade.ledger.batch import Batch
from crossfade.ledger.cells import apply
from crossfade.ledger.changes import Base, Move
from crossfade.ledger.counts import Counts
from crossfade.ledger.events import Exposure, Outcome
from crossfade.ledger.joining import Joined, join
from crossfade.ledger.plan import COUNTED, EARLY
from crossfade.ledger.recounting import find_cut, recount
from crossfade.ledger.units import Units, read_units, write_units
from crossfade.ledger.waiting import wait


def fold(connection: Connection, exposures: Sequence[Exposure], outcomes: Sequence[Outcome]) -> Mapping[str, int]:
    """Roll up events, within the transaction that stores them; returns how many were refused, by reason.

    Nothing about an event is an error: one that cannot be used is counted (`Evidence.refused`), one whose exposure is
    not known yet waits for it.

    Args:
        connection: From `Database.write`, which excludes every other fold.
        exposures: New ones, each for the first and only time; they are in their table already, or come with this.
        outcomes: New ones; each event is folded once.

    Example:
        >>> with database.write() as connection:  # doctest: +SKIP
        ...     fold(connection, exposures, outcomes)
    """
    counts = Counts()
    for joined in join(connection, exposures, outcomes, counts):
        roll_up(connection, joined, counts)
    counts.write(connection)
    return counts.refusals()


def roll_up(connection: Connection, joined: Joined, counts: Counts) -> None:
    """Roll up joined events of one experiment; `counts` gets what becomes of them."""
    measured = joined.measured
    plan, experiment = measured.plan, measured.experiment
    before = read_units(connection, plan, joined.units)
    batch = Batch(measured, before, joined)
    wait(connection, batch.early)
    batch.count(counts)
    after = batch.after()
    changed = _differ(before, after)
    write_units(connection, experiment, after, np.flatnonzero(changed).tolist())
    move = Move(plan, before, after)
    arrive(connection, experiment, move.arrivals(), batch.weights)
    lost: dict[int, set[Base]] = {}
    for metric in plan.metrics:
        cells = apply(connection, experiment, metric, move.keys, move.of(metric, measured.cut(metric.number)))
        lost[metric.number] = {cell.base for cell in cells}
    for metric in plan.metrics:
        recount(connection, measured, metric, sorted(lost[metric.number]))
        find_cut(connection, measured, metric)
    counts.add(experiment, "outcomes", int((after.state[:, COUNTED] - before.state[:, COUNTED]).sum()))
    counts.add(experiment, "early", int((after.state[:, EARLY] - before.state[:, EARLY]).sum()))
    counts.add(experiment, "multiple", int(after.multiple.sum() - before.multiple.sum()))
    measured.save(connection)


def _differ(before: Units, after: Units) -> NDArray[np.bool_]:
    """Tell which units have to be written."""
    state = ~((before.state == after.state) | (np.isnan(before.state) & np.isnan(after.state))).all(axis=1)
    changed = (
        state | (before.known != after.known) | (before.multiple != after.multiple) | (before.first != after.first)
    )
    changed |= np.array(
        [old != new for old, new in zip(before.decisions, after.decisions, strict=True)], dtype=np.bool_
    )
    changed[after.buckets.minus(before.buckets).units] = True
    old = zip(before.kept_exposures, before.kept_outcomes, strict=True)
    new = zip(after.kept_exposures, after.kept_outcomes, strict=True)
    changed |= np.array([one != other for one, other in zip(old, new, strict=True)], dtype=np.bool_)
    return np.asarray(changed)

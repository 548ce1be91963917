"""Declaring what is measured of an experiment, and rolling all of its raw events up anew."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, select

from crossfade.errors import EventsGoneError, ExperimentNotFoundError
from crossfade.ledger.arrivals import forget_arrivals
from crossfade.ledger.cells import forget_cells
from crossfade.ledger.counts import Counts, forget_counts, read_counts
from crossfade.ledger.joining import Joined
from crossfade.ledger.measured import Frozen, load
from crossfade.ledger.metrics import Measures
from crossfade.ledger.raw import all_exposures, count_exposures, outcomes_of_decisions, outcomes_of_units
from crossfade.ledger.rollups import roll_up
from crossfade.ledger.units import forget_units
from crossfade.ledger.waiting import forget_waiting
from crossfade.storage.tables import measures as declared
from crossfade.storage.upsert import upsert


def declare(connection: Connection, measures: Measures) -> None:
    """Say what is measured of an experiment, from now on and of all events that there have been.

    Args:
        connection: From `Database.write`.
        measures: All of it; what was declared before and is not in it is not measured any more.

    Raises:
        InvalidMetricError: A metric makes no sense.
        InvalidMeasuresError: It makes no sense as a whole.
        EventsGoneError: It differs from what was declared before, and not all events are kept any more.

    Example:
        >>> with database.write() as connection:  # doctest: +SKIP
        ...     declare(connection, Measures("flights", "champion", (MetricSpec("late", kind="proportion"),)))
    """
    measures = measures.checked()
    body = msgspec.json.encode(measures).decode()
    found = connection.execute(
        select(declared.c.body, declared.c.frozen).where(declared.c.experiment == measures.experiment)
    ).first()
    if found is not None and found.body == body:
        return
    old = msgspec.json.decode(found.body, type=Measures).metrics if found is not None else ()
    frozen = msgspec.json.decode(found.frozen, type=Frozen) if found is not None else Frozen()
    same = {metric.name for metric in measures.metrics if metric in old}
    frozen.cuts = {name: cut for name, cut in frozen.cuts.items() if name in same}
    text = msgspec.json.encode(frozen).decode()
    row = {"experiment": measures.experiment, "body": body, "frozen": text, "first_us": None, "last_us": None}
    upsert(connection, declared, [row])
    rebuild(connection, measures.experiment)


def rebuild(connection: Connection, experiment: str) -> None:
    """Roll up all raw events of an experiment anew; cuts and values of dimensions stay as they were fixed.

    Args:
        connection: From `Database.write`.
        experiment: Its name.

    Raises:
        ExperimentNotFoundError: Nothing is declared to be measured of it.
        EventsGoneError: Not all of its events are kept any more. Nothing has been changed.
    """
    measured = load(connection, [experiment]).get(experiment)
    if measured is None:
        raise ExperimentNotFoundError(name=experiment)
    counted, kept = read_counts(connection, experiment).get("exposures", 0), count_exposures(connection, experiment)
    if kept < counted:
        raise EventsGoneError(experiment=experiment, counted=counted, kept=kept)
    for forget in (forget_units, forget_cells, forget_arrivals, forget_counts, forget_waiting):
        forget(connection, experiment)
    measured.first_us = measured.last_us = None
    counts = Counts()
    for shown in all_exposures(connection, experiment):
        joined, decided = Joined(measured), {event.id: event for event in shown}
        for exposure in shown:
            joined.admit_exposure(exposure, counts)
        for outcome in outcomes_of_decisions(connection, decided):
            joined.admit_outcome(outcome, decided[outcome.decision], counts)
        roll_up(connection, joined, counts)
    for found in outcomes_of_units(connection, experiment):
        joined = Joined(measured)
        for outcome in found:
            joined.admit_outcome(outcome, None, counts)
        roll_up(connection, joined, counts)
    counts.write(connection)

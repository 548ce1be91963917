"""Outcomes that wait for their exposure: it is shipped by another process, or comes days later, or never."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from sqlalchemy import ColumnElement, Connection, Row, delete, func, select

from crossfade.ledger.counts import NOBODY, Counts
from crossfade.ledger.events import Exposure, Outcome
from crossfade.ledger.raw import chunks
from crossfade.storage.tables import waiting_outcomes
from crossfade.storage.upsert import upsert

_NO_EXPERIMENT = ""
"""Of those that wait for a decision: nobody knows yet which experiment it was made in."""


def wait(connection: Connection, outcomes: Iterable[Outcome]) -> None:
    """Keep outcomes until their decision, or their unit's first exposure, is known."""
    rows = [
        {
            "id": event.id,
            "experiment": _NO_EXPERIMENT if event.decision else event.experiment,
            "subject": event.decision or event.unit,
            "at_us": event.at_us,
            "name": event.name,
            "value": event.value,
        }
        for event in outcomes
    ]
    upsert(connection, waiting_outcomes, rows)


def waited_for(connection: Connection, exposures: Sequence[Exposure]) -> list[Outcome]:
    """Return the outcomes that have waited for these exposures; they wait no longer."""
    if connection.execute(select(waiting_outcomes.c.id).limit(1)).first() is None:
        return []
    units: dict[str, set[str]] = {}
    for event in exposures:
        units.setdefault(event.experiment, set()).add(event.unit)
    found = [*_about(connection, _NO_EXPERIMENT, {event.id for event in exposures})]
    for experiment, names in units.items():
        found += _about(connection, experiment, names)
    for chunk in chunks(row.id for row in found):
        connection.execute(delete(waiting_outcomes).where(waiting_outcomes.c.id.in_(chunk)))
    return [_outcome(row) for row in found]


def count_waiting(connection: Connection, experiment: str) -> int:
    """Return how many outcomes wait for units of an experiment."""
    return _count(connection, waiting_outcomes.c.experiment == experiment)


def count_unplaced(connection: Connection, names: Collection[str], since_us: int) -> int:
    """Return how many outcomes wait for a decision that may have been made in an experiment.

    Args:
        connection: To the database.
        names: Of the outcomes that the experiment uses.
        since_us: Its first exposure: what happened before is about no decision of it.
    """
    decided = waiting_outcomes.c.experiment == _NO_EXPERIMENT
    return _count(connection, decided & waiting_outcomes.c.name.in_(names) & (waiting_outcomes.c.at_us >= since_us))


def forget_waiting(connection: Connection, experiment: str) -> None:
    """Let go of all outcomes that wait for units of an experiment."""
    connection.execute(delete(waiting_outcomes).where(waiting_outcomes.c.experiment == experiment))


def let_go(connection: Connection, before_us: int) -> int:
    """Let go of outcomes that happened before then, and count them as `expired`; return how many.

    Args:
        connection: From `Database.write`.
        before_us: The retention: how long an outcome may wait.
    """
    old = waiting_outcomes.c.at_us < before_us
    experiment = waiting_outcomes.c.experiment
    counts, total = Counts(), 0
    for name, count in connection.execute(select(experiment, func.count()).where(old).group_by(experiment)):
        counts.refuse(name or NOBODY, "expired", count)
        total += count
    counts.write(connection)
    connection.execute(delete(waiting_outcomes).where(old))
    return total


def _count(connection: Connection, where: ColumnElement[bool]) -> int:
    return int(connection.execute(select(func.count()).where(where)).scalar_one())


def _about(connection: Connection, experiment: str, subjects: Iterable[str]) -> list[Row[tuple[str, ...]]]:
    rows: list[Row[tuple[str, ...]]] = []
    for chunk in chunks(sorted(subjects)):
        wanted = (waiting_outcomes.c.experiment == experiment) & waiting_outcomes.c.subject.in_(chunk)
        rows += connection.execute(select(waiting_outcomes).where(wanted)).all()
    return rows


def _outcome(row: Row[tuple[str, ...]]) -> Outcome:
    decision, unit = ("", row.subject) if row.experiment else (row.subject, "")
    return Outcome(row.id, row.at_us, row.name, row.value, decision, row.experiment, unit)

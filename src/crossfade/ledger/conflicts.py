"""Conflicts: outcomes that have the id of another one and say something else; they do not count, and it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from crossfade.ledger.counts import CONFLICTING_ID, NOBODY, Counts
from crossfade.ledger.events import Outcome
from crossfade.ledger.measured import load
from crossfade.ledger.raw import exposures_by_id, outcomes_by_id


def refuse_conflicts(connection: Connection, given: Sequence[Outcome], new: Sequence[Outcome]) -> Mapping[str, int]:
    """Count the outcomes that were not stored though they are no repetition; returns how many there are, by reason.

    They are counted for the experiment that lacks them, within the transaction that would have stored them.

    Args:
        connection: From `Database.write`.
        given: All that were to be stored.
        new: Those that were.
    """
    counts = Counts()
    if len(new) < len(given):
        stored = {each.id: each for each in new}
        stored |= outcomes_by_id(connection, {each.id for each in given} - stored.keys())
        # one that cannot be seen, as it comes from elsewhere at this moment, must not hold up all others
        lost = [each for each in given if not _is_repetition(each, stored.get(each.id, each))]
        for experiment in _experiments(connection, lost):
            counts.refuse(experiment, CONFLICTING_ID)
        counts.write(connection)
    return counts.refusals()


def _is_repetition(one: Outcome, other: Outcome) -> bool:
    """Tell whether two outcomes say the same; who leaves the time out and sends again says another time."""
    return (one.name, one.value, one.decision, one.experiment, one.unit) == (
        other.name,
        other.value,
        other.decision,
        other.experiment,
        other.unit,
    )


def _experiments(connection: Connection, outcomes: Sequence[Outcome]) -> list[str]:
    """Return the experiment of each outcome, as far as it is measured and known."""
    decided = exposures_by_id(connection, {each.decision for each in outcomes if each.decision})
    names = [decided[each.decision].experiment if each.decision in decided else each.experiment for each in outcomes]
    measured = load(connection, set(names))
    return [name if name in measured else NOBODY for name in names]

"""Gaps: events that there have been and that are missing, so that no analysis takes what is left for everything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, delete, or_, select

from crossfade.ledger.store import silent_journals
from crossfade.storage.tables import ledger_gaps

EVERY = ""
"""In the place of an experiment: any that ran between the two times of the gap."""

QUIET_US = 180_000_000
"""A process says every minute that its journal is read; one that was not heard of for three of them may be behind."""

Reason = Literal["dropped", "unusable", "crash", "damage", "unreachable"]

_WORDS: dict[str, str] = {
    "dropped": "could not be written: the disk was too slow or full, or they held what cannot be kept",
    "unusable": "could not be stored because of what they held",
    "crash": "were lost when a process ended without warning",
    "damage": "were lost because files of the ledger were damaged or deleted",
    "unreachable": "are on a machine that has not been heard of",
}


@dataclass(frozen=True)
class Gap:
    """Events of one experiment that are missing from one journal.

    Args:
        experiment: Which, or `EVERY`.
        reason: What became of them.
        count: How many; None when nobody can know.
    """

    experiment: str
    reason: Reason
    count: int | None


def note_gaps(connection: Connection, journal: str, gaps: Iterable[Gap], first_us: int, last_us: int) -> None:
    """Store what is missing from a journal; noting it again, with a later time or a larger count, replaces it."""
    for gap in gaps:
        mine = (
            (ledger_gaps.c.experiment == gap.experiment)
            & (ledger_gaps.c.reason == gap.reason)
            & (ledger_gaps.c.journal == journal)
        )
        values = {"count": gap.count, "last_us": last_us}
        if not connection.execute(ledger_gaps.update().where(mine).values(values)).rowcount:
            key = {"experiment": gap.experiment, "reason": gap.reason, "journal": journal, "first_us": first_us}
            connection.execute(ledger_gaps.insert().values(key | values))


def close_gap(connection: Connection, journal: str, reason: Reason) -> None:
    """Take a reason back that has turned out not to be true."""
    found = (ledger_gaps.c.journal == journal) & (ledger_gaps.c.reason == reason)
    connection.execute(delete(ledger_gaps).where(found))


def find_gaps(connection: Connection, experiment: str, since_us: int = 0, until_us: int | None = None) -> list[Gap]:
    """Return what is missing of an experiment, by reason.

    Args:
        connection: To the database.
        experiment: Its name.
        since_us: When it started; gaps that ended before do not concern it.
        until_us: When it ended, if it has.
    """
    overlaps: Any = ledger_gaps.c.last_us >= since_us
    if until_us is not None:
        overlaps &= ledger_gaps.c.first_us <= until_us
    concerned = or_(ledger_gaps.c.experiment == experiment, ledger_gaps.c.experiment == EVERY)
    columns = (ledger_gaps.c.experiment, ledger_gaps.c.reason, ledger_gaps.c.count)
    found: dict[tuple[str, Reason], int | None] = {}
    for name, reason, count in connection.execute(select(*columns).where(concerned & overlaps)):
        before = found.get((name, reason), 0)
        found[name, reason] = None if before is None or count is None else before + count
    return [Gap(name, reason, count) for (name, reason), count in sorted(found.items())]


def incomplete(
    connection: Connection, experiment: str, since_us: int = 0, until_us: int | None = None
) -> tuple[str, ...]:
    """Say in sentences why events of an experiment are missing; empty when none are.

    Example:
        >>> incomplete(connection, "late")  # doctest: +SKIP
        ('17 exposures were lost when a process ended without warning',)
    """
    return tuple(_sentence(gap) for gap in find_gaps(connection, experiment, since_us, until_us))


def lost_and_awaited(
    connection: Connection, experiment: str, since_us: int, now_us: int, until_us: int | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Say why events of an experiment are missing for good, and why some may still be on their way.

    Args:
        connection: To the database.
        experiment: Its name.
        since_us: When it started.
        now_us: The present time.
        until_us: When it ended, if it has: nobody was exposed to it later.
    """
    gaps = find_gaps(connection, experiment, since_us, until_us)
    lost = tuple(_sentence(gap) for gap in gaps if gap.reason != "unreachable")
    awaited = [_sentence(gap) for gap in gaps if gap.reason == "unreachable"]
    # whoever has not been heard of since it started has never heard of it
    silent = [at for _, at, done in silent_journals(connection, now_us - QUIET_US) if not done and at >= since_us]
    if silent and not awaited:
        minutes = (now_us - min(silent)) // 60_000_000
        who = "a serving process has" if len(silent) == 1 else f"{len(silent)} serving processes have"
        awaited.append(f"{who} not been heard of for {minutes:,} minutes")
    return lost, tuple(awaited)


def _sentence(gap: Gap) -> str:
    events = "events" if gap.experiment == EVERY or gap.count is None else "exposures"
    who = f"{'an unknown number of' if gap.count is None else gap.count} {events}"
    perhaps = " (of any experiment at that time)" if gap.experiment == EVERY else ""
    return f"{who} {_WORDS.get(gap.reason, gap.reason)}{perhaps}"

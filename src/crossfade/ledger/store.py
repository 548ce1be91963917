"""Raw events in the database, and how far each journal has been shipped: all inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TypeVar

import msgspec
from sqlalchemy import Connection, delete, select

from crossfade.ledger.events import Exposure, Outcome
from crossfade.storage.bulk import insert_new
from crossfade.storage.tables import exposures, ledger_journals, outcomes

Event = TypeVar("Event", Exposure, Outcome)
MAX_ID = 64
MAX_NAME = 64
MAX_UNIT = 512
_LARGEST = 2**62
"""Both databases keep whole numbers of 64 bits with a sign."""


@dataclass(frozen=True)
class Place:
    """A place between two frames of a journal.

    Args:
        segment: Number of the file, 0 before the first.
        position: Bytes of it.
        frames: Number of the last frame before.
        finished: Nothing comes behind it.
    """

    segment: int = 0
    position: int = 0
    frames: int = 0
    finished: bool = False


def add_exposures(connection: Connection, events: Iterable[Exposure]) -> list[Exposure]:
    """Store exposures, and return those that are new, each once, in their order. All of them are `mended`."""
    unique = _unique(events)
    rows = [
        (
            each.id,
            each.at_us,
            each.experiment,
            each.revision,
            each.variant,
            each.unit,
            each.propensity,
            each.model,
            each.version,
            each.score,
            each.latency_seconds,
            each.error,
            each.fallback,
            _json(each.dimensions) if each.dimensions else "{}",
            _json(each.context) if each.context else "{}",
            _json(each.shadows) if each.shadows else "[]",
        )
        for each in unique
    ]
    new = insert_new(connection, exposures, rows)
    return [each for each in unique if each.id in new]


def add_outcomes(connection: Connection, events: Iterable[Outcome]) -> list[Outcome]:
    """Store outcomes, and return those that are new, each once, in their order. All of them are `sound`."""
    unique = _unique(events)
    rows = [(each.id, each.at_us, each.name, each.value, each.decision, each.experiment, each.unit) for each in unique]
    new = insert_new(connection, outcomes, rows)
    return [each for each in unique if each.id in new]


def storable(each: Exposure) -> bool:
    """Tell whether both databases can keep an exposure: one that they cannot would hold up all behind it."""
    return (
        isfinite(each.propensity)
        and isfinite(each.latency_seconds)
        and -_LARGEST < each.at_us < _LARGEST
        and -_LARGEST < each.revision < _LARGEST
        and 0 < len(each.id) <= MAX_ID
        and len(each.experiment) <= MAX_NAME
        and len(each.variant) <= MAX_NAME
        and len(each.model) <= MAX_NAME
        and len(each.version) <= MAX_NAME
        and len(each.unit) <= MAX_UNIT
        and "\0" not in each.unit
        and (each.id + each.experiment + each.variant + each.model + each.version).isprintable()
    )


def sound(each: Outcome) -> bool:
    """Tell whether both databases can keep an outcome, and whether it says what it belongs to."""
    return (
        isfinite(each.value)
        and -_LARGEST < each.at_us < _LARGEST
        and 0 < len(each.id) <= MAX_ID
        and 0 < len(each.name) <= MAX_NAME
        and (each.id + each.name + each.decision + each.experiment + each.unit).isprintable()
        and (
            (0 < len(each.decision) <= MAX_ID and not each.experiment and not each.unit)
            or (not each.decision and 0 < len(each.experiment) <= MAX_NAME and 0 < len(each.unit) <= MAX_UNIT)
        )
    )


def find_place(connection: Connection, journal: str) -> Place | None:
    """Return how far a journal has been shipped, or None when nothing is known of it."""
    stored = ledger_journals.c
    columns = (stored.segment, stored.position, stored.frames, stored.finished)
    row = connection.execute(select(*columns).where(ledger_journals.c.journal == journal)).one_or_none()
    return None if row is None else Place(*row)


def move_place(connection: Connection, journal: str, place: Place, seen_us: int) -> None:
    """Store how far a journal has been shipped."""
    values = {
        "segment": place.segment,
        "position": place.position,
        "frames": place.frames,
        "finished": place.finished,
        "seen_us": seen_us,
    }
    mine = ledger_journals.c.journal == journal
    if not connection.execute(ledger_journals.update().where(mine).values(values)).rowcount:
        connection.execute(ledger_journals.insert().values({"journal": journal} | values))


def forget_journals(connection: Connection, journals: Sequence[str]) -> None:
    """Forget journals whose files are deleted."""
    connection.execute(delete(ledger_journals).where(ledger_journals.c.journal.in_(journals)))


def silent_journals(connection: Connection, before_us: int) -> list[tuple[str, int, bool]]:
    """Return (journal, when it was seen last, whether it is finished) of those not seen since."""
    columns = (ledger_journals.c.journal, ledger_journals.c.seen_us, ledger_journals.c.finished)
    rows = connection.execute(select(*columns).where(ledger_journals.c.seen_us < before_us))
    return [(journal, seen_us, finished) for journal, seen_us, finished in rows]


def _unique(events: Iterable[Event]) -> list[Event]:
    first: dict[str, Event] = {}
    for event in events:
        first.setdefault(event.id, event)
    return list(first.values())


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()

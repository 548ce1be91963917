"""What people send to the ledger, and what they are answered."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec

from crossfade.ledger.events import Outcome

SEE_OUTCOMES = "crossfade outcomes record --help"
"""Shows what an outcome has to be."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class ReportedOutcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A value that was measured afterwards, of a decision, or of a unit in an experiment or a rollout.

    Args:
        id: Chosen by you, and of this outcome alone: the same id again is the same outcome. What says something else
            under it is refused in one batch, and later not counted, which the report of its experiment says.
        name: What was measured; metrics name it.
        value: Finite.
        happened_at: With a time zone; left out, it is now.
        decision: Which the prediction answered with; or
        experiment: whose unit it is about, or which rollout,
        unit: and which.
    """

    id: str
    name: str
    value: float = 1.0
    happened_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    decision: str = ""
    experiment: str = ""
    unit: str = ""


class RecordRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Up to 10,000 outcomes, which are recorded together or not at all."""

    outcomes: list[ReportedOutcome]


class Recorded(msgspec.Struct, frozen=True):
    """How many outcomes are durable now, those included that were so before."""

    recorded: int


def as_outcomes(reported: Iterable[ReportedOutcome], now_us: int) -> list[Outcome]:
    """Return what was reported as events.

    Example:
        >>> as_outcomes([ReportedOutcome("7", "landed_late", decision="a")], now_us=5)[0].at_us
        5
    """
    return [
        Outcome(
            each.id,
            now_us if each.happened_at is None else (each.happened_at - _EPOCH) // _MICROSECOND,
            each.name,
            each.value,
            each.decision,
            each.experiment,
            each.unit,
        )
        for each in reported
    ]

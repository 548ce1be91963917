"""Asking about flights in the order in which they were due, and learning the outcomes when they land."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from heapq import heappop, heappush

from crossfade.solutions.flights.dataset import INPUTS, Flights
from crossfade.solutions.flights.quality import Quality, measure


@dataclass(frozen=True)
class Question:
    """What is asked about one flight, when it is due to leave.

    Args:
        row: The inputs by name; missing weather is None.
        asked_at: The scheduled departure.
        landed_at: When the outcome is known; None for a flight that never arrives.
        late: The outcome.
    """

    row: dict[str, str | int | float | None]
    asked_at: datetime
    landed_at: datetime | None
    late: bool


def questions(flights: Flights, limit: int) -> list[Question]:
    """Return what is asked about the first `limit` flights, cancelled ones included, in time order."""
    frame = flights.frame.iloc[:limit]
    columns = {name: frame[name].astype("object").where(frame[name].notna(), None).tolist() for name in INPUTS}
    rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    asked = frame["scheduled_at"].dt.to_pydatetime()
    landed = frame["landed_at"].astype("object").where(frame["landed_at"].notna(), None)
    return [Question(*facts) for facts in zip(rows, asked, landed, frame["late"].tolist(), strict=True)]


class Logbook:
    """Who answered what, and what became of it. An answer is judged only once its flight has landed."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        """Version -> answers given."""
        self.never_landing = 0
        """Answers about flights that were cancelled or diverted, which nobody can judge."""
        self._in_the_air: list[tuple[datetime, int, str, float, bool]] = []
        self._judged: dict[str, list[tuple[bool, float]]] = {}

    def record(self, question: Question, version: str, probability: float) -> None:
        """Note an answer: which version gave it, and its probability of being late."""
        self.answered[version] += 1
        if question.landed_at is None:
            self.never_landing += 1
            return
        order = self.answered.total()
        heappush(self._in_the_air, (question.landed_at, order, version, probability, question.late))

    def land(self, now: datetime) -> None:
        """Learn the outcome of every flight that has landed by `now`."""
        while self._in_the_air and self._in_the_air[0][0] <= now:
            _, _, version, probability, late = heappop(self._in_the_air)
            self._judged.setdefault(version, []).append((late, probability))

    @property
    def in_the_air(self) -> int:
        """How many answers still wait for an outcome."""
        return len(self._in_the_air)

    def quality(self, version: str) -> Quality | None:
        """Measure a version on the flights that it answered and that have landed; None when there are none."""
        judged = self._judged.get(version)
        return measure(*zip(*judged, strict=True)) if judged else None

"""Asking about flights in the order in which they were due, and learning the outcomes when they land."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from heapq import heappop, heappush
from typing import Generic, Protocol, TypeVar

from crossfade.solutions.flights.dataset import INPUTS, Flights
from crossfade.solutions.flights.quality import Quality, measure


@dataclass(frozen=True)
class Question:
    """What is asked about one flight, when it is due to leave.

    Args:
        flight: Which one, `2013-12-01 UA1545 EWR`; no two are the same.
        row: The inputs by name; missing weather is None.
        asked_at: The scheduled departure.
        landed_at: When the outcome is known; None for a flight that never arrives.
        late: The outcome.
    """

    flight: str
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
    facts = zip(frame["flight"].tolist(), rows, asked, landed, frame["late"].tolist(), strict=True)
    return [Question(*each) for each in facts]


class Answer(Protocol):
    """What was answered to a question."""

    @property
    def question(self) -> Question:
        """What was asked."""

    @property
    def version(self) -> str:
        """Who answered."""

    @property
    def probability(self) -> float:
        """Of arriving late."""


A = TypeVar("A", bound=Answer)


class Logbook(Generic[A]):
    """Who answered what, and what became of it. An answer is judged only once its flight has landed."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        """Version -> answers given."""
        self.never_landing = 0
        """Answers about flights that were cancelled or diverted, which nobody can judge."""
        self._in_the_air: list[tuple[datetime, int, A]] = []
        self._judged: dict[str, list[tuple[bool, float]]] = {}

    def record(self, answer: A) -> None:
        """Note an answer."""
        self.answered[answer.version] += 1
        if answer.question.landed_at is None:
            self.never_landing += 1
            return
        heappush(self._in_the_air, (answer.question.landed_at, self.answered.total(), answer))

    def land(self, now: datetime) -> list[A]:
        """Learn the outcome of every flight that has landed by `now`; returns the answers about them."""
        landed = []
        while self._in_the_air and self._in_the_air[0][0] <= now:
            answer = heappop(self._in_the_air)[2]
            self._judged.setdefault(answer.version, []).append((answer.question.late, answer.probability))
            landed.append(answer)
        return landed

    @property
    def in_the_air(self) -> int:
        """How many answers still wait for an outcome."""
        return len(self._in_the_air)

    def quality(self, version: str) -> Quality | None:
        """Measure a version on the flights that it answered and that have landed; None when there are none."""
        judged = self._judged.get(version)
        return measure(*zip(*judged, strict=True)) if judged else None

"""What the demo measures while it runs: one snapshot of it is a `Board`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from crossfade.cli.demo.traffic import Answer, Traffic
from crossfade.solutions.flights.quality import Quality
from crossfade.solutions.flights.replay import Logbook

WINDOW_SECONDS = 2.0
"""The latest requests, over which latency is measured."""


@dataclass(frozen=True)
class Standing:
    """One version so far.

    Args:
        version: Its semver.
        answered: How many requests it answered.
        quality: On the flights among them that have landed; None while there are none.
    """

    version: str
    answered: int
    quality: Quality | None


@dataclass(frozen=True)
class Board:
    """The state of the demo at one moment.

    Args:
        clock: The scheduled departure of the latest flight that was asked about; None before the first.
        asked: Requests sent.
        errors: Requests that failed.
        p50_ms: Median latency of the latest requests.
        p99_ms: Their 99th percentile.
        answering: The version that gave the latest answer, or empty.
        standings: Every version that has answered, in the order of their names.
    """

    clock: datetime | None
    asked: int
    errors: int
    p50_ms: float
    p99_ms: float
    answering: str
    standings: tuple[Standing, ...]

    def standing(self, version: str) -> Standing:
        """Return how a version stands, also when it has answered nothing."""
        return next((item for item in self.standings if item.version == version), Standing(version, 0, None))


class Scorer:
    """Reads the traffic's answers as they come, and judges them as their flights land.

    Args:
        traffic: Where the answers are.
        on_landing: Is told about every answer whose flight has landed.
    """

    def __init__(self, traffic: Traffic, on_landing: Callable[[list[Answer]], None]) -> None:
        self.logbook: Logbook[Answer] = Logbook()
        self._traffic = traffic
        self._on_landing = on_landing
        self._read = 0

    def board(self) -> Board:
        """Return the state of now."""
        answers = self._traffic.answers
        fresh = answers[self._read :]
        self._read += len(fresh)
        for answer in fresh:
            self.logbook.record(answer)
        clock = max((answer.question.asked_at for answer in answers[-100:]), default=None)
        if clock is not None:
            self._on_landing(self.logbook.land(clock))
        p50, p99 = latency_ms(_latest(answers), (50, 99))
        return Board(
            clock=clock,
            asked=self._traffic.asked,
            errors=len(self._traffic.failures),
            p50_ms=p50,
            p99_ms=p99,
            answering=answers[-1].version if answers else "",
            standings=tuple(
                Standing(version, count, self.logbook.quality(version))
                for version, count in sorted(self.logbook.answered.items())
            ),
        )


def latency_ms(answers: list[Answer], percentiles: tuple[int, ...]) -> tuple[float, ...]:
    """Return percentiles of the latency in milliseconds; zeros when there are no answers."""
    if not answers:
        return (0.0,) * len(percentiles)
    return tuple(float(value) for value in np.percentile([1000 * answer.seconds for answer in answers], percentiles))


def _latest(answers: list[Answer]) -> list[Answer]:
    if not answers:
        return []
    since = answers[-1].due - WINDOW_SECONDS
    recent = answers[-2000:]
    return [answer for answer in recent if answer.due >= since]

"""Telling the server how flights ended, once they have landed: the outcomes that experiments wait for."""

from __future__ import annotations

import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from crossfade.cli.demo.traffic import Answer
from crossfade.errors import CrossfadeError
from crossfade.ledger.requests import ReportedOutcome

Measurement = Callable[[Answer], float]


class Landings:
    """Reports outcomes from its own thread, as some other system of an airline would. Leaving it waits for the last.

    Args:
        record: Sends a batch of outcomes to the server.
    """

    def __init__(self, record: Callable[[Sequence[ReportedOutcome]], object]) -> None:
        self.landed: defaultdict[str, list[Answer]] = defaultdict(list)
        """Experiment -> answers it decided about whose flights have landed."""
        self.reported = 0
        self.failures: list[str] = []
        self._record = record
        self._measured: dict[str, tuple[str, Measurement]] = {}
        self._waiting: queue.SimpleQueue[list[ReportedOutcome] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._report, name="landings")

    def __enter__(self) -> Self:
        """Start reporting."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Report what is left, and stop."""
        self._waiting.put(None)
        self._thread.join()

    def measure(self, experiment: str, outcome: str, value: Measurement) -> None:
        """Report an outcome of every flight that an experiment decides about from now on.

        Args:
            experiment: Its name.
            outcome: Name of what is measured.
            value: What it is, given the answer, when the flight has landed.
        """
        self._measured[experiment] = (outcome, value)

    def land(self, answers: list[Answer]) -> None:
        """Note that the flights of these answers have landed; returns at once."""
        outcomes = []
        for answer in answers:
            decided = answer.decided
            if decided is None or not decided.decision_id or decided.name not in self._measured:
                continue
            name, value = self._measured[decided.name]
            self.landed[decided.name].append(answer)
            label = f"{answer.question.flight} {name}"  # so that reporting it again would change nothing
            outcomes.append(ReportedOutcome(label, name, value(answer), decision=decided.decision_id))
        if outcomes:
            self._waiting.put(outcomes)

    def _report(self) -> None:
        while (outcomes := self._waiting.get()) is not None:
            try:
                self._record(outcomes)
            except CrossfadeError as error:
                self.failures.append(error.message)
            else:
                self.reported += len(outcomes)

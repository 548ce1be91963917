"""The middle of the story: the champion moves while requests keep coming, and a broken version is refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from crossfade.cli.demo.screen import Screen
from crossfade.cli.demo.traffic import Answer
from crossfade.cli.demo.verdict import BROKEN, FIRST, SECOND
from crossfade.cli.demo.watch import Watch
from crossfade.client import Client
from crossfade.core.identity import CHAMPION
from crossfade.errors import CrossfadeError
from crossfade.registry.packaging import Draft
from crossfade.solutions.flights.training import NAME

FOLLOW_SECONDS = 1.0
"""After a move, how long answers of the former champion are nothing to wonder about."""


@dataclass(frozen=True)
class Reign:
    """A champion, and the span on the clock of `time.perf_counter` in which nobody else should answer."""

    version: str
    begins: float
    ends: float

    def covers(self, answer: Answer) -> bool:
        """Tell whether a request began and ended in this reign."""
        return self.begins <= answer.due and answer.due + answer.seconds <= self.ends


class Release:
    """Moves the champion step by step.

    Args:
        client: Of the server that answers.
        watch: Keeps the table moving.
        screen: Where it is told.
        watch_seconds: How long the traffic is watched after each step.
    """

    def __init__(self, client: Client, watch: Watch, screen: Screen, watch_seconds: float) -> None:
        self.swaps: list[tuple[str, float]] = []
        """Where the champion was moved, and how many seconds that took."""
        self.reigns: list[Reign] = []
        self.refusal: CrossfadeError | None = None
        """Why the broken version was not made champion."""
        self._client = client
        self._watch = watch
        self._screen = screen
        self._watch_seconds = watch_seconds

    def run(self, broken: Draft) -> None:
        """From 1.0.0 to 1.1.0, not to 1.1.1, back to 1.0.0, and to 1.1.0 again.

        Args:
            broken: What 1.1.1 is published with.
        """
        forward = f"crossfade models alias {NAME} {CHAMPION} {SECOND}"
        champion, began = FIRST, time.perf_counter()
        self._watch.during(self._watch_seconds)
        for target, title, command, move in (
            (SECOND, f"Move the champion to {SECOND} while requests keep coming", forward, self._forward),
            (FIRST, f"Roll back to {FIRST}", f"crossfade models rollback {NAME}", self._back),
            (SECOND, f"And forward to {SECOND} again", forward, self._forward),
        ):
            if target == FIRST:
                self._try_broken(broken)
            self._screen.step(title)
            self._screen.command(command)
            started = time.perf_counter()
            self.reigns.append(Reign(champion, began, started))
            self._watch.while_doing(move)
            ended = time.perf_counter()
            self.swaps.append((target, ended - started))
            self._screen.good(f"{target} answers after {1000 * (ended - started):,.0f} ms")
            self._watch.during(self._watch_seconds)
            champion, began = target, ended + FOLLOW_SECONDS
        self.reigns.append(Reign(champion, began, time.perf_counter()))

    def strays(self, answers: list[Answer]) -> tuple[str, ...]:
        """Return the versions that answered in the reign of another."""
        pairs = ((reign, answer) for reign in self.reigns for answer in answers if reign.covers(answer))
        return tuple(sorted({answer.version for reign, answer in pairs if answer.version != reign.version}))

    def _forward(self) -> object:
        return self._client.move_alias(NAME, CHAMPION, SECOND, reason="a better evaluation")

    def _back(self) -> object:
        return self._client.rollback(NAME, reason="to show the way back")

    def _try_broken(self, broken: Draft) -> None:
        """Publish the version that was packed wrongly, and try to make it champion."""
        screen = self._screen
        screen.step(f"Publish {BROKEN}, packed by mistake with the preprocessor of another training run")
        self._watch.while_doing(lambda: self._client.register_draft(NAME, broken, version=BROKEN))
        screen.say("  its files are intact and it would load, so it is registered")
        screen.command(f"crossfade models alias {NAME} {CHAMPION} {BROKEN}")
        attempt: Callable[[], object] = lambda: self._client.move_alias(NAME, CHAMPION, BROKEN, reason="just a patch")  # noqa: E731
        try:
            self._watch.while_doing(attempt)
        except CrossfadeError as error:
            self.refusal = error
            screen.bad(f"error: {error.message}")
            screen.good(f"its golden requests told; {SECOND} goes on as if nothing had happened")
        self._watch.during(self._watch_seconds / 2)

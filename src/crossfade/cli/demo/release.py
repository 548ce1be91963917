"""Act 1: the champion moves while requests keep coming, a broken version is refused, and the way back is short."""

from __future__ import annotations

import time
from collections.abc import Callable

from crossfade.cli.demo.stage import FOLLOW_SECONDS, Reign, Stage
from crossfade.cli.demo.tables import ReleaseTable
from crossfade.cli.demo.verdict import BROKEN, FIRST, SECOND
from crossfade.core.identity import CHAMPION
from crossfade.errors import CrossfadeError
from crossfade.registry.packaging import Draft
from crossfade.solutions.flights.training import NAME


class Release:
    """Moves the champion step by step.

    Args:
        stage: Where.
    """

    def __init__(self, stage: Stage) -> None:
        self.swaps: list[tuple[str, float]] = []
        """Where the champion was moved, and how many seconds that took."""
        self.reigns: list[Reign] = []
        self.refusal: CrossfadeError | None = None
        """Why the broken version was not made champion."""
        self._stage = stage
        self._client = stage.client
        self._screen = stage.screen
        self._watch = stage.watch(self.table)
        self._watch_seconds = stage.watch_seconds

    def table(self) -> ReleaseTable:
        """Return the state of now."""
        return ReleaseTable(self._stage.scorer.board(), (FIRST, SECOND))

    def run(self, broken: Draft) -> None:
        """From 1.0.0 to 1.1.0, not to 1.1.1, and back to 1.0.0.

        Args:
            broken: What 1.1.1 is published with.
        """
        forward = f"crossfade models alias {NAME} {CHAMPION} {SECOND}"
        champion, began = FIRST, time.perf_counter()
        self._screen.head(self.table())
        self._watch.during(self._watch_seconds)
        for target, title, command, move in (
            (SECOND, f"Move the champion to {SECOND} while requests keep coming", forward, self._forward),
            (FIRST, f"Roll back to {FIRST}", f"crossfade models rollback {NAME}", self._back),
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
        self._wonder()

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

    def _wonder(self) -> None:
        """Say what before and after tell, which is not much: they were other days."""
        board = self._stage.scorer.board()
        before, after = (board.standing(version).quality for version in (FIRST, SECOND))
        if before is None or after is None:
            return
        seems = "worse" if after.log_loss > before.log_loss else "better"
        self._screen.say(
            f"  {SECOND} seems {seems}: log loss {after.log_loss:.3f} after {before.log_loss:.3f}. But it answered "
            "other flights, on other days,"
        )
        self._screen.say(
            f"  of which {after.base_rate:.1%} were late instead of {before.base_rate:.1%}: before and after "
            "tell nothing about the versions."
        )

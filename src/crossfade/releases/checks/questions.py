"""`Questions`: other servers are asked on threads of their own: one that hangs keeps nobody from being attended to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, wait
from typing import NamedTuple

from crossfade.releases.checks.phase import Measurement

PATIENCE_SECONDS = 0.25
"""How long one waits for an answer before it is looked for later: most servers answer within this time."""
_KEPT_SECONDS = 60.0

Ask = Callable[[], Measurement]
"""Asks, and raises nothing."""


class _Open(NamedTuple):
    answer: Future[Measurement]
    asked_at: float


class Questions:
    """Asks, and keeps who has not answered yet. Of one thread; whoever asks ends by itself after some seconds.

    Args:
        patience_seconds: How long one waits after asking.

    Example:
        >>> from crossfade.releases.checks.phase import CheckResult
        >>> questions = Questions()
        >>> questions.answers({"gate": lambda: Measurement(CheckResult.PASS, "fine")})["gate"].reason
        'fine'
    """

    def __init__(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._open: dict[Hashable, _Open] = {}

    def answers(self, questions: Mapping[Hashable, Ask]) -> dict[Hashable, Measurement]:
        """Ask what has not been asked, and return what has been answered; each answer is returned once.

        Args:
            questions: By something that is the same while the question is. What nobody asks for within a minute
                is forgotten.
        """
        now = time.monotonic()
        self._open = {key: asked for key, asked in self._open.items() if now - asked.asked_at < _KEPT_SECONDS}
        new = {key: _Open(_begin(ask), now) for key, ask in questions.items() if key not in self._open}
        self._open |= new
        wait([asked.answer for asked in new.values()], timeout=self._patience_seconds)
        done = [key for key in questions if self._open[key].answer.done()]
        return {key: self._open.pop(key).answer.result() for key in done}


def _begin(ask: Ask) -> Future[Measurement]:
    answer: Future[Measurement] = Future()
    # a daemon: a server that hangs does not keep this one from ending
    threading.Thread(target=lambda: answer.set_result(ask()), name="crossfade-question", daemon=True).start()
    return answer

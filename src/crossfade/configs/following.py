"""`ConfigFollower`: keeps what a process knows of configs on the newest state of a board."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from datetime import datetime

from crossfade.configs.active import ActiveConfig, Published
from crossfade.configs.port import Board
from crossfade.core.clock import Clock, utc_now
from crossfade.errors import UnavailableError

_log = logging.getLogger(__name__)

WAIT_SECONDS = 1.0
"""The longest wait for news, so that schedules and what else is due are not missed."""

Listener = Callable[[Iterable[str]], None]
"""Told the names of configs that may be read differently now."""


class ConfigFollower:
    """Follows a board from a thread of its own; while the board is away, what was read last stays.

    Args:
        board: What is followed.
        clock: What time it is.
        upkeep: Called about once a second on the same thread.

    Attributes:
        active: Name -> the config; read it once per request.
        ready: Whether the board has been read at all.
        away: Why it could not be read the last time, in words; empty when it could.
    """

    def __init__(self, board: Board, clock: Clock = utc_now, upkeep: Callable[[], None] = lambda: None) -> None:
        self.active: dict[str, ActiveConfig] = {}
        self.ready = False
        self.away = ""
        self._board = board
        self._clock = clock
        self._upkeep = upkeep
        self._position = 0
        self._listeners: list[Listener] = []
        self._one_at_a_time = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="crossfade-configs", daemon=True)

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` after every change, on the thread that found it."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Read the board, and keep following it; one that is away is waited for."""
        self._attempt(self.refresh)
        self._thread.start()

    def refresh(self) -> None:
        """Look now instead of when the board tells.

        Raises:
            UnavailableError: The board does not answer; what was read last stays.
        """
        with self._one_at_a_time:
            news = self._board.since(self._position)
            if news.position < self._position:  # the board was restored to an earlier state
                news = self._board.since(0)
            self._position, self.ready = news.position, True
            self._use(news.changed)

    def turn(self) -> None:
        """Compile again what a schedule or a ramp wants to be compiled again; the board need not be there for that."""
        now = self._clock()
        with self._one_at_a_time:
            self._use(config.published for config in list(self.active.values()) if _is_due(config, now))

    def moved(self) -> dict[str, int]:
        """Return the configs that a rollout moves, and the revision of each that readers get here."""
        published = [config.published for config in self.active.values()]
        return {each.name: each.revision for each in published if each.routing is not None}

    def close(self) -> None:
        """Stop following; the board is closed, too, which ends a wait for news."""
        self._ending.set()
        self._board.close()
        if self._thread.is_alive():
            self._thread.join()

    def _use(self, changed: Iterable[Published]) -> None:
        compiled = {published.name: ActiveConfig(published, self._clock()) for published in changed}
        if compiled:
            self.active = self.active | compiled
            for listener in self._listeners:
                listener(compiled)

    def _follow(self) -> None:
        away = not self.ready
        while not self._ending.is_set():
            fine = self._attempt(self._once, quietly=away)
            if not fine:
                self._ending.wait(WAIT_SECONDS)
            elif away:
                _log.info("following configs again")
            away = not fine

    def _once(self) -> None:
        if self._board.wait(self._position, WAIT_SECONDS) or not self.ready:
            self.refresh()
        self.turn()
        self._upkeep()

    def _attempt(self, step: Callable[[], None], *, quietly: bool = False) -> bool:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - fail-static: what was read last stays
            self.away = str(error) or type(error).__name__
            if not (quietly or self._ending.is_set()):
                _log.warning("configs cannot be followed: %s", error, exc_info=not isinstance(error, UnavailableError))
            return False
        self.away = ""
        return True


def _is_due(config: ActiveConfig, now: datetime) -> bool:
    return config.due_at is not None and config.due_at <= now

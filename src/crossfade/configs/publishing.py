"""`Publisher`: copies what is decided in the platform database to the board that it is read from.

Every serving process has one. They all copy the same, and a board keeps the newest, so it does not matter who is
first, who is late, and how often: a process that was stopped for an hour cannot bring anything old back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from crossfade.configs.active import Published
from crossfade.configs.port import Board
from crossfade.errors import UnavailableError

_log = logging.getLogger(__name__)

WAIT_SECONDS = 1.0
MEND_SECONDS = 10.0
"""How often it is looked whether the board still has everything."""


class Copy(Board, Protocol):
    """A board that configs are copied to."""

    def publish(self, published: Published, *, anew: bool = False) -> bool:
        """Keep a config, unless the board has it as new (or `anew`) or newer; tell whether it was kept."""

    def lacking(self, everything: Iterable[Published]) -> Sequence[Published]:
        """Return those of which something is missing, or cannot be read."""


class Publisher:
    """Copies from a thread of its own.

    Args:
        source: The platform database.
        target: Where to.
    """

    def __init__(self, source: Board, target: Copy) -> None:
        self._source = source
        self._target = target
        self._position = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="crossfade-publisher", daemon=True)

    def start(self) -> None:
        """Begin; everything is compared once."""
        self._thread.start()

    def copy(self) -> None:
        """Copy what changed since the last time.

        Raises:
            UnavailableError: The database or the board does not answer; the next time begins where this one did.
        """
        news = self._source.since(self._position)
        for published in news.changed:
            self._target.publish(published)
        self._position = news.position

    def mend(self) -> None:
        """Copy again what somebody has deleted or damaged.

        Raises:
            UnavailableError: The database or the board does not answer.
        """
        for published in self._target.lacking(self._source.since(0).changed):
            if self._target.publish(published, anew=True):
                _log.warning("config `%s` was missing or damaged on its board, and is copied again", published.name)

    def close(self) -> None:
        """Stop."""
        self._ending.set()
        self._source.close()
        if self._thread.is_alive():
            self._thread.join()
        self._target.close()

    def _run(self) -> None:
        away, mended = False, time.monotonic()
        while not self._ending.is_set():
            try:
                self.copy()
                if time.monotonic() - mended >= MEND_SECONDS:
                    self.mend()
                    mended = time.monotonic()
                away = False
                self._source.wait(self._position, WAIT_SECONDS)
            except Exception as error:  # noqa: BLE001 - it is tried again, and readers keep what they have
                if not (away or self._ending.is_set()):
                    unexpected = not isinstance(error, UnavailableError)
                    _log.warning("configs cannot be copied to their board: %s", error, exc_info=unexpected)
                away = True
                self._ending.wait(WAIT_SECONDS)

"""`Attendant`: does from time to time what only one process at a time may do, on a thread of its own.

Every serving process has one of each kind; a lease lets one of them work. Whatever fails is logged once, until it
changes, and tried again at the next turn.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from typing import Self

from crossfade.errors import CrossfadeError, UnavailableError
from crossfade.storage.lease import Lease

_log = logging.getLogger(__name__)


class Attendant(ABC):
    """Turns from time to time; a subclass says what a turn does.

    Args:
        what: It attends to, for the log and the name of its thread, such as `releases`.
        lease: Lets one process work at a time.
        seconds: From one turn to the next.
    """

    def __init__(self, what: str, lease: Lease, seconds: float) -> None:
        self._what = what
        self._lease = lease
        self._seconds = seconds
        self._said: dict[str, str] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"crossfade-{what}", daemon=True)

    @abstractmethod
    def turn(self) -> None:
        """Do once what there is to do; nothing when another process does it.

        Raises:
            CrossfadeError: It could not be done this time.
        """

    def start(self) -> None:
        """Begin to turn."""
        self._thread.start()

    def close(self) -> None:
        """Stop, and let another process go on."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            self._lease.release()
        except UnavailableError as error:
            _log.warning("the lease of %s runs out by itself: %s", self._what, error)

    def __enter__(self) -> Self:
        """Begin to turn."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.close()

    def say(self, problem: str, about: str = "", *, bug: bool = False) -> None:
        """Log why something is not attended to, once, until it changes.

        Args:
            problem: Why.
            about: Which of the things that it attends to; empty: none of them.
            bug: Whether the exception that is being handled is one.
        """
        if self._said.get(about) != problem:
            self._said[about] = problem
            subject = f"`{about}` of {self._what}" if about else self._what
            _log.warning("not attended to: %s: %s", subject, problem, exc_info=bug)

    def _run(self) -> None:
        while not self._ending.wait(self._seconds):
            try:
                self.turn()
            except CrossfadeError as error:
                self.say(str(error))
            except Exception:  # noqa: BLE001 - a bug must not end what attends to everything else
                _log.exception("a turn of what attends to %s failed", self._what)
            else:
                self._said.pop("", None)

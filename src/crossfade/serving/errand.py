"""`Errand`: foreign code on a thread of its own, waited for only so long.

A thread cannot be ended from outside. One that hangs is left behind: it is a daemon, so it does not keep the process
from ending, and whatever it comes back with later is dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class Errand(Generic[T]):
    """Runs a call at once on a new thread.

    Example:
        >>> errand = Errand(lambda: 6 * 7, "sum")
        >>> errand.wait(10), errand.result()
        (True, 42)
    """

    def __init__(self, call: Callable[[], T], name: str) -> None:
        self._future: Future[T] = Future()
        self._thread = threading.Thread(target=_carry_out, args=(call, self._future), name=name, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the call has not come back yet."""
        return self._thread.is_alive()

    def wait(self, seconds: float) -> bool:
        """Tell whether the call has come back, after waiting for it if need be."""
        try:
            self._future.exception(max(0.0, seconds))
        except (TimeoutError, CancelledError):
            return False
        return True

    def give_up(self) -> None:
        """End the waiting now."""
        self._future.cancel()

    def result(self) -> T:
        """Return what the call returned, or raise what it raised, once it has come back."""
        return self._future.result()


def _carry_out(call: Callable[[], T], future: Future[T]) -> None:
    try:
        found = call()
    except BaseException as error:  # noqa: BLE001 - it is raised where the call is waited for
        with suppress(InvalidStateError):
            future.set_exception(error)
    else:
        with suppress(InvalidStateError):
            future.set_result(found)
    # the error's traceback holds this frame: without a cycle, what was half loaded is freed with it
    del call, future

"""`Lane`: one thread for one member, with one call at a time.

A thread cannot be ended from outside. A call that takes longer than anybody waits is left alone, and until it has come
back the lane is occupied, so that a member that hangs keeps one thread and never a second one.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class Lane(Generic[T]):
    """Runs calls one after the other on a daemon thread, which starts with the first call and ends with the lane.

    Args:
        name: Of the thread.

    Example:
        >>> Lane("sum").send(lambda: 6 * 7).result(10)
        42
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[tuple[Callable[[], T], Future[T]] | None] = SimpleQueue()
        self._taken = threading.Lock()
        self._started = False

    @property
    def occupied(self) -> bool:
        """Whether a call has not come back yet."""
        return self._taken.locked()

    def send(self, call: Callable[[], T]) -> Future[T]:
        """Run a call; the lane must not be occupied."""
        self._taken.acquire()
        if not self._started:
            self._started = True
            threading.Thread(target=_work, args=(self._calls, self._taken), name=self._name, daemon=True).start()
            weakref.finalize(self, self._calls.put, None).atexit = False
        future = Future[T]()
        self._calls.put((call, future))
        return future


def _work(calls: SimpleQueue[tuple[Callable[[], T], Future[T]] | None], taken: threading.Lock) -> None:
    while (item := calls.get()) is not None:
        call, future = item
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - it is raised where the call is waited for
            taken.release()
            future.set_exception(error)
        else:
            taken.release()  # first, or whoever gets the result would find the lane occupied
            future.set_result(result)
            del result
        del item, call, future  # an idle thread keeps neither a model nor an answer alive

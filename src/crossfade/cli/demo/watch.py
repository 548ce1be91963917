"""Keeping the table in motion while the story goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from crossfade.cli.demo.screen import Screen
from crossfade.cli.demo.tables import Table

T = TypeVar("T")

TICK_SECONDS = 0.25


class Watch:
    """Keeps the table moving while something happens.

    Args:
        look: Gives the table of now.
        screen: Where it is shown.
        worker: A thread for what is done meanwhile.
    """

    def __init__(self, look: Callable[[], Table], screen: Screen, worker: ThreadPoolExecutor) -> None:
        self._look = look
        self._screen = screen
        self._worker = worker

    def during(self, seconds: float) -> None:
        """Watch for some time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(TICK_SECONDS, left))
            self._screen.show(self._look())

    def while_doing(self, work: Callable[[], T]) -> T:
        """Do something in another thread, and watch until it is done."""
        done: Future[T] = self._worker.submit(work)
        while True:
            try:
                return done.result(TICK_SECONDS)
            except TimeoutError:
                if done.done():
                    raise
                self._screen.show(self._look())


@contextmanager
def worker_thread() -> Iterator[ThreadPoolExecutor]:
    """Give a thread; do not wait for what it still does when something else failed."""
    executor = ThreadPoolExecutor(1, thread_name_prefix="story")
    try:
        yield executor
    finally:
        executor.shutdown(wait=False, cancel_futures=True)

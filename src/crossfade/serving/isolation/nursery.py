"""`Nursery`: starts model processes, keeps one in reserve, and reads what they print.

Starting Python and importing what a model needs takes a second or more; a process in reserve has done so, so that a
version whose process ended goes on after the time it takes to load. Processes are started on one thread that lives as
long as the server, because the kernel ends them with the thread that started them.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from importlib.machinery import PathFinder

from crossfade.core.memory import total_bytes
from crossfade.core.processors import thread_bound
from crossfade.serving.isolation.confinement import Limits
from crossfade.serving.isolation.messages import Started
from crossfade.serving.isolation.process import ModelProcess, ProcessEndedError
from crossfade.settings import Settings

_log = logging.getLogger(__name__)

_LEAST_MEMORY = 2**30
_START_SECONDS = 60.0
_READ_SECONDS = 0.1
_READ_BYTES = 16 * 2**10
"""A model may print so much per `_READ_SECONDS`; one that prints more is slowed down, and the server is not."""
_LOGGED_CHARACTERS = 2_000
"""Of which so much is logged."""
_LOOK_MILLISECONDS = 500
_END_SECONDS = 5.0
_MAX_PACKAGES = 64


_REFRESH = object()
_Order = Future[ModelProcess] | object | None
"""Somebody waits for a process; the one in reserve is out of date; or, None, it is over."""


class Nursery:
    """Of one serving process. Starts nothing before the first model needs it.

    Args:
        limits: What every model process may use.
        threads: How many threads numeric libraries may start in each.
    """

    def __init__(self, limits: Limits, threads: int = 1) -> None:
        self._limits = limits
        self._threads = threads
        self._orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
        self._reserve: ModelProcess | None = None
        self._packages: frozenset[str] = frozenset()
        self._outputs: dict[int, str] = {}
        self._naming = threading.Lock()
        self._starting = threading.Lock()
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def memory_bytes(self) -> int:
        """Private memory that a model process may have at most."""
        return self._limits.memory_bytes

    def take(self, name: str) -> ModelProcess:
        """Return a confined process without a model, from the reserve if there is one.

        Args:
            name: What the log calls it when it prints something.

        Raises:
            ProcessEndedError: It could not be started.
        """
        order: Future[ModelProcess] = Future()
        with self._starting:
            if self._closed:
                raise ProcessEndedError("exit", "this server is shutting down")
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="crossfade-nursery", daemon=True)
                self._thread.start()
                reader = threading.Thread(target=self._read, args=(self._thread,), name="crossfade-model-output")
                reader.daemon = True
                reader.start()
            self._orders.put(order)
        process = order.result()
        with self._naming:
            if process.output in self._outputs:  # it may have ended, and its number may be another's by now
                self._outputs[process.output] = name
        return process

    def examine(self) -> tuple[str, ...]:
        """Start a process, end it, and return what this machine could not confine it by.

        Raises:
            ProcessEndedError: It could not be started.
        """
        process = ModelProcess(self._limits, (), self._threads)
        try:
            return _started(process).without
        finally:
            process.close()
            os.close(process.output)

    def learn(self, packages: tuple[str, ...]) -> None:
        """Let the next processes import these before they are needed, as far as they are installed here.

        The one in reserve has not, so another one takes its place.
        """
        known = self._packages.union([name for name in packages[:_MAX_PACKAGES] if _is_installed(name)])
        if known != self._packages:
            self._packages = known
            self._orders.put(_REFRESH)

    def close(self) -> None:
        """End the process in reserve, and the threads; nothing is started any more."""
        with self._starting:
            self._closed = True
            self._orders.put(None)
        if self._thread is not None:
            self._thread.join(_END_SECONDS)

    # --- on the thread ---

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            if order is _REFRESH:
                self._drop_reserve()
            elif isinstance(order, Future):
                self._carry_out(order)
            if self._orders.empty():
                self._fill_reserve()
        self._drop_reserve()

    def _carry_out(self, order: Future[ModelProcess]) -> None:
        try:
            order.set_result(self._from_reserve() or _started(self._spawn()))
        except Exception as error:  # noqa: BLE001 - it is raised where the process is waited for
            order.set_exception(error)

    def _from_reserve(self) -> ModelProcess | None:
        process, self._reserve = self._reserve, None
        if process is None:
            return None
        try:
            return _started(process)
        except ProcessEndedError as error:
            _log.warning("the model process in reserve was of no use: %s", error)
            return None

    def _spawn(self) -> ModelProcess:
        process = ModelProcess(self._limits, sorted(self._packages), self._threads)
        self._outputs[process.output] = "a model process"
        return process

    def _fill_reserve(self) -> None:
        if self._reserve is not None:
            return
        try:
            self._reserve = self._spawn()
        except Exception as error:  # noqa: BLE001 - with this thread, the kernel would end every process that it started
            _log.warning("no model process could be put in reserve: %s", error)

    def _drop_reserve(self) -> None:
        reserve, self._reserve = self._reserve, None
        if reserve is not None:
            reserve.close()

    # --- on the other thread ---

    def _read(self, starter: threading.Thread) -> None:
        pause = threading.Event()
        while starter.is_alive() or self._outputs:
            for fd in _readable(list(self._outputs)):
                self._read_some(fd)
            pause.wait(_READ_SECONDS)

    def _read_some(self, fd: int) -> None:
        try:
            data = os.read(fd, _READ_BYTES)
        except OSError:
            data = b""
        if data:
            _log_output(self._outputs[fd], data)
            return
        with self._naming:
            del self._outputs[fd]
            os.close(fd)


def process_bytes(settings: Settings) -> int:
    """Return how much private memory a model process may have."""
    share = total_bytes() / 4 / settings.serving.workers
    return settings.isolation.memory_bytes or max(_LEAST_MEMORY, int(share))


def open_nursery(settings: Settings) -> Nursery:
    """Return the nursery that the settings describe."""
    isolation = settings.isolation
    limits = Limits(process_bytes(settings), isolation.network, isolation.readable_paths)
    return Nursery(limits, thread_bound())


def _started(process: ModelProcess) -> ModelProcess:
    """Wait until a process has started; one that does not is closed."""
    try:
        reply = process.receive(seconds=_START_SECONDS)
    except ProcessEndedError:
        process.close()
        raise
    if not isinstance(reply, Started):
        process.close()
        raise ProcessEndedError("protocol", "it did not say that it has started")
    process.without = reply.without
    if reply.without:
        _log.warning("model processes are confined without: %s", ", ".join(reply.without))
    return process


def _is_installed(package: str) -> bool:
    return package.isidentifier() and PathFinder.find_spec(package) is not None


def _readable(fds: Iterable[int]) -> list[int]:
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll(_LOOK_MILLISECONDS)]


def _log_output(name: str, data: bytes) -> None:
    text = data.decode("utf-8", "replace").strip()
    if len(text) > _LOGGED_CHARACTERS:
        text = f"{text[:_LOGGED_CHARACTERS]} ... ({len(text)} characters)"
    _log.info("`%s` printed: %s", name, text)

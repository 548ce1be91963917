"""Several serving processes that share one listening socket, restarted when they die.

The supervisor opens no database and runs no thread, so it can hardly fail; its workers end by themselves when it
is gone. They add up their metrics in a folder that it makes for them, and that nobody else can enter.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

from crossfade.errors import CrossfadeError
from crossfade.serving.published import Board, Published
from crossfade.settings import Settings
from crossfade.web.logs import configure_logs, get_logger

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 10.0
_STABLE_SECONDS = 60.0
_ENDING_SECONDS = 15.0
"""Beyond the time for draining: longer than a worker takes that ends itself because something hangs in it."""

_SIGNALS = {number.value: number.name for number in signal.Signals}
_spawn = multiprocessing.get_context("spawn")  # a fork would copy whatever threads and locks the caller has


@dataclass
class _Worker:
    """One place among the workers: the process that fills it now, or when the next one starts."""

    number: int
    process: BaseProcess | None = None
    ready: Connection | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    pause: float = _FIRST_PAUSE_SECONDS
    was_ready: bool = False


@dataclass
class Supervisor:
    """Keeps `settings.serving.workers` processes running until a signal; returns the exit code from `run`.

    SIGTERM and SIGINT are handed on to the workers; a second one kills them, and so does time. A worker that fails
    before the first was ever ready ends everything, because it would fail again.
    """

    settings: Settings
    listener: socket.socket
    on_ready: Callable[[], None]
    _workers: list[_Worker] = field(default_factory=list)
    _signals: list[int] = field(default_factory=list)
    _stopping: bool = False
    _kill_at: float = float("inf")
    _exit_code: int = 0
    _folder: Path = Path()
    _restarts: Counter[str] = field(default_factory=Counter)

    def run(self) -> int:
        """Run until every worker has ended after a signal."""
        configure_logs(self.settings.log)
        with tempfile.TemporaryDirectory(prefix="crossfade-", ignore_cleanup_errors=True) as folder:
            self._folder = Path(folder)
            self._supervise()
        return self._exit_code

    def _supervise(self) -> None:
        self._workers = [_Worker(number) for number in range(self.settings.serving.workers)]
        wake_reader, wake_writer = os.pipe()
        os.set_blocking(wake_writer, False)
        signal.set_wakeup_fd(wake_writer)
        before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            while not self._stopping or any(worker.process for worker in self._workers):
                self._start_due()
                self._wait(wake_reader)
                self._hand_on_signals()
                self._kill_overdue()
                self._reap()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(-1)
            os.close(wake_reader)
            os.close(wake_writer)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._signals.append(number)

    def _start_due(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if self._stopping or worker.process is not None or worker.start_at > now:
                continue
            reader, writer = _spawn.Pipe(duplex=False)
            arguments = (self.settings, self.listener, writer, worker.number, self._folder)
            worker.process = _spawn.Process(target=_work, args=arguments)
            worker.process.start()
            writer.close()
            worker.ready, worker.started_at = reader, now

    def _wait(self, wake_reader: int) -> None:
        sources: list[Connection | int] = [wake_reader]
        sources += [worker.process.sentinel for worker in self._workers if worker.process]
        sources += [worker.ready for worker in self._workers if worker.ready]
        due = [worker.start_at for worker in self._workers if worker.process is None and not self._stopping]
        if self._stopping:
            due = [self._kill_at]
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        for source in wait(sources, timeout):
            if source == wake_reader:
                os.read(wake_reader, 1024)
        for worker in self._workers:
            if worker.ready is not None and worker.ready.poll():
                self._hear(worker, worker.ready)

    def _hear(self, worker: _Worker, ready: Connection) -> None:
        try:
            ready.recv_bytes()
        except EOFError:
            pass  # it died; `_reap` sees to that
        else:
            announced = all(other.was_ready for other in self._workers)
            worker.was_ready = True
            if not announced and all(other.was_ready for other in self._workers):
                self.on_ready()
        ready.close()
        worker.ready = None

    def _hand_on_signals(self) -> None:
        while self._signals:
            number = self._signals.pop(0)
            running = [worker.process for worker in self._workers if worker.process]
            for process in running:
                if self._stopping:
                    process.kill()
                elif process.pid is not None:
                    os.kill(process.pid, number)
            self._stop()

    def _stop(self) -> None:
        if self._stopping:
            return
        # connections that arrive while no worker accepts any more must be refused, not left waiting
        self._stopping = True
        self.listener.close()
        serving = self.settings.serving
        self._kill_at = time.monotonic() + serving.drain_seconds + serving.drain_timeout_seconds + _ENDING_SECONDS

    def _kill_overdue(self) -> None:
        """Kill what cannot end itself: code that hangs without letting its interpreter run."""
        if time.monotonic() < self._kill_at:
            return
        for worker in self._workers:
            if worker.process is not None and worker.process.is_alive():
                get_logger().error("worker_killed", pid=worker.process.pid)
                worker.process.kill()
                worker.process.join()

    def _reap(self) -> None:
        for worker in self._workers:
            process = worker.process
            if process is None or process.is_alive():
                continue
            process.join()
            worker.process = None
            if self._stopping:
                continue
            code = process.exitcode or 0
            get_logger().error("worker_died", pid=process.pid, exit_code=code)
            if not any(other.was_ready for other in self._workers):
                self._exit_code = code if code > 0 else 1
                self._signals.append(signal.SIGTERM)
                continue
            self._count_restart("exit" if code >= 0 else _SIGNALS.get(-code, "signal"))
            if time.monotonic() - worker.started_at > _STABLE_SECONDS:
                worker.pause = _FIRST_PAUSE_SECONDS
            worker.start_at = time.monotonic() + worker.pause
            worker.pause = min(2 * worker.pause, _LONGEST_PAUSE_SECONDS)

    def _count_restart(self, reason: str) -> None:
        """Tell the workers, who answer when somebody asks for metrics."""
        self._restarts[reason] += 1
        counts = [
            ("crossfade_worker_restarts_total", (("reason", reason),), float(count))
            for reason, count in self._restarts.items()
        ]
        try:
            Board(self._folder).write("supervisor", Published(counts=tuple(counts)))
        except OSError as error:
            get_logger().warning("restarts_not_shared", problem=str(error))


def _work(settings: Settings, listener: socket.socket, ready: Connection, number: int, folder: Path) -> None:
    """Be a worker: in a process group of its own, so that Ctrl-C reaches it once, through the supervisor."""
    from crossfade.web.server import Place, serve

    os.setpgrp()
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101 - the supervisor starts this
    try:
        place = Place(parent.sentinel, number, folder)
        serve(settings, listener, lambda: ready.send_bytes(b"ready"), place=place)
    except CrossfadeError as error:
        get_logger().error("worker_cannot_start", code=error.code, problem=error.message, hint=error.hint)
        sys.exit(error.exit_code)

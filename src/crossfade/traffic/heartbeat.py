"""`Heartbeat`: how a serving process reports itself, regularly and whenever something changed."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable

from crossfade.core.clock import Clock, utc_now
from crossfade.errors import DatabaseUnavailableError, UnavailableError
from crossfade.registry.requests import ProcessStatus
from crossfade.settings import ServingSettings
from crossfade.traffic.deployed import DeploymentReport
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.machine import new_process_id

_log = logging.getLogger(__name__)

Slots = dict[str, tuple[str, str]]
Deployments = Callable[[], tuple[DeploymentReport, ...]]
"""Returns how the replicas of this process do."""
State = Callable[[], tuple[int, Slots]]
"""Returns the revision in use and the slots; the slots must be at least as new as the revision."""


class Heartbeat:
    """Reports this process from a thread of its own.

    Args:
        fleet: Where to.
        settings: How often.
        state: What to say of the versions that it holds.
        clock: What time it is.
        deployments: What to say of the replicas that it keeps.

    Attributes:
        process: The id that this process reports itself under.
        configs: Returns what to say of configs that a rollout moves: name -> revision that readers get.
    """

    def __init__(
        self,
        fleet: Fleet,
        settings: ServingSettings,
        state: State,
        clock: Clock = utc_now,
        deployments: Deployments = tuple,
        *,
        process: str = "",
    ) -> None:
        self.process = process or new_process_id()
        self.configs: Callable[[], dict[str, int]] = dict
        self._fleet = fleet
        self._seconds = settings.heartbeat_seconds
        self._state = state
        self._deployments = deployments
        self._clock = clock
        self._host = socket.gethostname()
        self._started_at = clock()
        self._changed = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._beat, name="crossfade-heartbeat", daemon=True)

    def start(self) -> None:
        """Report now, then keep reporting; while the database is away there is nobody to report to."""
        try:
            self._fleet.sweep()
            self._report()
        except DatabaseUnavailableError as error:
            _log.warning("this process could not report itself yet: %s", error)
        self._thread.start()

    def report_soon(self) -> None:
        """Report at once instead of at the next beat: somebody may be waiting to hear of a change."""
        self._changed.set()

    def close(self) -> None:
        """Stop, and take this process off the list."""
        self._ending = True
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            self._fleet.leave(self.process)
        except UnavailableError as error:
            _log.warning("the database was not told that this process ends: %s", error)

    def _report(self) -> None:
        revision, slots = self._state()
        self._fleet.report(
            ProcessStatus(
                process=self.process,
                host=self._host,
                pid=os.getpid(),
                started_at=self._started_at,
                seen_at=self._clock(),
                revision=revision,
                slots=slots,
                configs=self.configs(),
            ),
            self._deployments(),
        )

    def _beat(self) -> None:
        away = False
        while True:
            changed = self._changed.wait(self._seconds)
            self._changed.clear()
            if self._ending:
                return
            try:
                self._report()
                if not changed:
                    self._fleet.sweep()
            except UnavailableError as error:
                if not away:
                    _log.warning("this process cannot report itself: %s", error)
                away = True
            else:
                away = False

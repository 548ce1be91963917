"""A controller in a process of its own that kills or stops itself at one beginning or end of a transaction."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import Connection

from crossfade.errors import UnavailableError
from crossfade.releases.checks.measuring import Measurer
from crossfade.releases.controller import LEASE, Controller
from crossfade.releases.store import RolloutStore
from crossfade.releases.subjects.models import ModelSubject
from crossfade.releases.surroundings import Surroundings
from crossfade.settings import ReleaseSettings, ServingSettings
from crossfade.storage.database import Database, open_database
from crossfade.storage.lease import Lease
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.health import HealthLog

SUBJECTS = {"model": ModelSubject()}
SERVING = ServingSettings(heartbeat_seconds=5)
RELEASES = ReleaseSettings(poll_seconds=0.05, lease_seconds=0.4)
_TURN_SECONDS = 0.01


class Strike(NamedTuple):
    """At which beginning or end of a write something happens to a controller, counted from 1, and what; 0: nowhere."""

    place: int = 0
    fault: str = "KILL"

    def __str__(self) -> str:
        return f"{self.fault} at place {self.place}"


NOWHERE = Strike()


class StruckDatabase:
    """A database whose user is struck before a write begins, before it commits, or after."""

    def __init__(self, database: Database, strike: Strike) -> None:
        self._database = database
        self._strike = strike
        self._place = 0
        self.dialect = database.dialect

    def _pass(self) -> None:
        self._place += 1
        if self._place == self._strike.place:
            os.kill(os.getpid(), signal.Signals[f"SIG{self._strike.fault}"])

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """Read undisturbed: whoever sleeps there wakes up before the write."""
        with self._database.read() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """Write, unless it ends here."""
        self._pass()
        with self._database.write() as connection:
            yield connection
            self._pass()
        self._pass()


def fork(url: str, strike: Strike = NOWHERE) -> int:
    """Start a controller, and return its pid; it goes on until it is killed."""
    pid = os.fork()
    if pid:
        return pid
    try:
        _control(url, strike)
    finally:
        os._exit(1)


def _control(url: str, strike: Strike) -> None:
    database = StruckDatabase(open_database(url), strike)
    controller = Controller(
        RolloutStore(database, SUBJECTS),
        database,
        Surroundings(database, SUBJECTS, Fleet(database, SERVING), 60.0),
        Measurer(database, HealthLog(database), None),
        Lease(database, LEASE, RELEASES.lease_seconds),
        RELEASES,
    )
    parent = os.getppid()
    while os.getppid() == parent:
        with contextlib.suppress(UnavailableError):
            controller.turn()
        time.sleep(_TURN_SECONDS)

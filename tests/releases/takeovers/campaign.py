"""Kill or stop one of three controllers at each place where it writes, and look at what the rollout has become."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple, Self

from sqlalchemy import select

from crossfade.registry.requests import ProcessStatus
from crossfade.releases.checks.spec import ErrorRateCheck
from crossfade.releases.plan import RolloutPlan, Step
from crossfade.releases.requests import RolloutRequest
from crossfade.releases.rollout import Rollout, RolloutStatus, RolloutTransition
from crossfade.releases.store import RolloutStore
from crossfade.storage.changes import verify_audit
from crossfade.storage.database import Database, open_database
from crossfade.storage.tables import aliases, audit, leases
from crossfade.traffic.fleet import READY, Fleet
from crossfade.traffic.health import Counts, HealthLog
from tests import servers
from tests.releases.takeovers.children import RELEASES, SERVING, SUBJECTS, Strike, fork
from tests.traffic.support import move, open_registry, publish_all

PLAN = RolloutPlan(
    (Step(0.25, minimum_units=10), Step(0.5, minimum_units=10), Step(1.0)),
    checks=(ErrorRateCheck("errors"),),
    hold_down_seconds=0,
)
WEIGHTS = [step.weight for step in PLAN.steps]
_LONGEST_SECONDS = 40.0
_LOOK_SECONDS = 0.01
_AFTERWARDS = 5
"""Looks after the end in which whoever woke up again could do harm."""


class Case(NamedTuple):
    """What is struck: a rollout of a good or a bad version, by what, and where."""

    truth: str
    strike: Strike

    def __str__(self) -> str:
        return f"{self.truth} version, {self.strike}"


class Outcome(NamedTuple):
    """What came of a case: whether anybody was struck, whether somebody else took over, and what is wrong."""

    case: Case
    struck: bool
    taken_over: bool
    problem: str


# --- databases -----------------------------------------------------------------------------------------------------


class Home:
    """Fresh databases, each a copy of one with a model of two versions.

    Args:
        url: Of a new database, by its name.
        copied: Copies the first database to one of a new name.
    """

    def __init__(self, folder: Path, url: Callable[[str], str], copied: Callable[[str, str], None]) -> None:
        self._url, self._copied = url, copied
        self._numbers = count(1)
        registry = open_registry(folder, url("template"))
        publish_all(registry, "m", "1.0.0", "1.0.1")
        move(registry, "m", "1.0.0")
        registry.backend.database.close()

    def fresh(self) -> str:
        """Return the URL of a copy."""
        name = f"copy_{next(self._numbers)}"
        self._copied("template", name)
        return self._url(name)


@contextlib.contextmanager
def sqlite() -> Iterator[Home]:
    """Databases that are files."""
    with tempfile.TemporaryDirectory(prefix="crossfade-takeovers-") as folder:
        place = Path(folder)

        def copied(source: str, target: str) -> None:
            shutil.copytree(place / source, place / target)

        yield Home(place, lambda name: f"sqlite:///{place / name / 'crossfade.db'}", copied)


@contextlib.contextmanager
def postgres(url: str = "") -> Iterator[Home]:
    """Databases of a server; of one that is started, when none is given."""
    import psycopg

    with contextlib.ExitStack() as stack:
        server = url or stack.enter_context(servers.postgres())
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crossfade-takeovers-")))

        def create(name: str, like: str) -> None:
            with psycopg.connect(server, autocommit=True) as connection:
                connection.execute(f"DROP DATABASE IF EXISTS takeover_{name} WITH (FORCE)")
                connection.execute(f"CREATE DATABASE takeover_{name} TEMPLATE {like}")

        create("template", "template1")
        yield Home(
            place,
            lambda name: f"{server.rpartition('/')[0]}/takeover_{name}",
            lambda source, target: create(target, f"takeover_{source}"),
        )


# --- one case ------------------------------------------------------------------------------------------------------


class Stage:
    """Three controllers on one database, and the process that serves beside them, which is this one."""

    def __init__(self, url: str, case: Case) -> None:
        self.case = case
        self._url = url
        self._pids: list[int] = []
        self._began = time.monotonic()
        self.struck = self.taken_over = self._ending = False
        self.written = Counts()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self._pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)

    def live(self) -> str:
        """Roll a version out while one of the controllers is struck; returns what is wrong afterwards."""
        database = open_database(self._url)
        RolloutStore(database, SUBJECTS).create(RolloutRequest("m", "1.0.1", PLAN), principal="ann")
        database.close()  # before anybody is forked
        victim = fork(self._url, self.case.strike)
        self._pids.append(victim)
        self._await_leader(victim)
        self._pids += [fork(self._url), fork(self._url)]
        database = open_database(self._url)
        watcher = threading.Thread(target=self._watch, args=(victim, database))
        watcher.start()
        try:
            problem = self._serve(database)
        finally:
            self._ending = True  # whoever is killed from here on was not struck
            self._pids.remove(victim)
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            watcher.join()
        problem = problem or examine(database, self.case.truth, self.written)
        database.close()
        return problem

    def _await_leader(self, victim: int) -> None:
        """Wait until the victim leads, or is struck before it does."""
        database = open_database(self._url)
        while not _epoch(database) and not _has_changed(victim) and not self._is_late():
            time.sleep(_LOOK_SECONDS)
        database.close()

    def _is_late(self) -> bool:
        return time.monotonic() - self._began > _LONGEST_SECONDS

    def _watch(self, victim: int, database: Database) -> None:
        """Wake the victim up when somebody else has taken over, or cannot because it holds the database."""
        while True:
            status = os.waitpid(victim, os.WUNTRACED)[1]
            if not os.WIFSTOPPED(status):
                self.struck |= not self._ending
                return
            self.struck, before = True, _epoch(database)
            for _ in range(int(3 * RELEASES.lease_seconds / _LOOK_SECONDS)):
                time.sleep(_LOOK_SECONDS)
                if _epoch(database) > before:
                    self.taken_over = True
                    break
            time.sleep(3 * _LOOK_SECONDS)
            os.kill(victim, signal.SIGCONT)

    def _serve(self, database: Database) -> str:
        """Follow and report, as a serving process does, until the rollout is over and a little longer."""
        store, fleet, health = RolloutStore(database, SUBJECTS), Fleet(database, SERVING), HealthLog(database)
        afterwards = 0
        while afterwards < _AFTERWARDS:
            if self._is_late():
                return f"it does not end: {store.find('m').state.words}"
            rollout = store.find("m")
            afterwards += not rollout.active
            self._report(database, rollout, fleet, health)
            time.sleep(_LOOK_SECONDS)
        return ""

    def _report(self, database: Database, rollout: Rollout, fleet: Fleet, health: HealthLog) -> None:
        slots = {f"m:1.0.{number}": (READY, "") for number in range(2)}
        now = fleet._clock()
        fleet.report(ProcessStatus("a", "host", 1, now, now, database.revision(), slots))
        new = round(20 * rollout.weight)
        counts = {"1.0.0": _counts(40 - new, 0)} | (
            {"1.0.1": _counts(new, new if self.case.truth == "bad" else 0)} if new else {}
        )
        health.write("a", int(now.timestamp() * 1e6), {1: {"m": counts}})
        if new:
            self.written.add_up(counts["1.0.1"])


def _counts(requests: int, bad: int) -> Counts:
    return Counts(requests=requests, errors=bad, latency={50: requests - bad})


def _has_changed(pid: int) -> bool:
    """Tell whether a child has ended or stopped, and leave that for somebody else to hear."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None


def _epoch(database: Database) -> int:
    with database.read() as connection:
        return connection.scalar(select(leases.c.epoch)) or 0


# --- what must hold ------------------------------------------------------------------------------------------------


def examine(database: Database, truth: str, written: Counts) -> str:
    """Return what is wrong with a rollout that is over."""
    store = RolloutStore(database, SUBJECTS)
    rollout, history = store.find("m"), store.history("m")
    with database.read() as connection:
        revisions = verify_audit(connection)
        champion = connection.scalar(select(aliases.c.semver).where(aliases.c.alias == "champion"))
        audited = connection.scalars(
            select(audit.c.action).where(audit.c.subject == rollout.name).order_by(audit.c.seq)
        ).all()
    good = truth == "good"
    wanted = (RolloutStatus.COMPLETED, 1.0, "1.0.1") if good else (RolloutStatus.ROLLED_BACK, 0.0, "1.0.0")
    weights = [each.weight for each in history]
    expected = [*WEIGHTS, 1.0] if good else [*WEIGHTS[: len(history) - 1], 0.0]
    counted = rollout.evidence.counts.get("errors", (0, 0, 0, 0))
    promises = {
        "it ended otherwise": (rollout.status, rollout.weight, champion) == wanted,
        "its weights are not those of the plan": weights == expected,
        "it was rolled back more than once": [each.kind for each in history].count("rollback") == (not good),
        "its history has gaps": [each.seq for each in history] == list(range(1, len(history) + 1)),
        "epochs went back": [each.epoch for each in history] == sorted(each.epoch for each in history),
        "history and audit differ": [each for each in audited if each != "rollout.release"]
        == ["rollout.create", *(f"rollout.{each.kind}" for each in history)],
        "a revision was skipped": revisions == database.revision(),
        "requests were counted twice": counted[1] <= written.requests and counted[0] <= written.errors,
    }
    broken = [promise for promise, kept in promises.items() if not kept]
    return f"{'; '.join(broken)}: {_in_short(history)}" if broken else ""


def _in_short(history: tuple[RolloutTransition, ...]) -> str:
    return ", ".join(f"{each.kind} {each.weight:g} in epoch {each.epoch}" for each in history)


def strike(home: Home, case: Case) -> Outcome:
    """Live through one case."""
    with Stage(home.fresh(), case) as stage:
        problem = stage.live()
        return Outcome(case, stage.struck, stage.taken_over, problem)

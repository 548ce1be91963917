"""What the tests of rollouts share: a model, processes as the database sees them, and a controller, on one clock."""

from __future__ import annotations

import os

from crossfade.core.clock import utc_now
from crossfade.experiments.store import ExperimentStore
from crossfade.registry.requests import ProcessStatus
from crossfade.releases.checks.measuring import Measurer
from crossfade.releases.checks.spec import ErrorRateCheck
from crossfade.releases.controller import LEASE, Controller
from crossfade.releases.plan import RolloutPlan, Step
from crossfade.releases.requests import RolloutRequest
from crossfade.releases.store import RolloutStore
from crossfade.releases.subjects.models import ModelSubject
from crossfade.releases.surroundings import Surroundings
from crossfade.settings import ReleaseSettings
from crossfade.storage.lease import Lease
from crossfade.traffic.fleet import READY, Fleet
from crossfade.traffic.health import Counts, HealthLog
from crossfade.traffic.readiness import Readiness
from tests.traffic.support import FAST, move, publish_all

SUBJECTS = {"model": ModelSubject()}
SETTINGS = ReleaseSettings()
ERRORS = ErrorRateCheck("errors")
PLAN = RolloutPlan(
    (Step(0.1, hold_seconds=10, minimum_units=20), Step(0.5, hold_seconds=10, minimum_units=20), Step(1.0)),
    checks=(ERRORS,),
    no_traffic_seconds=60,
)


class Stage:
    """A model that can be rolled out, and everything around it.

    Attributes:
        told: What others are told of what happens by itself: (status, step) of each change.
        slots: What the process reports about versions.
    """

    def __init__(self, registry, clock, database=None):
        self.registry = registry
        self.clock = clock
        self.database = database or registry.backend.database
        self.told = []
        self.emergency = ""
        self.slots = {f"m:1.0.{number}": (READY, "") for number in range(3)}
        publish_all(registry, "m", "1.0.0", "1.0.1", "1.0.2")
        move(registry, "m", "1.0.0")
        self.fleet = Fleet(self.database, FAST, clock)
        self.health = HealthLog(self.database, clock)
        self.store = RolloutStore(self.database, SUBJECTS, None, clock)
        self.controller = self.new_controller()
        self.follow()

    def new_controller(self, database=None, settings=SETTINGS, **parts):
        """Return another controller, as another process has it."""
        database = database or self.database
        experiments = ExperimentStore(self.registry, database, Readiness(Fleet(database, FAST, self.clock), 1.0))
        fleet = Fleet(database, FAST, self.clock)
        return Controller(
            RolloutStore(database, SUBJECTS, None, self.clock, self._tell),
            database,
            Surroundings(database, SUBJECTS, fleet, 120.0, lambda _rollout: self.emergency),
            Measurer(database, HealthLog(database, self.clock), experiments, **parts),
            Lease(database, LEASE, settings.lease_seconds, self.clock),
            settings,
            self.clock,
        )

    def _tell(self, _connection, rollout):
        self.told.append((rollout.status.value, rollout.state.step))

    def follow(self, process="a", revision=None):
        """Let a process report that it answers by the newest revision."""
        newest = self.database.revision() if revision is None else revision
        now = self.clock()
        self.fleet.report(ProcessStatus(process, "host", 1, now, now, newest, dict(self.slots), self.moved()))

    def moved(self):
        """Return what the process reports about configs."""
        return {}

    def serve(self, process="a", **versions):
        """Let a process report what its versions did: `v0=Counts(...)` is `1.0.0`."""
        named = {f"1.0.{name[1:]}": counts for name, counts in versions.items()}
        self.health.write(process, int(self.clock().timestamp() * 1e6), {1: {"m": named}})

    def ask(self, old=90, new=10, *, old_bad=0, new_bad=0):
        """Let a second pass in which both versions are asked."""
        self.serve(v0=answered(old, old_bad), v1=answered(new, new_bad))

    def second(self, **asked):
        """Let a second pass: requests come, the process follows, the controller turns."""
        self.clock.advance(1)
        if asked:
            self.ask(**asked)
        self.follow()
        self.controller.turn()
        return self.store.find("m")

    def begin(self, plan=PLAN, version="1.0.1", **options):
        """Create a rollout."""
        return self.store.create(RolloutRequest("m", version, plan, **options), principal="ann")

    def reach(self, status, *, seconds=200, **asked):
        """Let seconds pass until the rollout has a status."""
        for _ in range(seconds):
            rollout = self.second(**(asked or {"old": 90, "new": 10}))
            if rollout.status.value == status:
                return rollout
        raise AssertionError(f"it is {rollout.status}: {rollout.state.words}")

    @property
    def champion(self):
        return self.registry.model("m").aliases["champion"]


def turn_until(platform, name, *statuses):
    """Let the controller of a platform turn, beside a process that serves and follows, until a rollout is so far."""
    controller = platform.controller()
    while (found := platform.rollouts.find(name)).status.value not in statuses:
        now, slots = utc_now(), {f"{found.subject}:{found.candidate}": (READY, "")}
        newest = platform.fleet.revision()
        report = ProcessStatus("a", "host", os.getpid(), now, now, newest, slots, {found.subject: newest})
        platform.fleet.report(report)
        controller.turn()
    platform.fleet.leave("a")
    return found


def answered(requests, bad=0, place=50):
    """Return the counts of requests of which so many failed."""
    return Counts(requests=requests, errors=bad, latency={place: requests - bad})

"""`Rollout`: one version on its way to all traffic, as it is stored and as people are shown it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from crossfade.methods.stats.error_rate import ErrorRate, Window
from crossfade.releases.checks.phase import CheckCounts, CheckResult, Limits, Measurement
from crossfade.releases.checks.spec import CheckSpec
from crossfade.releases.plan import RolloutPlan
from crossfade.storage.times import from_text
from crossfade.traffic.allocation.allocation import Allocation
from crossfade.traffic.allocation.specs import AllocationSpec, VariantSpec
from crossfade.traffic.routing import ExperimentRoute

if TYPE_CHECKING:
    from sqlalchemy import Row

    from crossfade.ledger.metrics import Measures

STABLE, CANDIDATE = "stable", "candidate"
"""The two variants of every rollout."""
PERSON, APPROVAL = "person", "approval"
"""What a paused rollout waits for."""
UNITS = "units"
"""In the counts of a rollout whose requests no process reports: units that have had each version, each counted once."""


class RolloutStatus(StrEnum):
    """Where a rollout is in its life."""

    PREPARING = "preparing"
    """The new version is being loaded everywhere; nobody gets it."""
    PROGRESSING = "progressing"
    """It has the traffic of its step."""
    PAUSED = "paused"
    """It keeps what it has, and waits for a person. Failing checks bring it back all the same."""
    COMPLETED = "completed"
    """It has everything."""
    ROLLED_BACK = "rolled_back"
    """A check failed, or somebody returned to the version before: it has nothing."""
    ABORTED = "aborted"
    """It was stopped before its end: it has nothing."""


ACTIVE = (RolloutStatus.PREPARING, RolloutStatus.PROGRESSING, RolloutStatus.PAUSED)
_ENDS = (RolloutStatus.ROLLED_BACK, RolloutStatus.ABORTED)
LEGAL: dict[RolloutStatus, tuple[RolloutStatus, ...]] = {
    RolloutStatus.PREPARING: (RolloutStatus.PROGRESSING, RolloutStatus.PAUSED, RolloutStatus.COMPLETED, *_ENDS),
    RolloutStatus.PROGRESSING: (RolloutStatus.PROGRESSING, RolloutStatus.PAUSED, RolloutStatus.COMPLETED, *_ENDS),
    RolloutStatus.PAUSED: (RolloutStatus.PREPARING, RolloutStatus.PROGRESSING, RolloutStatus.COMPLETED, *_ENDS),
    RolloutStatus.COMPLETED: (RolloutStatus.ROLLED_BACK,),
    RolloutStatus.ROLLED_BACK: (),
    RolloutStatus.ABORTED: (),
}


class CheckState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a check has found in this step.

    Args:
        counts: Its results.
        last: The newest of them.
        measured_at: When that was.
    """

    counts: CheckCounts = CheckCounts()
    last: Measurement | None = None
    measured_at: datetime | None = None

    def phase(self, check: CheckSpec) -> CheckResult:
        """Return what its results add up to."""
        return self.counts.phase(
            Limits(
                check.failure_limit,
                check.inconclusive_limit,
                check.error_limit,
                check.success_count,
                check.success_in_a_row,
            )
        )

    def with_(self, measurement: Measurement, at: datetime) -> CheckState:
        """Return the state after one more look."""
        return CheckState(self.counts.count(measurement.result), measurement, at)

    def noted(self, measurement: Measurement, at: datetime) -> CheckState:
        """Return the state after a look that does not count: there was not enough yet to decide by."""
        return CheckState(self.counts, measurement, at)


class RolloutState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a rollout is.

    Args:
        step: Its place in the plan; -1 before the first.
        revision: Of the snapshot with its present traffic.
        entered_at: When it got that.
        live_at: When every process had followed, since when some process has served all the time.
        served: Processes that served when it was last looked at.
        requests: That the new version got in this step.
        asked_at: When it got the last one.
        checks: Name -> what it has found in this step.
        waiting_for: `person` or `approval`, when it is paused.
        approved: The step that a person let it go on from.
        resumed_at: When a person let it go on: what may take too long is counted from then.
        processes: Of a rolling rollout: those that answer with the new version.
        words: What it waits for, or why it went where it is.
        cause: Why it was begun.
    """

    step: int = -1
    revision: int = 0
    entered_at: datetime | None = None
    live_at: datetime | None = None
    served: tuple[str, ...] = ()
    requests: int = 0
    asked_at: datetime | None = None
    checks: dict[str, CheckState] = {}
    waiting_for: str = ""
    approved: int = -1
    resumed_at: datetime | None = None
    processes: tuple[str, ...] = ()
    words: str = ""
    cause: str = ""

    def beside(self, processes: tuple[str, ...]) -> RolloutState:
        """Return the state beside the processes that serve now.

        Where none is left of those that served, nobody did in between: the time that a step holds counts anew.
        """
        served = tuple(sorted(processes))
        if self.step < 0 or served == self.served:
            return self
        is_gap = bool(self.served) and not set(self.served) & set(served)
        return msgspec.structs.replace(self, served=served, live_at=None if is_gap else self.live_at)


class RolloutEvidence(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was counted since the beginning; it stays when steps change.

    Args:
        cursors: Process -> `at_us` of its newest report that is in here.
        tests: Check -> event -> the state of its test.
        proofs: The same for the tests that it is not worse, where that has to be shown.
        counts: Event -> all that there was of it.
        waiting: Event -> what is not in the tests yet, because only one of the versions was asked.
        slow_above: The latency above which an answer is slow, in seconds; None until enough is known.
        latency: Place among the bounds of latency -> answers of the old version, until enough are known for that.
    """

    cursors: dict[str, int] = {}
    tests: dict[str, dict[str, ErrorRate]] = {}
    proofs: dict[str, dict[str, ErrorRate]] = {}
    counts: dict[str, Window] = {}
    waiting: dict[str, Window] = {}
    slow_above: float | None = None
    latency: dict[int, int] = {}


class Rollout(msgspec.Struct, frozen=True):
    """One rollout.

    Args:
        name: Its name: the subject and a number.
        kind: What is released: `model` or `config`.
        subject: Its name.
        status: Where it is in its life.
        plan: By which steps.
        state: Where it is in the plan.
        stable: The version that answers everybody else.
        candidate: The new one.
        digest: Of the new one: its identity.
        weight: The fraction of traffic that the new one has.
        fast: Whether it returns to a version that had the traffic a moment ago, without steps.
        latched: Whether this version may not be rolled out again without a person's word.
        reason: Of the newest change.
        evidence: What was counted.
        seen: How often the row has changed: who changes it names what they saw.
        created_at, created_by, finished_at, held_until: Its history in short.
    """

    name: str
    kind: str
    subject: str
    status: RolloutStatus
    plan: RolloutPlan
    state: RolloutState
    stable: str
    candidate: str
    digest: str
    weight: float
    fast: bool
    latched: bool
    reason: str
    evidence: RolloutEvidence
    seen: int
    created_at: datetime
    created_by: str
    finished_at: datetime | None = None
    held_until: datetime | None = None

    @property
    def active(self) -> bool:
        """Whether it is under way."""
        return self.status in ACTIVE

    @property
    def is_read(self) -> bool:
        """Whether units are known to have the new version, of whom nobody hears again while they keep it."""
        return UNITS in self.evidence.counts and self.evidence.counts[UNITS][1] > 0

    def shown(self) -> Rollout:
        """Return what people are shown: all but the inner state of tests."""
        return msgspec.structs.replace(self, evidence=msgspec.structs.replace(self.evidence, tests={}, proofs={}))

    def check_state(self, check: CheckSpec) -> CheckState:
        """Return what a check has found in this step."""
        return self.state.checks.get(check.name, CheckState())


class RolloutTransition(msgspec.Struct, frozen=True):
    """One entry of a rollout's history.

    Args:
        seq: Counts up from 1.
        kind: What happened: `step`, `pause`, `resume`, `approve`, `complete`, `rollback`, `abort`.
        source, target: Statuses.
        step: Of the plan.
        weight: From then on.
        reason: Why, in words.
        epoch: Of the controller that did it; 0: a person.
        at: When.
        by: Who.
    """

    seq: int
    kind: str
    source: str
    target: str
    step: int
    weight: float
    reason: str
    epoch: int
    at: datetime
    by: str


def rollout_of(row: Row) -> Rollout:  # type: ignore[type-arg]
    """Return a rollout from its row."""
    return Rollout(
        name=row.name,
        kind=row.kind,
        subject=row.subject,
        status=RolloutStatus(row.status),
        plan=msgspec.json.decode(row.plan, type=RolloutPlan),
        state=msgspec.json.decode(row.state, type=RolloutState),
        stable=row.stable,
        candidate=row.candidate,
        digest=row.digest,
        weight=row.weight,
        fast=row.fast,
        latched=row.latched,
        reason=row.reason,
        evidence=msgspec.json.decode(row.evidence, type=RolloutEvidence),
        seen=row.seen,
        created_at=from_text(row.created_at),
        created_by=row.created_by,
        finished_at=None if row.finished_at is None else from_text(row.finished_at),
        held_until=None if row.held_until is None else from_text(row.held_until),
    )


def first_route(rollout: Rollout, declared: Measures) -> ExperimentRoute:
    """Return what serving has to know at the beginning: everybody gets the old version.

    Requests to a model are reported by every process. They leave exposures only where a check measures something else;
    of a config nothing else tells who has read it.
    """
    variants = (VariantSpec(STABLE, 1.0, rollout.stable), VariantSpec(CANDIDATE, 0.0, rollout.candidate))
    return ExperimentRoute(
        Allocation.create(AllocationSpec(rollout.name, variants)),
        model=rollout.subject if rollout.kind == "model" else "",
        versions={STABLE: rollout.stable, CANDIDATE: rollout.candidate},
        champion=rollout.stable,
        scored=declared.scored,
        recorded=rollout.kind != "model" or bool(declared.metrics),
    )


def next_route(
    route: ExperimentRoute, weight: float, *, shadow: bool = False, processes: tuple[str, ...] = ()
) -> ExperimentRoute:
    """Return the route with another weight. No unit leaves the new version while its weight grows."""
    allocation = route.allocation.revise({STABLE: 1 - weight, CANDIDATE: weight})
    shadows = (CANDIDATE,) if shadow else ()
    return msgspec.structs.replace(route, allocation=allocation, shadows=shadows, processes=processes)

"""`Experiment`: what is stored of one, and what people are shown."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from crossfade.experiments.spec import ExperimentSpec
from crossfade.storage.times import from_text
from crossfade.traffic.routing import ExperimentRoute

if TYPE_CHECKING:
    from sqlalchemy import Row


class Status(StrEnum):
    """Where an experiment is in its life."""

    DRAFT = "draft"
    """Written down, and nobody takes part."""
    RUNNING = "running"
    """Units take part, as its schedule says."""
    PAUSED = "paused"
    """Everybody gets the champion for now; units keep their slots."""
    STOPPED = "stopped"
    """Over, by somebody's word: nobody takes part any more, and outcomes that still come count."""
    DECIDED = "decided"
    """Over, by a decision."""


LEGAL: dict[Status, tuple[Status, ...]] = {
    Status.DRAFT: (Status.RUNNING, Status.STOPPED),
    Status.RUNNING: (Status.PAUSED, Status.STOPPED, Status.DECIDED),
    Status.PAUSED: (Status.RUNNING, Status.STOPPED, Status.DECIDED),
    Status.STOPPED: (Status.DECIDED,),
    Status.DECIDED: (),
}
ENDED = frozenset({Status.STOPPED, Status.DECIDED})


class Verdict(msgspec.Struct, frozen=True):
    """What was decided at the end.

    Args:
        action: `ship` a variant, `keep` the control, or `stop`.
        variant: Which one was shipped; empty for none.
        reason: Why, in words.
        by: Who decided: a principal, or `auto`.
    """

    action: str
    variant: str
    reason: str
    by: str


class Experiment(msgspec.Struct, frozen=True):
    """One experiment.

    Args:
        name: Its name.
        model: Whose traffic it takes; empty for a flag.
        kind: What it does to traffic.
        status: Where it is in its life.
        spec: What was asked for.
        revision: Of its allocation; 0 before it has started.
        weights: Variant -> fraction of the units that take part, now; empty where the context of each request decides.
        coverage: Fraction of its units that takes part, now.
        versions: Variant -> semver, since the start.
        champion: The semver of the champion when it started.
        reason: Of the newest change of its status.
        verdict: What was decided at its end.
        created_at, created_by, started_at, finished_at: Its history in short; the audit log has all of it.
        problem: Why what should happen by itself does not; empty when it does.
        behind: Of one that runs: others that run on the same model, are not of its layer, and started earlier. Whoever
            takes part in one of them takes part in this one only with a request that names it.
        latched: Of one that is not decided: variant -> the rollout that rolled its version back. What is latched may be
            compared again, and nothing ships it without a person's word.
    """

    name: str
    model: str
    kind: str
    status: Status
    spec: ExperimentSpec
    revision: int
    weights: dict[str, float]
    coverage: float
    versions: dict[str, str]
    created_at: datetime
    created_by: str
    champion: str = ""
    reason: str = ""
    verdict: Verdict | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    problem: str = ""
    behind: tuple[str, ...] = ()
    latched: dict[str, str] = {}

    @property
    def caution(self) -> str:
        """Which variants will not be shipped just like that, in words; empty for none."""
        return "; ".join(
            f"`{variant}` was rolled back by `{rollout}`, so it is not shipped without a person's word"
            for variant, rollout in self.latched.items()
        )


class ExperimentChange(msgspec.Struct, frozen=True):
    """One thing that was done to an experiment.

    Args:
        seq: Orders the changes; the revision that it made.
        what: `create`, `amend`, `reweight`, `learn`, or the status that it got, such as `running`.
        at: When.
        by: Who did it: a principal, `auto` or `bandit`.
        reason: Why, in words.
        details: What else was written down: the specification, weights, the status before.
    """

    seq: int
    what: str
    at: datetime
    by: str
    reason: str = ""
    details: dict[str, Any] = {}


def route_of(row: Row[Any]) -> ExperimentRoute | None:
    """Return what serving knows about an experiment, from its row."""
    return None if row.routing is None else msgspec.json.decode(row.routing, type=ExperimentRoute)


def experiment_of(row: Row[Any], at: datetime) -> Experiment:
    """Return an experiment as it is at a moment, from its row."""
    spec, route = msgspec.json.decode(row.spec, type=ExperimentSpec), route_of(row)
    now = spec.allocation() if route is None else route.allocation.spec.at(at)
    return Experiment(
        name=row.name,
        model=row.model,
        kind=spec.kind,
        status=Status(row.status),
        spec=spec,
        revision=0 if route is None else route.allocation.revision,
        weights={} if spec.contextual else {variant.name: variant.weight for variant in now.variants},
        coverage=now.coverage,
        versions={} if route is None else dict(route.versions),
        created_at=from_text(row.created_at),
        created_by=row.created_by,
        champion="" if route is None else route.champion,
        reason=row.reason,
        verdict=None if row.decision is None else msgspec.json.decode(row.decision, type=Verdict),
        started_at=None if row.started_at is None else from_text(row.started_at),
        finished_at=None if row.finished_at is None else from_text(row.finished_at),
        problem=row.problem,
    )

"""What the engine has to know about a kind of subject."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from sqlalchemy import Connection

from crossfade.configs.checking import Reference
from crossfade.registry.requests import ProcessStatus
from crossfade.releases.plan import RolloutPlan
from crossfade.releases.rollout import Rollout
from crossfade.traffic.routing import ExperimentRoute


class Release(NamedTuple):
    """A version that may be released.

    Attributes:
        version: How it is called.
        digest: Its identity.
        references: What it names that has to be there.
    """

    version: str
    digest: str
    references: tuple[Reference, ...] = ()


class Refusal(NamedTuple):
    """Why something cannot be rolled out.

    Attributes:
        problem: In words.
        see: The command to go on with.
    """

    problem: str
    see: str


class Settling(NamedTuple):
    """How a rollout ends for its subject.

    Attributes:
        version: Gets everything.
        back: Whether that is the version before, because something was wrong with the new one.
        principal: Who wants it.
        reason: Why.
        now: The present moment.
    """

    version: str
    back: bool
    principal: str
    reason: str
    now: datetime


class Subject(Protocol):
    """One kind of subject. What takes a connection works inside the transaction of whoever calls it."""

    kind: str

    def plan(self, wanted: str | RolloutPlan) -> RolloutPlan:
        """Return the plan that somebody asks for, checked, as it suits this kind of subject.

        Raises:
            InvalidPlanError: There is none of this name, or it cannot be.
        """

    def stable(self, connection: Connection, name: str) -> str:
        """Return the version that everybody gets now; empty when nobody gets anything.

        Raises:
            NotFoundError: There is no such subject.
        """

    def release(self, connection: Connection, name: str, version: str) -> Release | Refusal:
        """Return a version that may be released, or say why it may not."""

    def missing(self, name: str, release: Release) -> Refusal | None:
        """Say what a version names that is not there. Never within a transaction: other servers may be asked."""

    def refuse(self, connection: Connection, name: str, experiment: str) -> Refusal | None:
        """Say why this subject cannot be rolled out now; None when it can. That experiment may have its traffic."""

    def route(
        self, connection: Connection, rollout: Rollout, route: ExperimentRoute, *, principal: str, reason: str
    ) -> None:
        """Make readers follow a route. Models need nothing: their snapshot reads rollouts."""

    def withdraw(self, connection: Connection, rollout: Rollout, *, failed: bool, principal: str, reason: str) -> None:
        """Take the new version away from whoever has it already; `failed` tells whether something was wrong with it."""

    def settle(self, connection: Connection, rollout: Rollout, move: Settling) -> None:
        """Give a version everything for good."""

    def behind(
        self, connection: Connection, rollout: Rollout, processes: Sequence[ProcessStatus]
    ) -> tuple[ProcessStatus, ...]:
        """Return the processes that do not answer by the rollout's present route yet."""

    def prepared(self, rollout: Rollout, processes: Sequence[ProcessStatus]) -> tuple[bool, str]:
        """Tell whether every process has the new version ready, and why one never will."""

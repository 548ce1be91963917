"""Configs: whoever reads one gets the active version, and units of a rollout the new one."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection

from crossfade.configs.record import ConfigStatus, onward
from crossfade.configs.references import References
from crossfade.configs.store import ConfigStore
from crossfade.errors import ConfigVersionNotFoundError, InvalidPlanError
from crossfade.registry.requests import ProcessStatus
from crossfade.releases.checks.spec import ErrorRateCheck, ThresholdCheck
from crossfade.releases.plan import RolloutPlan, preset
from crossfade.releases.rollout import Rollout
from crossfade.releases.subjects.port import Refusal, Release, Settling
from crossfade.traffic.routing import ExperimentRoute

_FIT = {ConfigStatus.APPROVED, ConfigStatus.DEPLOYING, ConfigStatus.ACTIVE, ConfigStatus.DEPRECATED}
"""Statuses of versions that somebody agreed to."""


_LONGEST = 9
"""Digits of a number."""


class ConfigSubject:
    """Implements `Subject` for configs.

    Args:
        store: What is written about them.
        references: Looks up what documents name; None: nobody does.
    """

    kind = "config"

    def __init__(self, store: ConfigStore, references: References | None = None) -> None:
        self._store = store
        self._references = references

    def plan(self, wanted: str | RolloutPlan) -> RolloutPlan:
        """Return the plan; nobody counts the failures of a document, so named plans ask a person before their end.

        Raises:
            InvalidPlanError: There is none of this name, or it wants what only models have.
        """
        if not isinstance(wanted, str):
            return _comparable(wanted.checked())
        named = preset(wanted)
        steps = [msgspec.structs.replace(step, minimum_units=0) for step in named.steps if not step.shadow]
        if len(steps) > 1:
            steps[-2] = msgspec.structs.replace(steps[-2], approval=True)
        return msgspec.structs.replace(named, steps=tuple(steps), kind="canary", checks=()).checked()

    def stable(self, connection: Connection, name: str) -> str:
        """Return the number of the active version."""
        active = self._store.row(connection, name).active
        return "" if active is None else str(active)

    def release(self, connection: Connection, name: str, version: str) -> Release | Refusal:
        """Return a version that was approved."""
        see = f"crossfade configs versions {name}"
        if not (version.isascii() and version.isdigit() and len(version) <= _LONGEST):
            return Refusal("versions are numbers", see)
        try:
            found = self._store.version(connection, name, int(version))
        except ConfigVersionNotFoundError:
            return Refusal("there is none", see)
        if found.status not in _FIT:
            problem = f"it is {found.status.value}, and has to be approved"
            return Refusal(problem, onward(name, found.number, found.status))
        references = () if found.validation is None else found.validation.references
        return Release(str(found.number), found.digest, references)

    def missing(self, name: str, release: Release) -> Refusal | None:
        """Look up what the document refers to."""
        for missing in () if self._references is None else self._references.missing(release.references):
            return Refusal(f"at `{missing.path}`, {missing.problem}", f"crossfade configs versions {name}")
        return None

    def refuse(self, connection: Connection, name: str, experiment: str) -> None:
        """Refuse nothing: who reads a config is decided by rollouts alone."""

    def route(
        self, connection: Connection, rollout: Rollout, route: ExperimentRoute, *, principal: str, reason: str
    ) -> None:
        """Let units read the version that the route gives them."""
        number = int(rollout.candidate)
        if self._store.version(connection, rollout.subject, number).status is not ConfigStatus.DEPLOYING:
            status = ConfigStatus.DEPLOYING
            self._store.mark(connection, rollout.subject, number, status, principal=principal, reason=reason)
        self._store.route(connection, rollout.subject, route, principal=principal, reason=reason)

    def withdraw(self, connection: Connection, rollout: Rollout, *, failed: bool, principal: str, reason: str) -> None:
        """Let everybody read the active version; the new one is what it was, unless something was wrong with it."""
        said = {"principal": principal, "reason": reason}
        self._store.route(connection, rollout.subject, None, **said)
        self._store.withdraw(connection, rollout.subject, int(rollout.candidate), failed=failed, **said)

    def settle(self, connection: Connection, rollout: Rollout, move: Settling) -> None:
        """Let everybody read a version."""
        number = int(move.version)
        if self._store.row(connection, rollout.subject).active == number:  # somebody was quicker
            self._store.route(connection, rollout.subject, None, principal=move.principal, reason=move.reason)
            return
        self._store.activate(
            connection,
            rollout.subject,
            number,
            principal=move.principal,
            reason=move.reason,
            rollback=move.back,
        )

    def behind(
        self, connection: Connection, rollout: Rollout, processes: Sequence[ProcessStatus]
    ) -> tuple[ProcessStatus, ...]:
        """Look at what processes report of the board that they read configs from, which may be away alone."""
        changed = self._store.row(connection, rollout.subject).changed
        return tuple(process for process in processes if process.configs.get(rollout.subject, 0) < changed)

    def prepared(self, rollout: Rollout, processes: Sequence[ProcessStatus]) -> tuple[bool, str]:  # noqa: ARG002
        """Tell that it is: a document needs no loading."""
        return True, ""


def _comparable(plan: RolloutPlan) -> RolloutPlan:
    """Refuse what a config has not got: processes that count its failures or read it, and copies of requests."""
    for check in plan.checks:
        if isinstance(check, ErrorRateCheck) or (isinstance(check, ThresholdCheck) and check.series is not None):
            words = f"the check `{check.name}` looks at answers, and a config gives none"
            raise InvalidPlanError(problem=f"{words}; use `metric`, a `query`, `experiment` or `webhook`")
    if plan.kind == "rolling":
        raise InvalidPlanError(problem="a config is read by units, whichever process they ask: use `canary`")
    if any(step.shadow for step in plan.steps):
        raise InvalidPlanError(problem="a config has no shadow: there are no answers to compare")
    return plan

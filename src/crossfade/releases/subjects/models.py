"""Models: whoever is champion answers the bare name."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select

from crossfade.core.identity import CHAMPION, check_name
from crossfade.registry.acceptance import MAX_REASON
from crossfade.registry.native_changes import move_alias
from crossfade.registry.native_records import require_model
from crossfade.registry.requests import ProcessStatus
from crossfade.registry.versions import REJECTED
from crossfade.releases.plan import RolloutPlan, preset
from crossfade.releases.rollout import Rollout
from crossfade.releases.subjects.port import Refusal, Release, Settling
from crossfade.storage.tables import ROUTED, aliases, experiments, models, versions
from crossfade.traffic.fleet import FAILED, READY
from crossfade.traffic.routing import ExperimentRoute

_LONGEST = 64
"""Characters of a semver, or of the name of an alias."""


class ModelSubject:
    """Implements `Subject` for models.

    The champion and the rollout change in one transaction, which needs records of our own: this calls what the native
    backend calls.
    """

    kind = "model"

    def plan(self, wanted: str | RolloutPlan) -> RolloutPlan:
        """Return the plan as it is."""
        return (preset(wanted) if isinstance(wanted, str) else wanted).checked()

    def stable(self, connection: Connection, name: str) -> str:
        """Return the champion."""
        require_model(connection, check_name(name))
        here = (aliases.c.model == name) & (aliases.c.alias == CHAMPION)
        return connection.scalar(select(aliases.c.semver).where(here)) or ""

    def release(self, connection: Connection, name: str, version: str) -> Release | Refusal:
        """Return a version by its semver, or by an alias."""
        found = None
        if version.isprintable() and len(version) <= _LONGEST:
            pointed = select(aliases.c.semver).where((aliases.c.model == name) & (aliases.c.alias == version))
            semver = connection.scalar(pointed) or version
            here = (versions.c.model == name) & (versions.c.semver == semver)
            columns = (versions.c.semver, versions.c.manifest_digest, versions.c.stage)
            found = connection.execute(select(*columns).where(here)).one_or_none()
        if found is None or found.stage == REJECTED:
            problem = "there is none" if found is None else "it was rejected"
            return Refusal(problem, f"crossfade models versions {name}")
        return Release(found.semver, found.manifest_digest)

    def missing(self, name: str, release: Release) -> None:
        """Say nothing: a version of a model is complete."""

    def refuse(self, connection: Connection, name: str, experiment: str) -> Refusal | None:
        """Only one thing at a time decides who answers a model; an experiment may hand its traffic over."""
        if connection.scalar(select(models.c.unloaded).where(models.c.name == name)):
            return Refusal(f"somebody asked not to serve `{name}`", f"crossfade models show {name}")
        running = (experiments.c.model == name) & experiments.c.status.in_(ROUTED) & (experiments.c.name != experiment)
        found = connection.scalar(select(experiments.c.name).where(running).limit(1))
        if found is None:
            return None
        problem = f"experiment `{found}` has its traffic; decide or stop that first"
        return Refusal(problem, f"crossfade experiments show {found}")

    def route(
        self, connection: Connection, rollout: Rollout, route: ExperimentRoute, *, principal: str, reason: str
    ) -> None:
        """Do nothing: snapshots read rollouts."""

    def withdraw(self, connection: Connection, rollout: Rollout, *, failed: bool, principal: str, reason: str) -> None:
        """Do nothing: snapshots read rollouts."""

    def settle(self, connection: Connection, rollout: Rollout, move: Settling) -> None:
        """Make a version the champion; its history says what the rollout was begun for, too."""
        cause = f"; begun for: {rollout.state.cause}" if rollout.state.cause else ""
        move_alias(
            connection,
            rollout.subject,
            CHAMPION,
            move.version,
            expected=None,
            principal=move.principal,
            reason=f"rollout {rollout.name}: {move.reason}{cause}"[:MAX_REASON],
            now=move.now,
        )

    def behind(
        self,
        connection: Connection,  # noqa: ARG002
        rollout: Rollout,
        processes: Sequence[ProcessStatus],
    ) -> tuple[ProcessStatus, ...]:
        """Look at the snapshots that processes report."""
        return tuple(process for process in processes if process.revision < rollout.state.revision)

    def prepared(self, rollout: Rollout, processes: Sequence[ProcessStatus]) -> tuple[bool, str]:
        """Look at the slots that processes report."""
        ref, ready = f"{rollout.subject}:{rollout.candidate}", True
        for process in processes:
            state, problem = process.slots.get(ref, ("", ""))
            if state == FAILED and process.revision >= rollout.state.revision:
                return False, f"process {process.host}/{process.pid}: {problem}"
            ready = ready and state == READY
        return ready, ""

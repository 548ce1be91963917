"""Configs: whoever reads one gets the active version, and units of a rollout the new one."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from crossfade.configs.record import ConfigStatus
from crossfade.configs.store import ConfigStore
from crossfade.errors import ConfigVersionNotFoundError
from crossfade.registry.requests import ProcessStatus
from crossfade.releases.rollout import Rollout
from crossfade.releases.subjects.port import Release, Settling
from crossfade.traffic.routing import ExperimentRoute

_FIT = {ConfigStatus.APPROVED, ConfigStatus.DEPLOYING, ConfigStatus.ACTIVE, ConfigStatus.DEPRECATED}
"""Statuses of versions that somebody agreed to."""


class ConfigSubject:
    """Implements `Subject` for configs.

    Args:
        store: What is written about them.
    """

    kind = "config"

    def __init__(self, store: ConfigStore) -> None:
        self._store = store

    def stable(self, connection: Connection, name: str) -> str:
        """Return the number of the active version."""
        active = self._store.row(connection, name).active
        return "" if active is None else str(active)

    def release(self, connection: Connection, name: str, version: str) -> Release | None:
        """Return a version that was approved."""
        if not (version.isascii() and version.isdigit()):
            return None
        try:
            found = self._store.version(connection, name, int(version))
        except ConfigVersionNotFoundError:
            return None
        return Release(str(found.number), found.digest) if found.status in _FIT else None

    def refuse(self, connection: Connection, name: str, experiment: str) -> str:  # noqa: ARG002 - the port's
        """Refuse nothing: who reads a config is decided by rollouts alone."""
        return ""

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
        """Let everybody read the active version; the new one stays approved unless something was wrong with it."""
        self._store.route(connection, rollout.subject, None, principal=principal, reason=reason)
        status = ConfigStatus.ROLLED_BACK if failed else ConfigStatus.APPROVED
        number = int(rollout.candidate)
        if self._store.version(connection, rollout.subject, number).status is ConfigStatus.DEPLOYING:
            self._store.mark(connection, rollout.subject, number, status, principal=principal, reason=reason)

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

    def prepared(self, rollout: Rollout, processes: Sequence[ProcessStatus]) -> tuple[bool, str]:  # noqa: ARG002
        """Tell that it is: a document needs no loading."""
        return True, ""

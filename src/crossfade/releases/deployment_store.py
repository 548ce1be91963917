"""`DeploymentStore`: what people do with deployments: deploy, list, see how they are and how they do, undeploy.

Every change is one transaction: the deployment, the revision that processes follow, and the audit entry.
"""

from __future__ import annotations

import difflib
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, delete, insert, select, update

from crossfade.core.clock import Clock, utc_now
from crossfade.core.hashing import canonical_json
from crossfade.core.identity import ModelRef, Semver, check_name
from crossfade.errors import (
    DeploymentConflictError,
    DeploymentNotFoundError,
    InvalidSemverError,
    NotFoundError,
    RejectedVersionError,
)
from crossfade.registry.acceptance import attribution
from crossfade.registry.pages import check_limit, number_cursor, page_of
from crossfade.registry.registry import LOCAL, Registry
from crossfade.registry.versions import REJECTED, Page, Version
from crossfade.releases.deployment import (
    WINDOWS,
    Deployment,
    DeploymentHealth,
    DeploymentSpec,
    DeploymentState,
    DeploymentStatus,
    Failure,
    ProcessReplicas,
    VersionHealth,
    deployment_of,
    spec_of,
)
from crossfade.storage.changes import commit_change
from crossfade.storage.database import Database
from crossfade.storage.tables import deployments
from crossfade.storage.times import to_text
from crossfade.traffic.deployed import Deployed
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.health import Health, HealthLog

_KIND = "deployments"
KEEPER = "deployments"
"""The principal of what happens to deployments by itself."""
_NAMES = 1000

Fitting = Callable[[Deployed], int]
"""How many replicas this machine has got the resources for; raises `InsufficientResourcesError`."""


class DeploymentStore:
    """The deployments of a platform.

    Args:
        registry: Where versions are.
        database: Where deployments are.
        fleet: The processes that run them.
        health: How versions do.
        fitting: Says what this machine has got; asked when it is this one that serves.
        clock: What time it is.

    Example:
        >>> store.deploy(DeploymentSpec("churn_web", "churn", "1.1.0"))  # doctest: +SKIP
        >>> store.status("churn_web").ready  # doctest: +SKIP
        2
    """

    def __init__(
        self,
        registry: Registry,
        database: Database,
        fleet: Fleet,
        health: HealthLog,
        fitting: Fitting,
        clock: Clock = utc_now,
    ) -> None:
        self._registry = registry
        self._database = database
        self._fleet = fleet
        self._health = health
        self._fitting = fitting
        self._clock = clock

    # --- looking ---

    def find(self, name: str) -> Deployment:
        """Return a deployment.

        Raises:
            DeploymentNotFoundError: There is none of this name.
        """
        with self._database.read() as connection:
            row = _row(connection, name)
        return self._shown(row)

    def list(
        self, *, model: str = "", environment: str = "", status: str = "", cursor: str = "", limit: int = 100
    ) -> Page[Deployment]:
        """List deployments, newest first.

        Raises:
            InvalidPageError: The cursor or the limit is wrong.
        """
        where: ColumnElement[bool] = deployments.c.number < number_cursor(_KIND, cursor)
        if model:
            where &= deployments.c.model == check_name(model)
        if environment:
            where &= deployments.c.environment == check_name(environment, "environment")
        if status:
            where &= deployments.c.status == status
        query = select(deployments).where(where).order_by(deployments.c.number.desc()).limit(check_limit(limit) + 1)
        with self._database.read() as connection:
            rows: Sequence[Row[Any]] = connection.execute(query).all()
        page = page_of(_KIND, rows, limit, lambda row: row.number)
        return Page(tuple(map(self._shown, page.items)), page.next_cursor)

    def status(self, name: str) -> DeploymentStatus:
        """Return a deployment, and what every live process says of it.

        Raises:
            DeploymentNotFoundError: There is none of this name.
        """
        return self.status_of(self.find(name))

    def status_of(self, deployment: Deployment) -> DeploymentStatus:
        """Return what every live process says of a deployment."""
        reports = self._fleet.deployments()
        said = tuple(
            ProcessReplicas(process.process, process.host, process.pid, process.seen_at, report)
            for process in self._fleet.live()
            for report in reports.get(process.process, ())
            if report.name == deployment.name
        )
        return DeploymentStatus(deployment, said)

    def health(self, name: str) -> DeploymentHealth:
        """Return how a deployment does: its versions over the last minute, five minutes and hour.

        Raises:
            DeploymentNotFoundError: There is none of this name.
        """
        status = self.status(name)
        deployment = status.deployment
        versions = dict.fromkeys(each.report.version for each in status.processes if each.report.version)
        if deployment.version:
            versions = {deployment.version: None, **versions}
        found = {seconds: self._health.windows(seconds, model=deployment.model) for seconds in WINDOWS}
        reports = [process.report for process in status.processes]
        return DeploymentHealth(
            name,
            deployment.status,
            memory_bytes=sum(report.memory_bytes for report in reports),
            cpu=round(sum(report.cpu for report in reports), 4),
            queue_depth=sum(report.queue_depth for report in reports),
            windows=tuple(
                _version_health(version, windows.get(version, Health(seconds=seconds)))
                for seconds, windows in found.items()
                for version in versions
            ),
        )

    # --- changing ---

    def deploy(
        self, spec: DeploymentSpec, *, reason: str = "", principal: str = LOCAL, dry_run: bool = False
    ) -> tuple[Deployment, bool]:
        """Let a version run so, or let a deployment run something else. It is on probation first.

        Returns:
            The deployment, and whether anything changed: the same specification again changes nothing.

        Raises:
            InvalidInputError: It cannot be.
            DeploymentConflictError: The name is taken for another model, or another deployment runs the version there.
            InsufficientResourcesError: This machine serves, and has not got the resources.
            RejectedVersionError, NotFoundError: There is no such version to run.
        """
        spec, said = spec.checked(), attribution(principal, reason)
        version = self._version(spec)
        if self._serves_here():
            self._fitting(spec.terms(0))
        text = canonical_json(spec).decode()
        with self._database.write() as connection:
            known = _find(connection, spec.name)
            self._check_place(connection, spec, version.version, known)
            if known is not None and known.spec == text and known.status != DeploymentState.FAILED:
                return deployment_of(known, version.version), False
            now = self._clock()
            details = {"spec": msgspec.json.decode(text), "version": version.version, **said}
            number = self._change(connection, spec.model, spec.name, "deployment.deploy", said, details, now)
            values = {
                "environment": spec.environment,
                "status": DeploymentState.DEPLOYING.value,
                "generation": 1 if known is None else known.generation + 1,
                "spec": text,
                "previous": None if known is None else _proven(known),
                "reason": said["reason"],
                "changed_at": to_text(now),
                "changed_by": said["principal"],
            }
            if known is None:
                first = {"created_at": to_text(now), "created_by": said["principal"], "number": number}
                connection.execute(insert(deployments).values(name=spec.name, model=spec.model, **first, **values))
            else:
                connection.execute(update(deployments).where(deployments.c.name == spec.name).values(**values))
            made = deployment_of(_row(connection, spec.name), version.version)
            if dry_run:
                connection.rollback()
        return made, True

    def undeploy(self, name: str, *, reason: str = "", principal: str = LOCAL, dry_run: bool = False) -> Deployment:
        """Forget a deployment: its version runs as it would without one, if anything else wants it; else it goes.

        Returns:
            What it was.

        Raises:
            DeploymentNotFoundError: There is none of this name.
        """
        said = attribution(principal, reason)
        found = self.find(name)
        with self._database.write() as connection:
            row = _row(connection, name)
            details = {"spec": msgspec.json.decode(row.spec), **said}
            self._change(connection, row.model, name, "deployment.undeploy", said, details, self._clock())
            connection.execute(delete(deployments).where(deployments.c.name == name))
            if dry_run:
                connection.rollback()
        return found

    # --- what happens by itself ---

    def settle(self, deployment: Deployment, guard: Callable[[Connection], None]) -> bool:
        """Note that a deployment has proved itself; what ran before may go. Tells whether it still was the same.

        Args:
            deployment: As it was judged.
            guard: Raises within the transaction unless this process may act.
        """
        values = {"status": DeploymentState.RUNNING.value, "previous": None}
        return self._act(deployment, guard, "deployment.proved", "it has come up everywhere", values)

    def give_up(self, deployment: Deployment, reason: str, guard: Callable[[Connection], None]) -> bool:
        """Go back to what ran before, if that is wanted and there is something; once for every generation.

        What ran before is another specification. Where an alias moved under the same one there is none: to move it back
        is for whoever moved it.

        Returns:
            Whether it still was the same: another process, or a person, may have been faster.
        """
        if deployment.spec.version != deployment.version:
            reason = f"`{deployment.spec.version}` means {deployment.version}; {reason}"
        failure = Failure(deployment.generation, deployment.spec, self._clock(), reason)
        values: dict[str, object] = {"failure": msgspec.json.encode(failure).decode(), "previous": None}
        if deployment.previous is None or not deployment.spec.rollback_on_error:
            if deployment.status is DeploymentState.FAILED:
                return False
            values |= {"status": DeploymentState.FAILED.value}
            if deployment.previous is not None:
                values.pop("previous")  # it goes on beside, until a person decides
            return self._act(deployment, guard, "deployment.fail", reason, values)
        values |= {
            "status": DeploymentState.ROLLED_BACK.value,
            "generation": deployment.generation + 1,
            "spec": canonical_json(deployment.previous).decode(),
            "environment": deployment.previous.environment,
            "changed_at": to_text(self._clock()),
            "changed_by": KEEPER,
        }
        return self._act(deployment, guard, "deployment.rollback", reason, values)

    def _act(
        self,
        deployment: Deployment,
        guard: Callable[[Connection], None],
        action: str,
        reason: str,
        values: Mapping[str, object],
    ) -> bool:
        """Change a deployment unless it has changed since it was judged."""
        with self._database.write() as connection:
            guard(connection)
            row = _find(connection, deployment.name)
            if row is None or row.generation != deployment.generation or row.status != deployment.status:
                return False
            said = attribution(KEEPER, reason[:_REASON])
            details = {"generation": row.generation, **said}
            self._change(connection, row.model, row.name, action, said, details, self._clock())
            where = deployments.c.name == row.name
            connection.execute(update(deployments).where(where).values(reason=said["reason"], **values))
        return True

    def _change(
        self,
        connection: Connection,
        model: str,
        name: str,
        action: str,
        said: Mapping[str, str],
        details: Mapping[str, object],
        now: datetime,
    ) -> int:
        return commit_change(
            connection,
            kind="deployment",
            model=model,
            subject=name,
            principal=said["principal"],
            action=action,
            details=details,
            now=now,
        )

    def _check_place(self, connection: Connection, spec: DeploymentSpec, version: str, known: Row[Any] | None) -> None:
        """Refuse a second deployment of a version in an environment, and a name that means another model."""
        if known is not None and known.model != spec.model:
            problem = f"is of `{known.model}`; undeploy it first"
            raise DeploymentConflictError(name=spec.name, problem=problem)
        model = self._registry.model(spec.model)
        if model.unloaded:
            problem = f"cannot run: somebody asked not to serve `{spec.model}`"
            raise DeploymentConflictError(name=spec.name, problem=problem)
        query = select(deployments).where(
            deployments.c.model == spec.model,
            deployments.c.environment == spec.environment,
            deployments.c.name != spec.name,
        )
        for row in connection.execute(query):
            other = spec_of(row.spec).version
            if model.aliases.get(other, other) == version:
                problem = f"would run `{spec.model}:{version}` in `{spec.environment}`, which `{row.name}` runs already"
                raise DeploymentConflictError(name=spec.name, problem=problem)

    def _version(self, spec: DeploymentSpec) -> Version:
        version = self._registry.resolve(_ref(spec))
        if version.stage == REJECTED:
            raise RejectedVersionError(ref=version.ref, name=spec.model, alias=spec.version)
        return version

    def _shown(self, row: Row[Any]) -> Deployment:
        try:
            version = self._registry.resolve(_ref(spec_of(row.spec))).version
        except NotFoundError:  # an alias that was removed
            version = ""
        return deployment_of(row, version)

    def _serves_here(self) -> bool:
        return any(process.host == socket.gethostname() for process in self._fleet.live())


def _ref(spec: DeploymentSpec) -> ModelRef:
    try:
        return ModelRef(spec.model, version=str(Semver.parse(spec.version)))
    except InvalidSemverError:
        return ModelRef(spec.model, alias=check_name(spec.version, "alias"))


def _proven(row: Row[Any]) -> str | None:
    """Return what is gone back to when the next specification fails: the newest that has proved itself."""
    proven: str | None = row.spec if row.status in _PROVEN else row.previous
    return proven


def _find(connection: Connection, name: str) -> Row[Any] | None:
    return connection.execute(select(deployments).where(deployments.c.name == name)).one_or_none()


def _row(connection: Connection, name: str) -> Row[Any]:
    row = _find(connection, name) if len(name) <= 64 and "\0" not in name else None
    if row is None:
        names = list(connection.scalars(select(deployments.c.name).limit(_NAMES)))
        near = difflib.get_close_matches(name, names, 1)
        raise DeploymentNotFoundError(name=name, suggestion=f"did you mean `{near[0]}`? " if near else "")
    return row


def _version_health(version: str, health: Health) -> VersionHealth:
    return VersionHealth(
        version,
        health.seconds,
        health.requests,
        health.requests_per_second,
        *(health.p50_seconds, health.p95_seconds, health.p99_seconds),
        *(health.error_rate, health.refused_rate, health.fallback_rate, health.unsafe_rate),
        batch_size=health.batch_size,
        utilisation=health.utilisation,
        cpu=health.cpu_seconds / health.seconds,
        memory_bytes=health.memory_bytes,
        queue_depth=health.queue_depth,
    )


_PROVEN = frozenset({DeploymentState.RUNNING.value, DeploymentState.ROLLED_BACK.value})
_REASON = 1_900

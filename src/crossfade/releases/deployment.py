"""`DeploymentSpec`: how a version shall run; `Deployment`: what is stored of it, and what people are shown."""

from __future__ import annotations

import math
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from crossfade.core.decoding import problem_of
from crossfade.core.identity import CHAMPION, Semver, check_name
from crossfade.errors import InvalidDeploymentError, InvalidSemverError
from crossfade.storage.times import from_text
from crossfade.traffic.deployed import (
    PRODUCTION,
    Deployed,
    DeploymentReport,
    Probe,
    ReplicaRange,
    Resources,
    Wanted,
)

if TYPE_CHECKING:
    from sqlalchemy import Row

WINDOWS = (60.0, 300.0, 3600.0)
"""Seconds that the health of a deployment is shown over."""
_LEAST_PROBATION_SECONDS = 10.0


class DeploymentSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a version shall run. It moves no traffic: aliases, experiments and rollouts do.

    Args:
        name: Of the deployment, of letters, digits and `_`.
        model: The model.
        version: A semver; or an alias, and then whatever it points to.
        environment: Serving processes run the deployments of their environment (the setting `serving.environment`).
        replicas: How many copies each serving process keeps.
        resources: What each copy gets.
        probe: How an idle copy proves that it lives.
        target_utilisation: Fraction of their time that copies shall be busy: between the fewest and the most, their
            number follows.
        rollback_on_error: Whether what ran before comes back when this does not come up.

    Example:
        >>> DeploymentSpec("churn_web", "churn", replicas=ReplicaRange(2, 4)).checked().version
        'champion'
    """

    name: str
    model: str
    version: Annotated[str, msgspec.Meta(max_length=64)] = CHAMPION
    environment: str = PRODUCTION
    replicas: ReplicaRange = ReplicaRange()
    resources: Resources = Resources()
    probe: Probe = Probe()
    target_utilisation: float = 0.7
    rollback_on_error: bool = True

    def checked(self) -> DeploymentSpec:
        """Return it if it can be.

        Raises:
            InvalidNameError: A name in it is none.
            InvalidDeploymentError: It cannot be.
        """
        check_name(self.name, "deployment")
        check_name(self.model)
        check_name(self.environment, "environment")
        if self.replicas.max and self.replicas.max < self.replicas.min:
            problem = f"at most {self.replicas.max} replicas are fewer than at least {self.replicas.min}"
            raise InvalidDeploymentError(name=self.name, problem=problem)
        if not (math.isfinite(self.target_utilisation) and 0.05 <= self.target_utilisation <= 1.0):
            problem = f"a target utilisation of {self.target_utilisation} is not between 0.05 and 1"
            raise InvalidDeploymentError(name=self.name, problem=problem)
        try:
            return self._settled(str(Semver.parse(self.version)))
        except InvalidSemverError:
            return self._settled(check_name(self.version, "alias"))

    def _settled(self, version: str) -> DeploymentSpec:
        try:  # made in Python, nothing of it has been looked at
            return msgspec.convert(msgspec.to_builtins(self) | {"version": version}, DeploymentSpec)
        except msgspec.ValidationError as error:
            raise InvalidDeploymentError(name=self.name, problem=problem_of(error, DeploymentSpec)) from error

    @property
    def probation_seconds(self) -> float:
        """How long a new deployment has to run without trouble: until as many probes as may fail have been made."""
        return max(_LEAST_PROBATION_SECONDS, self.probe.interval_seconds * self.probe.failure_threshold)

    def terms(self, generation: int) -> Deployed:
        """Return what serving processes are told, of a generation."""
        return msgspec.convert(msgspec.to_builtins(self), Wanted).deployed(generation)


class DeploymentState(StrEnum):
    """How a deployment is: the values of its status."""

    DEPLOYING = "deploying"
    """On probation: what ran before goes on beside it."""
    RUNNING = "running"
    """It has proved itself."""
    ROLLED_BACK = "rolled_back"
    """The newest specification did not come up, so the one before runs again."""
    FAILED = "failed"
    """It did not come up, and there is nothing to go back to; processes go on trying."""


class Failure(msgspec.Struct, frozen=True):
    """What did not come up.

    Args:
        generation: Which generation it was.
        spec: What was asked for.
        at: When it was given up.
        reason: Why, in words.
    """

    generation: int
    spec: DeploymentSpec
    at: datetime
    reason: str


class Deployment(msgspec.Struct, frozen=True):
    """One deployment.

    Args:
        name: Its name.
        model, environment: From its specification.
        version: The semver that its version or alias means now; empty when it means none.
        status: How it is.
        generation: Grows whenever something else shall run.
        spec: What shall run.
        previous: What ran before, as long as it goes on beside it.
        failure: What did not come up last.
        reason: Of the newest change.
        created_at, created_by, changed_at, changed_by: Its history in short; the audit log has all of it.
    """

    name: str
    model: str
    environment: str
    version: str
    status: DeploymentState
    generation: int
    spec: DeploymentSpec
    previous: DeploymentSpec | None
    failure: Failure | None
    reason: str
    created_at: datetime
    created_by: str
    changed_at: datetime
    changed_by: str


class ProcessReplicas(msgspec.Struct, frozen=True):
    """What one serving process says.

    Args:
        process, host, pid: Which.
        seen_at: When it was heard from last.
        report: What it said.
    """

    process: str
    host: str
    pid: int
    seen_at: datetime
    report: DeploymentReport


class DeploymentStatus(msgspec.Struct, frozen=True):
    """A deployment, and how its replicas do in every process.

    Args:
        deployment: The deployment.
        processes: Those that run it.
    """

    deployment: Deployment
    processes: tuple[ProcessReplicas, ...]

    @property
    def ready(self) -> int:
        """How many replicas answer, in all processes."""
        return sum(process.report.replicas.ready for process in self._current)

    @property
    def wanted(self) -> int:
        """How many there shall be, in all processes."""
        return sum(process.report.replicas.wanted for process in self._current)

    @property
    def problem(self) -> str:
        """The last thing that went wrong, in words."""
        return next((process.report.problem for process in self._current if process.report.problem), "")

    @property
    def _current(self) -> list[ProcessReplicas]:
        return [each for each in self.processes if each.report.generation == self.deployment.generation]


class VersionHealth(msgspec.Struct, frozen=True):
    """How one version did during a window, in all serving processes, whoever asked it and however it ran.

    Args:
        version: The semver.
        window_seconds: How long the window is.
        requests: How many were meant for it.
        requests_per_second: The same by the second.
        p50_seconds, p95_seconds, p99_seconds: Half, 95 % and 99 % of the answers were as fast; null without answers,
            and beyond 10 s.
        error_rate, refused_rate, fallback_rate, unsafe_rate: Fractions of the requests that failed because of it or of
            the server, that it refused, that another version answered, that were answered unsafely; null without any.
        batch_size: Rows of a call of the model; null without calls.
        utilisation: How many calls were under way at a time.
        cpu: Processors that its replicas used while they were asked; 0 when it runs without replicas.
        memory_bytes, queue_depth: When it was asked last, in all processes.
    """

    version: str
    window_seconds: float
    requests: int
    requests_per_second: float
    p50_seconds: float | None
    p95_seconds: float | None
    p99_seconds: float | None
    error_rate: float | None
    refused_rate: float | None
    fallback_rate: float | None
    unsafe_rate: float | None
    batch_size: float | None
    utilisation: float | None
    cpu: float
    memory_bytes: int
    queue_depth: int


class DeploymentHealth(msgspec.Struct, frozen=True):
    """How a deployment does.

    Args:
        name: Of the deployment.
        status: How it is.
        memory_bytes, cpu, queue_depth: Of its replicas now, in all processes.
        windows: How its versions did, the shortest window first.
    """

    name: str
    status: DeploymentState
    memory_bytes: int
    cpu: float
    queue_depth: int
    windows: tuple[VersionHealth, ...]


def deployment_of(row: Row[Any], version: str) -> Deployment:
    """Return what people are shown of a row."""
    return Deployment(
        name=row.name,
        model=row.model,
        environment=row.environment,
        version=version,
        status=DeploymentState(row.status),
        generation=row.generation,
        spec=spec_of(row.spec),
        previous=None if row.previous is None else spec_of(row.previous),
        failure=None if row.failure is None else msgspec.json.decode(row.failure, type=Failure),
        reason=row.reason,
        created_at=from_text(row.created_at),
        created_by=row.created_by,
        changed_at=from_text(row.changed_at),
        changed_by=row.changed_by,
    )


def spec_of(text: str) -> DeploymentSpec:
    """Return the specification in a column."""
    return msgspec.json.decode(text, type=DeploymentSpec)

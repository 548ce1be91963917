"""`Deployed`: a deployment as serving processes know it, and what each of them reports of it."""

from __future__ import annotations

from typing import Annotated

import msgspec

MAX_REPLICAS = 64
PRODUCTION = "production"
"""Where a deployment belongs that says nothing else, and a serving process likewise."""

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class ReplicaRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many replicas each serving process keeps.

    Args:
        min: At least so many.
        max: At most so many; as many as `min` when it is 0.

    Example:
        >>> ReplicaRange(2).most
        2
    """

    min: Annotated[int, msgspec.Meta(ge=1, le=MAX_REPLICAS)] = 1
    max: Annotated[int, msgspec.Meta(ge=0, le=MAX_REPLICAS)] = 0

    @property
    def most(self) -> int:
        """How many there may be at most."""
        return max(self.min, self.max)


class Resources(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What each replica gets, and no more.

    Args:
        cpu: Whole processors; 0 = as many as there are.
        memory_bytes: Private memory; 0 = what the settings say of every model process.
        gpu: Whole GPUs, which no other replica of the machine's process gets; 0 = none is reserved.
    """

    cpu: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0
    memory_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**50)] = 0
    gpu: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0


class Probe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a replica proves that it lives while nobody asks it anything: by its golden requests.

    One that a request keeps busy is not probed: the time limit of requests ends it when it hangs.

    Args:
        interval_seconds: Between two probes of an idle replica.
        timeout_seconds: How long one may take.
        failure_threshold: After so many failures in a row its process is ended, and another one started.
    """

    interval_seconds: Seconds = 10.0
    timeout_seconds: Seconds = 5.0
    failure_threshold: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3


class Deployed(msgspec.Struct, frozen=True):
    """How one version shall run in the serving processes of an environment.

    Args:
        name: Of the deployment.
        generation: Of what was asked: what processes report is about this one.
        environment: Only processes of this environment run it.
        replicas, resources, probe: See there.
        target_utilisation: Fraction of their time that replicas shall be busy.
    """

    name: str
    generation: int
    environment: str = PRODUCTION
    replicas: ReplicaRange = ReplicaRange()
    resources: Resources = Resources()
    probe: Probe = Probe()
    target_utilisation: float = 0.7


class Wanted(msgspec.Struct, frozen=True):
    """What serving processes need of the specification of a deployment; a version is a semver or an alias."""

    name: str
    version: str
    environment: str = PRODUCTION
    replicas: ReplicaRange = ReplicaRange()
    resources: Resources = Resources()
    probe: Probe = Probe()
    target_utilisation: float = 0.7

    def deployed(self, generation: int) -> Deployed:
        """Return it as of a generation."""
        terms = (self.environment, self.replicas, self.resources, self.probe, self.target_utilisation)
        return Deployed(self.name, generation, *terms)


def wishes_of(generation: int, spec: str, previous: str | None) -> list[tuple[str, Deployed]]:
    """Return which versions or aliases shall run, and how; what ran before goes on until the new has proved itself.

    Args:
        generation: Of the deployment.
        spec, previous: As they are stored.
    """
    wanted = [msgspec.json.decode(text, type=Wanted) for text in (spec, previous) if text is not None]
    return [(each.version, each.deployed(generation - back)) for back, each in enumerate(wanted)]


class ReplicaCounts(msgspec.Struct, frozen=True):
    """Replicas of one process by what they do.

    Args:
        wanted: How many there shall be.
        ready: Answer, or wait for requests.
        ejected: Live, and are left alone for a while, because they fail more than the others.
        restarting: Have no process now, or one that has not proved itself yet.
    """

    wanted: int = 0
    ready: int = 0
    ejected: int = 0
    restarting: int = 0


class DeploymentReport(msgspec.Struct, frozen=True):
    """What one process says of one deployment.

    Args:
        name: Of the deployment.
        generation: What it is about.
        version: Which version runs.
        replicas: How many are what.
        failed: Whether it gave up for now: the version cannot be loaded so, or its processes kept ending.
        problem: The last thing that went wrong, in words.
        restarts, ejections: How often: restarts in this generation, ejections since the version was loaded so.
        utilisation: Fraction of their time that replicas are busy.
        memory_bytes, cpu: Of all replicas together; `cpu` in processors.
        queue_depth: Requests that wait for a replica.
        batch_rows: Rows of a call of the model, on average.
    """

    name: str
    generation: int
    version: str = ""
    replicas: ReplicaCounts = ReplicaCounts()
    failed: bool = False
    problem: str = ""
    restarts: int = 0
    ejections: int = 0
    utilisation: float = 0.0
    memory_bytes: int = 0
    cpu: float = 0.0
    queue_depth: int = 0
    batch_rows: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether as many replicas are ready as there shall be."""
        return not self.failed and self.replicas.wanted > 0 and self.replicas.ready >= self.replicas.wanted

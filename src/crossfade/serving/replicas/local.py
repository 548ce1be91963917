"""`LocalRunner`: replicas as model processes of this machine, confined like every other model process."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from crossfade.core.graphics import visible_gpus
from crossfade.core.memory import proportional_bytes, size, total_bytes
from crossfade.core.processors import available_processors, cpu_seconds
from crossfade.core.tensors import Tensors
from crossfade.errors import InsufficientResourcesError
from crossfade.registry.flavors.port import TrustPolicy
from crossfade.registry.placement import Placement
from crossfade.registry.versions import Manifest
from crossfade.serving.isolation.host import Allowance, IsolatedModel, isolate
from crossfade.serving.isolation.nursery import Nursery, process_bytes
from crossfade.serving.replicas.gpus import GpuPool
from crossfade.serving.replicas.port import Usage
from crossfade.settings import Settings
from crossfade.storage.blobs.port import BlobReader
from crossfade.traffic.deployed import Deployed, Resources


class LocalReplica:
    """One model process. Started when it is asked to `restart` for the first time.

    Args:
        model: Its version; no process yet.
        gpus: The GPUs that it has.
        pool: Where they go back to.
    """

    def __init__(self, model: IsolatedModel, gpus: tuple[str, ...], pool: GpuPool) -> None:
        self._model = model
        self._pipeline = model.pipeline()
        self._gpus = gpus
        self._pool = pool

    @property
    def pid(self) -> int | None:
        """Of its process, while it has one."""
        return self._model.pid

    @property
    def preprocess_seconds(self) -> float:
        """How long the last call took until the model itself was called."""
        return self._model.preprocess_seconds

    @property
    def member_rows(self) -> Mapping[tuple[str, str], int]:
        """What became of the rows of the last call with each member; see the port."""
        return self._model.member_rows

    @property
    def given_up(self) -> str:
        """Why it is not tried any more, in words; empty while it is."""
        return self._model.given_up

    def lost(self) -> str:
        """Say why it cannot be asked now; empty when it can."""
        return self._model.lost()

    def start(self) -> None:
        """Start its process for the first time."""
        self._model.start()

    def restart(self) -> None:
        """Start its process unless it lives; see the port."""
        self._model.restart()

    def predict(self, tensors: Tensors, wanted: frozenset[str], seconds: float | None = None) -> Tensors:
        """Return the wanted outputs; see the port."""
        usual = self._model.hang_seconds
        if seconds is not None:
            self._model.hang_seconds = seconds
        try:
            return self._pipeline.predict(tensors, wanted)
        finally:
            self._model.hang_seconds = usual

    def bounded(self, seconds: float, *, spared: bool) -> AbstractContextManager[None]:
        """Say how long somebody waits, and whether its end is forgiven; see the port."""
        return self._model.bounded(seconds, spared=spared)

    def end(self, problem: str) -> None:
        """End its process, because it is of no use."""
        self._model.end(problem)

    def usage(self) -> Usage:
        """Say what its process uses."""
        pid = self._model.pid
        return Usage() if pid is None else Usage(proportional_bytes(pid), cpu_seconds(pid))

    def kill(self) -> None:
        """End its process, and start no other."""
        self._model.kill()

    def close(self) -> None:
        """End its process, and let go of everything."""
        self._model.close()
        self._pool.release(self._gpus)


class LocalTemplate:
    """A version whose files lie in sealed memory, once for all its processes.

    Args:
        model: The version, never started.
        terms: What each of its processes gets.
        pool: Where GPUs come from.
    """

    def __init__(self, model: IsolatedModel, terms: Deployed, pool: GpuPool) -> None:
        self._model = model
        self._name = terms.name
        self._resources = terms.resources
        self._pool = pool

    @property
    def size_bytes(self) -> int:
        """Memory of the files."""
        return self._model.size_bytes

    def refusal(self, tensors: Tensors, wanted: frozenset[str]) -> Exception | None:
        """Say why a request must not be put to any process of the version."""
        return self._model.suspects.refusal(tensors, wanted)

    def rest_seconds(self) -> float:
        """Return how long batch requests have to wait; see the port."""
        return self._model.suspects.rest_seconds

    def replica(self, number: int) -> LocalReplica:
        """Return a new replica; see the port."""
        resources = self._resources
        gpus = self._pool.claim(resources.gpu, self._name) if resources.gpu else ()
        allowance = Allowance(
            resources.memory_bytes, processors_of(number, resources.cpu), gpus if resources.gpu else None
        )
        return LocalReplica(self._model.another(allowance), gpus, self._pool)

    def close(self) -> None:
        """Let go of the files."""
        self._model.close()


class LocalRunner:
    """Runs versions in model processes of this machine.

    Args:
        blobs: Where their files are.
        policy: What is trusted.
        settings: What model processes may use, and how many serving processes share the machine.
        nursery: Where processes come from.
    """

    def __init__(self, blobs: BlobReader, policy: TrustPolicy, settings: Settings, nursery: Nursery) -> None:
        self._blobs = blobs
        self._policy = policy
        self._settings = settings.serving
        self._nursery = nursery
        self._pool = GpuPool(settings.home / "gpus")

    def most(self, terms: Deployed) -> int:
        """Return how many replicas the machine has got the resources for; see the port."""
        return most_replicas(terms, self._settings.workers, self._nursery.memory_bytes, self._pool.names)

    def prepare(self, manifest: Manifest, terms: Deployed) -> LocalTemplate:
        """Get the files of a version; see the port."""
        rules, resources = self._settings.of_model(manifest.name), terms.resources
        placement = Placement("gpu" if resources.gpu else rules.device, rules.threads or resources.cpu)
        model = isolate(manifest, self._blobs, self._policy, self._settings, self._nursery, placement=placement)
        return LocalTemplate(model, terms, self._pool)


def fitting(settings: Settings, terms: Deployed) -> int:
    """Return how many replicas this machine has got the resources for, in each of its serving processes.

    Raises:
        InsufficientResourcesError: It has not got them for the fewest.
    """
    return most_replicas(terms, settings.serving.workers, process_bytes(settings), visible_gpus())


def most_replicas(terms: Deployed, workers: int, process_bytes: int, gpus: tuple[str, ...]) -> int:
    """Return how many replicas each serving process of this machine may have, at most as many as are wanted.

    Args:
        terms: What they are to have.
        workers: How many serving processes share the machine.
        process_bytes: Private memory that the settings let a model process have.
        gpus: Those of the machine.

    Raises:
        InsufficientResourcesError: There is not enough for the fewest.
    """
    need = terms.resources
    if need.memory_bytes > process_bytes:
        what = "memory in one process (the setting `isolation.memory_bytes`)"
        wanted, available = size(need.memory_bytes), size(process_bytes)
        raise InsufficientResourcesError(name=terms.name, what=what, wanted=wanted, available=available)
    most = terms.replicas.most
    for what, each, there, said in _budget(need, len(gpus)):
        if each:
            fitting = int(there // (each * workers))
            if fitting < terms.replicas.min:
                wanted, available = said(each * terms.replicas.min * workers), said(int(there))
                raise InsufficientResourcesError(name=terms.name, what=what, wanted=wanted, available=available)
            most = min(most, fitting)
    return most


def _budget(need: Resources, gpus: int) -> tuple[tuple[str, int, float, Callable[[float], str]], ...]:
    """Return what is needed of each resource, what there is, and how amounts of it are said."""
    return (
        ("processors", need.cpu, available_processors(), str),
        ("memory", need.memory_bytes, total_bytes(), size),
        ("GPUs", need.gpu, gpus, str),
    )


def processors_of(number: int, count: int) -> frozenset[int]:
    """Return the processors of a replica, neighbours getting others as long as there are some; none for all."""
    if not count:
        return frozenset()
    there = sorted(os.sched_getaffinity(0))
    return frozenset(there[(number * count + place) % len(there)] for place in range(min(count, len(there))))

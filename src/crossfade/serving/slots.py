"""Slots: loaded versions, how requests hold on to them, and how they leave without anybody noticing.

new -> loading -> warming -> ready -> draining -> unloading -> gone; any but the last two -> failed; failed -> gone.
A failed version that is tried again gets a new slot.

A request takes a lease without a lock: it increments `leases` and *then* looks whether the slot is ready; whoever
unloads sets `draining` first and *then* waits for zero leases. One of the two always sees the other. Only the event
loop's thread touches `leases`, so that no increment is lost.
"""

from __future__ import annotations

import math
import threading
from asyncio import Future
from collections.abc import Callable, Mapping
from enum import StrEnum

from crossfade.core.tensors import Signature, Tensors
from crossfade.core.wording import in_one_line
from crossfade.registry.versions import Manifest
from crossfade.serving.batching import Batcher
from crossfade.serving.counters import Counters
from crossfade.serving.isolation.ensembles import IsolatedEnsemble
from crossfade.serving.isolation.host import IsolatedModel
from crossfade.serving.replicas.replica_set import ReplicaSet
from crossfade.serving.retired import Apart, Engine
from crossfade.serving.waiting import Priority
from crossfade.settings import ModelRules
from crossfade.traffic.deployed import Deployed

Key = tuple[str, str]
"""(model, semver)"""


class State(StrEnum):
    """Where a slot is in its life."""

    NEW = "new"
    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    DRAINING = "draining"
    UNLOADING = "unloading"
    GONE = "gone"
    FAILED = "failed"


READY = State.READY

_LEGAL = {
    State.NEW: (State.LOADING, State.FAILED),
    State.LOADING: (State.WARMING, State.FAILED),
    State.WARMING: (State.READY, State.FAILED),
    State.READY: (State.DRAINING, State.FAILED),
    State.DRAINING: (State.UNLOADING, State.FAILED),
    State.UNLOADING: (State.GONE,),
    State.FAILED: (State.GONE,),
    State.GONE: (),
}


class Slot:
    """One version in this process. Whoever has leased it must release it.

    Attributes:
        requested_at: Which request for it as a candidate it answers.
        failures: How many times in a row loading failed, this time included.
        retry_at: When a failed slot may be tried again, on the monotonic clock.
        size_bytes: Memory charged to it.
        hidden: Whether the cycle collector cannot see its model.
        leases: Requests under way.
        number: The version's order of registration.
        isolated: Its model, when that runs in a process of its own, or its members of code do.
        replicas: Its model, when that runs in several.
        terms: How a deployment says that it runs, and it does.
        refused, refusal: How it was to run last and could not, and why; `refused_times` in a row.
        refit_at: When that may be tried again, on the monotonic clock.
        counters: What it did for those who asked.
        shadows: What it did with copies of requests.
        pinned: The part of `counters` that asked for this version, or for another alias than the champion: nobody
            chose between versions for them, so they say nothing about a rollout.
        manifest, signature, outputs, batcher, timeout_seconds, longest_seconds: Set before it is ready.
    """

    __slots__ = (
        "batcher",
        "counters",
        "digest",
        "failures",
        "hidden",
        "isolated",
        "leases",
        "load_seconds",
        "longest_seconds",
        "manifest",
        "name",
        "number",
        "outputs",
        "pinned",
        "problem",
        "refit_at",
        "refusal",
        "refused",
        "refused_times",
        "replicas",
        "requested_at",
        "retry_at",
        "shadows",
        "signature",
        "size_bytes",
        "state",
        "terms",
        "timeout_seconds",
        "version",
    )
    manifest: Manifest
    signature: Signature
    outputs: frozenset[str]
    batcher: Batcher
    timeout_seconds: float
    longest_seconds: float

    def __init__(self, name: str, version: str, digest: str, *, requested_at: str = "", failures: int = 0) -> None:
        self.name = name
        self.version = version
        self.digest = digest
        self.requested_at = requested_at
        self.failures = failures
        self.retry_at = 0.0
        self.state = State.NEW
        self.problem = ""
        self.size_bytes = 0
        self.load_seconds = 0.0
        self.hidden = False
        self.leases = 0
        self.number = 0
        self.isolated: IsolatedModel | IsolatedEnsemble | None = None
        self.replicas: ReplicaSet | None = None
        self.terms: Deployed | None = None
        self.refused: Deployed | None = None
        self.refusal = ""
        self.refused_times = 0
        self.refit_at = 0.0
        self.counters = Counters()
        self.shadows = Counters()
        self.pinned = Counters()

    @property
    def key(self) -> Key:
        """(model, semver)."""
        return self.name, self.version

    @property
    def ref(self) -> str:
        """`name:1.2.0`."""
        return f"{self.name}:{self.version}"

    @property
    def apart(self) -> Apart | None:
        """Its model, when that runs outside of this process."""
        return self.isolated or self.replicas

    @property
    def engine(self) -> Engine:
        """What it answers with now."""
        return Engine(self.batcher, self.apart, self.size_bytes)

    @property
    def cpu_seconds(self) -> float:
        """Processor time that its replicas have used, when it has some."""
        return 0.0 if self.replicas is None else self.replicas.cpu_seconds

    @property
    def idle(self) -> bool:
        """Whether nothing uses the model any more. What is idle and not ready stays idle."""
        return self.leases == 0 and not self.batcher.busy

    @property
    def waiting(self) -> int:
        """How many requests wait for the model."""
        batcher: Batcher | None = getattr(self, "batcher", None)  # it may leave while this is asked
        return 0 if batcher is None else batcher.waiting

    def equip(self, manifest: Manifest, batcher: Batcher, rules: ModelRules) -> None:
        """Give the slot what it answers with, and the rules of how long that may take."""
        self.manifest = manifest
        self.signature = manifest.signature
        self.outputs = frozenset(spec.name for spec in manifest.signature.outputs)
        self.batcher = batcher
        self.timeout_seconds = rules.request_timeout_seconds
        self.longest_seconds = rules.longest_request_seconds

    def lease(self) -> bool:
        """Hold on to the slot; tells whether that succeeded. Only on the event loop."""
        self.leases += 1
        if self.state is READY:
            return True
        self.leases -= 1
        return False

    def predict(
        self, tensors: Tensors, wanted: frozenset[str], deadline: float = math.inf, priority: Priority = Priority.ONLINE
    ) -> Future[Tensors]:
        """Predict inputs that passed `signature.check`; the slot must be leased meanwhile."""
        return self.batcher.submit(tensors, wanted, deadline, priority)

    def allowed_seconds(self, wished: float | None) -> float:
        """Return how long a request may take: what is wished for within what the rules allow, as usual without a wish.

        For ever is no client's wish, but that of work of the server itself, which watches over it in its own way.
        """
        if wished is None:
            return self.timeout_seconds
        return wished if wished == math.inf else min(wished, self.longest_seconds)

    def release(self) -> None:
        """Let go of a lease. Only on the event loop."""
        self.leases -= 1


class SlotTable:
    """All slots of this process: an immutable dict that is replaced as a whole, so that readers need no lock."""

    def __init__(self) -> None:
        self._slots: Mapping[Key, Slot] = {}
        self._writing = threading.Lock()
        self._listeners: list[Callable[[], None]] = []

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change, on the thread that made it. Subscribe before anything is loaded."""
        self._listeners.append(listener)

    def all(self) -> Mapping[Key, Slot]:
        """Return every slot, whatever its state."""
        return self._slots

    def find(self, name: str, version: str) -> Slot | None:
        """Return the slot of a version, whatever its state."""
        return self._slots.get((name, version))

    def take(self, name: str, version: str) -> Slot | None:
        """Lease the slot of a version, when it is ready. Only on the event loop."""
        slot = self._slots.get((name, version))
        while slot is not None and not slot.lease():
            seen, slot = slot, self._slots.get((name, version))
            if slot is seen:
                return None
        return slot

    def is_ready(self, name: str, version: str) -> bool:
        """Tell whether a version answers."""
        slot = self._slots.get((name, version))
        return slot is not None and slot.state is READY

    def explain(self, name: str, version: str) -> str:
        """Say in words why a version does not answer."""
        slot = self.find(name, version)
        if slot is None:
            return "it is not loaded"
        return slot.problem or f"it is {slot.state}"

    def put(self, slot: Slot) -> None:
        """Add a slot, in the place of a failed one if there is one."""
        with self._writing:
            self._slots = {**self._slots, slot.key: slot}
        self._tell()

    def advance(self, slot: Slot, state: State, problem: str = "") -> None:
        """Move a slot to its next state; one that is gone leaves the table."""
        if state not in _LEGAL[slot.state]:
            raise RuntimeError(f"{slot.ref} cannot go from {slot.state} to {state}")
        slot.problem = in_one_line(problem, None)
        slot.state = state
        if state is State.GONE:
            with self._writing:
                self._slots = {key: other for key, other in self._slots.items() if other is not slot}
        self._tell()

    def discard(self, slot: Slot) -> None:
        """Drop a failed slot, so that its version may be tried again; what is not failed any more stays."""
        with self._writing:
            if slot.state is not State.FAILED:
                return
            slot.state = State.GONE
            self._slots = {key: other for key, other in self._slots.items() if other is not slot}
        self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

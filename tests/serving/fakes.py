"""Made-up versions for tests of serving: what their model does is decided by the test, not by bytes."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import numpy as np

from crossfade.core.identity import ModelRef
from crossfade.core.tensors import Signature, TensorSpec
from crossfade.registry.golden import GoldenRequests
from crossfade.registry.versions import Manifest
from crossfade.serving.batching import Batcher
from crossfade.serving.opening import OpenedVersion
from crossfade.serving.slots import Slot, State
from crossfade.settings import ModelRules

SIGNATURE = Signature((TensorSpec("x", "FP64", (-1,)),), (TensorSpec("predict", "FP64", (-1,)),), layout="matrix")
"""The same as in `crossfade.testing.drafts`."""
RULES = ModelRules()
X = {"x": np.array([1.0, 2.0])}


async def ask(runtime, ref, tensors=None, wanted=None):
    """Ask a runtime as the data plane does."""
    with await runtime.predictions.hold(ModelRef.parse(ref)) as held:
        return await held.predict(X if tensors is None else tensors, wanted)


@contextmanager
def leased(slots, name, version):
    """Hold on to a ready version."""
    slot = slots.take(name, version)
    try:
        yield slot
    finally:
        slot.release()


class Constant:
    """Answers one number to everything."""

    def __init__(self, number):
        self.number = float(number)
        self.gate = threading.Event()
        self.gate.set()
        self.calls = 0

    def __call__(self, tensors, wanted):
        self.calls += 1
        self.gate.wait(10)
        return {"predict": np.full(len(tensors["x"]), self.number)}


def number_of(version):
    """`1.0.7` -> 7.0"""
    return float(version.rpartition(".")[2])


class Openings:
    """An opener whose versions answer their patch number, unless a test plans something else.

    Args:
        backend: Where manifests are looked up.

    Attributes:
        plans: version -> model, or an exception, or a function that is called instead of opening.
        golden: version -> the answer that its golden request wants.
    """

    def __init__(self, backend):
        self._backend = backend
        self.plans = {}
        self.golden = {}
        self.opened = []

    def __call__(self, name, wish):
        version = wish.version
        self.opened.append(version)
        plan = self.plans.get(version) or Constant(number_of(version))
        if isinstance(plan, BaseException):
            raise plan
        found = self._backend.find_version(name, version)
        manifest = self._backend.manifest(found)
        if not isinstance(plan, Constant):
            plan = plan()
        golden = None
        if version in self.golden:
            golden = GoldenRequests({"x": np.array([1.0])}, {"predict": np.array([self.golden[version]])})
        return OpenedVersion(manifest, plan, golden, found.number)


def ref_states(fleet, ref):
    """Return the state of a version in each live process that has it."""
    return [process.slots[ref][0] for process in fleet.live() if ref in process.slots]


def ready_slot(name="m", version="1.0.0", model=None, digest="d", signature=SIGNATURE, *, inline=True):
    """Return a slot that was loaded without a loader, outside of any table."""
    slot = Slot(name, version, digest)
    model = model or Constant(number_of(version))
    slot.equip(
        Manifest(name, version, "fake", (), signature),
        Batcher(model, signature, RULES, ref=slot.ref, inline=inline, inline_seconds=10, counters=slot.counters),
        RULES,
    )
    slot.state = State.READY
    return slot

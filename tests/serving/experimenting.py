"""What the tests of experiments in serving share: a runtime whose exposures are kept in a list."""

from __future__ import annotations

from crossfade.core.identity import ModelRef
from crossfade.serving.holding import DEFAULT_TERMS
from crossfade.traffic.routing import Asker
from tests.serving.fakes import X

UNITS = [f"u-{number}" for number in range(60)]
REF = ModelRef.parse("m")


class Trial:
    """Asks a runtime as the data plane does, and remembers what was recorded."""

    def __init__(self, runtime, store, exposures):
        self.runtime = runtime
        self.store = store
        self.exposures = exposures

    def begin(self, spec):
        self.store.create(spec)
        started = self.store.start(spec.name)
        self.runtime.follower.refresh()
        return started

    async def ask(self, unit=None, tensors=X, *, ref=REF, wanted=None, terms=DEFAULT_TERMS, **asker):
        predictions = self.runtime.predictions
        with await predictions.hold(ref, terms, Asker(unit, **asker)) as held:
            return await held.predict(tensors, wanted, terms)

    def unit_of(self, variant, name="late"):
        """Return a unit that gets a variant."""
        decide = self.runtime.follower.snapshot.router.decide
        return next(unit for unit in UNITS if decide(name, unit, {}).variant == variant)

    @property
    def shadows(self):
        return {name: count for name, count in self.enroller.shadows.items() if count}

    @property
    def enroller(self):
        return self.runtime.predictions._holder.enroller

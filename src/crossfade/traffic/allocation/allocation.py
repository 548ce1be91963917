"""`Allocation` and `Layer`: which slots belong to which variant, and which to which experiment; state, and pure.

Nothing here changes: a revision is a new value with the next number. What is stored is plain JSON, and the same state
gives the same decisions in every process.

Source: layers after D. Tang et al., "Overlapping Experiment Infrastructure", KDD 2010.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

import msgspec

from crossfade.errors import InvalidAllocationError, InvalidLayerError, LayerFullError
from crossfade.traffic.allocation.hashing import SLOTS
from crossfade.traffic.allocation.ownership import TOLERANCE, Ownership
from crossfade.traffic.allocation.specs import AllocationSpec, LayerSpec

HOLDOUT = "(holdout)"
"""Owns the slots of a layer's holdout: always the first owner; no experiment can have this name."""


class Allocation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The variants of one experiment and their units.

    Args:
        spec: What was asked for last. Its `ramp` holds the steps that are yet to come.
        owners: Which slot belongs to which variant.
        revision: Counts up from 1 with each change.

    Example:
        >>> from crossfade.traffic.allocation.specs import VariantSpec
        >>> spec = AllocationSpec("late", (VariantSpec("a", 0.5), VariantSpec("b", 0.5)))
        >>> Allocation.create(spec).revise({"a": 0.25, "b": 0.75}).owners.counts()
        {'a': 4096, 'b': 12288}
    """

    spec: AllocationSpec
    owners: Ownership
    revision: int = 1

    @classmethod
    def create(cls, spec: AllocationSpec) -> Self:
        """Allocate units to variants for the first time.

        Raises:
            InvalidAllocationError: The specification cannot be fulfilled.
            InvalidSegmentError: Its segment is wrong.
            UnknownHashError: Its hash is not known here.
        """
        spec = spec.checked()
        return cls(spec, Ownership().transfer(spec.shares()))

    def revise(self, weights: Mapping[str, float] | None = None, *, coverage: float | None = None) -> Self:
        """Change weights, coverage, or both. No unit leaves a variant whose part does not shrink.

        This starts from the slots that are stored: take the steps of the ramp that are due before, with `at`.

        Args:
            weights: Variant -> weight, of all variants; they sum to 1.
            coverage: Fraction of the experiment's units that takes part.

        Raises:
            InvalidAllocationError: A variant is unknown or missing, or a number is out of range.
        """
        spec = self.spec
        if weights is not None:
            known = [variant.name for variant in spec.variants]
            for name in (*weights, *known):
                if name not in weights or name not in known:
                    raise InvalidAllocationError(name=spec.name, problem=_unnamed(name, known))
            variants = tuple(msgspec.structs.replace(v, weight=weights[v.name]) for v in spec.variants)
            spec = msgspec.structs.replace(spec, variants=variants)
        if coverage is not None:
            spec = msgspec.structs.replace(spec, coverage=coverage)
        return self.amend(spec)

    def amend(self, spec: AllocationSpec) -> Self:
        """Change anything but the draw: add and remove variants, move times, take another segment.

        This starts from the slots that are stored: take the steps of the ramp that are due before, with `at`.

        Raises:
            InvalidAllocationError: The new specification is wrong, or draws units anew: that is another experiment.
            InvalidSegmentError: Its segment is wrong.
            UnknownHashError: Its hash is not known here.
        """
        spec = spec.checked()
        for field in ("name", "layer", "drawn_by", "hash", "sticky"):
            if getattr(spec, field) != getattr(self.spec, field):
                problem = f"`{field.replace('drawn_by', 'salt')}` draws the units, and stays; begin another experiment"
                raise InvalidAllocationError(name=self.spec.name, problem=problem)
        return type(self)(spec, self.owners.transfer(spec.shares()), self.revision + 1)

    def at(self, moment: datetime) -> Self:
        """Return the allocation with the steps of its ramp that are due by then."""
        result = self
        while result.spec.ramp and result.spec.ramp[0].at <= moment:  # one by one: whoever looks late gets there, too
            spec = result.spec.at(result.spec.ramp[0].at)
            result = type(self)(spec, result.owners.transfer(spec.shares()), result.revision + 1)
        return result

    def propensities(self) -> dict[str, float]:
        """Return the probability of each variant for a unit that takes part: exact, since slots are equally likely."""
        counts = self.owners.counts()
        total = sum(counts.values()) or 1
        return {name: count / total for name, count in counts.items()}

    def check(self) -> None:
        """Check what came from outside, such as a file.

        Raises:
            InvalidAllocationError: The state does not fit its specification.
            InvalidSegmentError: Its segment is wrong.
            UnknownHashError: Its hash is not known here.
        """
        self.spec.checked()
        wanted = self.spec.shares()
        if dict(zip(self.owners.names, self.owners.shares, strict=True)) != wanted:
            raise InvalidAllocationError(name=self.spec.name, problem="its slots do not belong to its variants")
        _check_counts(self.owners, self.spec.name)


class LayerSummary(msgspec.Struct, frozen=True):
    """A layer as people see it.

    Args:
        name: Of the layer.
        unit: What all of its experiments are sticky to.
        holdout: Fraction of its units that never take part in anything here.
        root: Another layer whose holdout counts here, too; empty for none.
        experiments: Those that have started and not ended -> fraction of the layer's units that is kept for each.
        free: Fraction that is left for others.
    """

    name: str
    unit: str
    holdout: float
    root: str
    experiments: dict[str, float]
    free: float


class Layer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The experiments of one layer and their units.

    Args:
        spec: What was asked for last.
        owners: Which slot belongs to which experiment, or to the holdout.
        revision: Counts up from 1 with each change.
    """

    spec: LayerSpec
    owners: Ownership
    revision: int = 1

    @classmethod
    def create(cls, spec: LayerSpec) -> Self:
        """Make a layer without experiments.

        Raises:
            InvalidLayerError: The specification cannot be fulfilled.
            UnknownHashError: Its hash is not known here.
        """
        spec = spec.checked()
        return cls(spec, Ownership().transfer({HOLDOUT: spec.holdout}))

    def place(self, experiment: str, share: float) -> Self:
        """Keep units for an experiment, or change how many. Nobody else loses any.

        Args:
            experiment: Its name.
            share: Fraction of the layer's units.

        Raises:
            LayerFullError: So many are not left.
        """
        return self._with(experiment, share)

    def remove(self, experiment: str) -> Self:
        """Let go of an experiment's units; a new experiment gets them only when no others are left."""
        shares = self._shares()
        shares.pop(experiment, None)
        return type(self)(self.spec, self.owners.transfer(shares), self.revision + 1)

    def summary(self) -> LayerSummary:
        """Return what people ask of a layer: who has how much of it, and how much is left."""
        shares = self._shares()
        free = max(0.0, round(1 - sum(shares.values()), 12))  # sums of decimal fractions are off by less
        holdout = shares.pop(HOLDOUT, 0.0)
        return LayerSummary(self.spec.name, self.spec.unit, holdout, self.spec.root, shares, free)

    def check(self) -> None:
        """Check what came from outside, such as a file.

        Raises:
            InvalidLayerError: The state does not fit its specification.
            UnknownHashError: Its hash is not known here.
        """
        self.spec.checked()
        if self.owners.names[:1] != (HOLDOUT,) or self.owners.shares[0] != self.spec.holdout:
            raise InvalidLayerError(name=self.spec.name, problem="its slots do not fit its holdout")
        _check_counts(self.owners, self.spec.name)

    def _with(self, name: str, share: float) -> Self:
        shares = self._shares()
        free = 1 - sum(value for other, value in shares.items() if other != name)
        if share > free + TOLERANCE:
            left, wanted = (f"{value * 100:.4g}" for value in (max(free, 0), share))
            raise LayerFullError(layer=self.spec.name, experiment=name, free_percent=left, wanted_percent=wanted)
        try:
            owners = self.owners.transfer(shares | {name: share})
        except ValueError as error:
            raise InvalidLayerError(name=self.spec.name, problem=str(error)) from error
        return type(self)(self.spec, owners, self.revision + 1)

    def _shares(self) -> dict[str, float]:
        return dict(zip(self.owners.names, self.owners.shares, strict=True))


def _check_counts(owners: Ownership, name: str) -> None:
    for owner, count in owners.counts().items():
        if abs(count - owners.share(owner) * SLOTS) > len(owners.names):  # rounding is off by a slot or so for each
            raise InvalidAllocationError(name=name, problem=f"`{owner[:80]}` does not own the slots that it should")


def _unnamed(name: Any, known: list[str]) -> str:
    if name in known:
        return f"the weight of `{name}` is missing; all variants need one"
    close = difflib.get_close_matches(str(name)[:80], known, n=1)
    return f"there is no variant `{str(name)[:80]}`; " + (
        f"did you mean `{close[0]}`?" if close else f"there are {', '.join(known)}"
    )

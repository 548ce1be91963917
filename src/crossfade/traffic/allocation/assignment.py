"""`Assigner`: allocations compiled for one moment, so that a decision costs two or three hashes and looks nothing up.

Nothing is locked and no clock is read: times of schedules and ramps are compiled in, and `due_at` says when to compile
again. Compiling costs about a tenth of a millisecond for each experiment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from crossfade.traffic.allocation.allocation import HOLDOUT
from crossfade.traffic.allocation.allocations import Allocations, not_found
from crossfade.traffic.allocation.compiled import (
    CompiledExperiment,
    Context,
    Decide,
    Enter,
    Gate,
    encoded,
)
from crossfade.traffic.allocation.decisions import Decision, Tally
from crossfade.traffic.allocation.hashing import SHIFT
from crossfade.traffic.allocation.ownership import NOBODY
from crossfade.traffic.allocation.specs import AllocationSpec


class _Shared(NamedTuple):
    """A layer whose experiments are decided together: one hash finds the only one that a unit may be in.

    What is indexed by an owner has 256 places, the last one for nobody.
    """

    seed: int
    table: bytes
    outside: Sequence[Sequence[Decision]]
    """Owner of a slot -> what its units get of all other experiments."""
    inside: Sequence[Enter | None]
    """Owner of a slot -> how its units get into its own."""
    root: Gate | None
    held: Sequence[Decision]
    """What those get who are in the holdout of the root."""


class Assigner:
    """Decides for units, by one revision of everything, at one moment.

    Args:
        allocations: What to decide by.
        at: The moment; aware.
        tally: Where decisions that fall back are counted.
        paused: Experiments that give everybody the fallback for now.

    Attributes:
        due_at: When a schedule or a ramp wants it to be compiled again; None for never.
        experiments: Experiment -> the function that decides.

    Example:
        >>> from crossfade.core.clock import utc_now
        >>> from crossfade.traffic.allocation.specs import VariantSpec
        >>> both = (VariantSpec("control", 0.5), VariantSpec("treatment", 0.5))
        >>> assigner = Assigner(Allocations().place(AllocationSpec("late", both)), utc_now())
        >>> assigner.decide("late", "user-1").variant
        'control'
    """

    __slots__ = ("_overridden", "_shared", "_single", "due_at", "experiments", "tally")

    def __init__(
        self,
        allocations: Allocations,
        at: datetime,
        tally: Tally | None = None,
        paused: Collection[str] = (),
    ) -> None:
        self.tally = Tally() if tally is None else tally
        self.due_at = min((moment for e in allocations.experiments for moment in _turns(e.spec, at)), default=None)
        gates = _gates(allocations)
        by_layer: defaultdict[str, list[CompiledExperiment]] = defaultdict(list)
        compiled = [
            CompiledExperiment(
                allocation.at(at),
                gates.get(allocation.spec.layer, ()),
                at,
                self.tally,
                paused=allocation.spec.name in paused,
            )
            for allocation in allocations.experiments
        ]
        for experiment in compiled:
            shares_units = experiment.gates and experiment.gates[-1].attribute is None
            by_layer[experiment.gates[-1].name if shares_units else ""].append(experiment)
        self.experiments: Mapping[str, Decide] = {experiment.name: experiment.decide for experiment in compiled}
        self._overridden = frozenset(unit for experiment in compiled for unit in experiment.overrides)
        self._single = [experiment.decide for experiment in by_layer.pop("", [])]
        self._shared = [_shared(members) for members in by_layer.values()]

    def decide(
        self, experiment: str, unit: str | None, context: Context | None = None, request_id: str | None = None
    ) -> Decision:
        """Return what a unit gets.

        Args:
            experiment: Its name.
            unit: The `unit_id` of the request.
            context: What else is known about the request, as JSON.
            request_id: What experiments draw by that are not sticky.

        Raises:
            ExperimentNotFoundError: There is no such experiment.
        """
        decide = self.experiments.get(experiment)
        if decide is None:
            raise not_found(experiment, list(self.experiments))
        return decide(unit, context, request_id)

    def decide_all(
        self, unit: str | None, context: Context | None = None, request_id: str | None = None
    ) -> list[Decision]:
        """Return what a unit gets of every experiment, in no particular order."""
        data = encoded(unit)
        if data is None or unit in self._overridden:
            return [decide(unit, context, request_id) for decide in self.experiments.values()]
        digest = xxh3_64_intdigest
        decisions = [decide(unit, context, request_id) for decide in self._single]
        for seed, table, outside, inside, root, held in self._shared:
            # the holdout is the first owner of its layer
            if root is not None and root.table[digest(data, root.seed) >> SHIFT] == 0:
                decisions += held
                continue
            owner = table[digest(data, seed) >> SHIFT]
            decisions += outside[owner]
            enter = inside[owner]
            if enter is not None:
                decisions.append(enter(data, context, request_id))
        return decisions


def _turns(spec: AllocationSpec, at: datetime) -> Iterator[datetime]:
    moments = (spec.start_at, spec.end_at, *(step.at for step in spec.ramp))
    return (moment for moment in moments if moment is not None and moment > at)


def _gates(allocations: Allocations) -> dict[str, tuple[Gate, ...]]:
    """Return for each layer what a unit has to pass, the root's holdout first."""
    gates = {layer.spec.name: Gate(layer) for layer in allocations.layers}
    holding = {layer.spec.name for layer in allocations.layers if layer.spec.holdout}
    return {
        layer.spec.name: (
            *([gates[layer.spec.root]] if layer.spec.root in holding else []),
            gates[layer.spec.name],
        )
        for layer in allocations.layers
    }


def _shared(members: Sequence[CompiledExperiment]) -> _Shared:
    *roots, gate = members[0].gates
    outside: list[list[Decision]] = []
    inside: list[Enter | None] = []
    for owner in gate.names:
        own = next((member for member in members if member.name == owner and member.closed is None), None)
        outside.append(
            [
                member.closed or (member.held_out(gate) if owner == HOLDOUT else member.excluded)
                for member in members
                if member is not own
            ]
        )
        inside.append(None if own is None else own.enter)
    rest = NOBODY + 1 - len(outside)
    outside += [[member.closed or member.excluded for member in members]] * rest
    inside += [None] * rest
    root = roots[0] if roots else None
    held = [] if root is None else [member.closed or member.held_out(root) for member in members]
    return _Shared(gate.seed, gate.table, outside, inside, root, held)

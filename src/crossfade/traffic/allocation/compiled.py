"""`CompiledExperiment`: one allocation as a function; every decision it can take is made beforehand.

What counts first: an override, then the schedule, a missing unit, the holdouts, the layer, the segment, the draw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from xxhash import xxh3_64_intdigest

from crossfade.ledger.admission import MAX_UNIT
from crossfade.traffic.allocation.allocation import HOLDOUT, Allocation, Layer
from crossfade.traffic.allocation.conditions import Test
from crossfade.traffic.allocation.decisions import Decision, Reason, Tally
from crossfade.traffic.allocation.hashing import SHIFT, SLOTS, seed_of
from crossfade.traffic.allocation.ownership import NOBODY
from crossfade.traffic.allocation.specs import UNIT

Context = Mapping[str, Any]
Decide = Callable[[str | None, Context | None, str | None], Decision]
"""From a unit, a context and a request's id to a decision."""
Enter = Callable[[bytes, Context | None, str | None], Decision]
"""The same for an encoded unit that neither holdout nor layer has stopped."""


class Gate:
    """The slots of a layer, ready to be asked.

    Attributes:
        attribute: Where in the context the unit is; None: it is the request's `unit_id`.
        seed: What the layer draws by.
        table: Slot -> position of its owner among `names`, or 255.
        names: The owners; the holdout is the first.
    """

    __slots__ = ("attribute", "name", "names", "seed", "table")

    def __init__(self, layer: Layer) -> None:
        self.name = layer.spec.name
        self.attribute = None if layer.spec.unit == UNIT else layer.spec.unit
        self.seed = seed_of(layer.spec.drawn_by)
        self.table = layer.owners.table()
        self.names: Sequence[str] = layer.owners.names


class CompiledExperiment:
    """One experiment at one moment.

    Args:
        allocation: Of the experiment, with its ramp as it is at that moment.
        gates: What a unit has to pass: the layer, if there is one, and before it its root, if that has a holdout.
        at: The moment.
        tally: Where fallbacks are counted.
        paused: Whether everybody gets the fallback for now, testers too.

    Attributes:
        closed: What everybody gets, when nothing is drawn.
        excluded: What those get whom the layer keeps for others.
        enter: Segment and draw.
        decide: The whole decision.
    """

    def __init__(
        self, allocation: Allocation, gates: Sequence[Gate], at: datetime, tally: Tally, *, paused: bool = False
    ) -> None:
        self.name = allocation.spec.name
        self.gates = gates
        self._allocation = allocation
        self._tally = tally
        self._values = {variant.name: variant.value for variant in allocation.spec.variants}
        overrides = {} if paused else allocation.spec.overrides
        self.overrides = {unit: self._override(variant) for unit, variant in overrides.items()}
        self.excluded = self._fallback(Reason.EXCLUDED, "its layer keeps the unit for other experiments")
        self.closed = self._fallback(Reason.PAUSED, "it is paused") if paused else self._closed(at)
        self._draw = self._drawn(), allocation.owners.table(), seed_of(allocation.spec.drawn_by)
        self.enter = self._enter()
        self.decide = self._decide()

    def held_out(self, gate: Gate) -> Decision:
        """Return what those get who are in the holdout of a layer."""
        return self._fallback(Reason.HOLDOUT, f"the unit is held out of layer `{gate.name}`")

    # ------------------------------------------------------------------------------------------------------- decisions

    def _decision(self, variant: str, reason: Reason, words: str, propensity: float = 1.0) -> Decision:
        enrolled = reason in {Reason.STATIC, Reason.TARGETING_MATCH, Reason.SPLIT}
        revision, value = self._allocation.revision, self._values[variant]
        return Decision(self.name, variant, reason, words, enrolled, propensity, revision, value)

    def _override(self, variant: str) -> Decision:
        return self._decision(variant, Reason.OVERRIDE, f"an override gives this unit `{variant}`")

    def _fallback(self, reason: Reason, words: str) -> Decision:
        return self._decision(self._allocation.spec.falls_back_to, reason, words)

    def _counted(self, reason: Reason, words: str, missing: str = "") -> Callable[[], Decision]:
        decision = msgspec.structs.replace(self._fallback(reason, words), missing=missing)
        tally, name = self._tally, self.name

        def give() -> Decision:
            tally.add(name, reason)
            return decision

        return give

    def _closed(self, at: datetime) -> Decision | None:
        spec = self._allocation.spec
        if spec.start_at is not None and at < spec.start_at:
            return self._fallback(Reason.SCHEDULE, f"it starts at {spec.start_at.isoformat()}")
        if spec.end_at is not None and at >= spec.end_at:
            return self._fallback(Reason.SCHEDULE, f"it ended at {spec.end_at.isoformat()}")
        if spec.segment is None and not self.gates and (only := self._only_variant()):
            return self._decision(only, Reason.STATIC, f"everybody gets `{only}`")
        return None

    def _only_variant(self) -> str | None:
        counts = self._allocation.owners.counts()
        return next((name for name, count in counts.items() if count == SLOTS), None)

    def _drawn(self) -> tuple[Decision, ...]:
        """Return the decision for each owner that a table can name."""
        counts = self._allocation.owners.counts()
        propensities = self._allocation.propensities()
        if only := self._only_variant():
            words = f"everybody whom the experiment is about gets `{only}`"
            return (self._decision(only, Reason.TARGETING_MATCH, words),) * (NOBODY + 1)
        drawn = [
            self._decision(
                name, Reason.SPLIT, f"the unit is among the {count / SLOTS:.4%} that get `{name}`", propensities[name]
            )
            for name, count in counts.items()
        ]
        words = f"the unit is not among the {sum(counts.values()) / SLOTS:.4%} that take part"
        return (*drawn, *[self._fallback(Reason.NOT_COVERED, words)] * (NOBODY + 1 - len(drawn)))

    # ------------------------------------------------------------------------------------------------------- functions

    def _enter(self) -> Enter:
        digest, (decisions, table, seed) = xxh3_64_intdigest, self._draw
        no_request = self._counted(Reason.MISSING_UNIT, "the request has no id to draw by", "request_id")

        def draw(unit: bytes, _context: Context | None, _request_id: str | None) -> Decision:
            return decisions[table[digest(unit, seed) >> SHIFT]]

        def draw_anew(_unit: bytes, _context: Context | None, request_id: str | None) -> Decision:
            data = encoded(request_id)
            return decisions[table[digest(data, seed) >> SHIFT]] if data else no_request()

        spec = self._allocation.spec
        inside = draw if spec.sticky else draw_anew
        return inside if spec.segment is None else self._targeted(spec.segment.compile(), inside)

    def _targeted(self, matches: Test, inside: Enter) -> Enter:
        outside = self._fallback(Reason.NOT_TARGETED, "the request is outside the segment")
        no_context = self._counted(Reason.MISSING_CONTEXT, "the request has no context to compare with the segment")
        broken = self._counted(Reason.ERROR, "the context cannot be compared with the segment")

        def enter(unit: bytes, context: Context | None, request_id: str | None) -> Decision:
            if context is None:
                return no_context()
            try:
                matched = matches(context)
            except Exception:  # noqa: BLE001 - a caller's objects compare as they like, and a prediction goes on
                return broken()
            return inside(unit, context, request_id) if matched else outside

        return enter

    def _decide(self) -> Decide:
        spec = self._allocation.spec
        plain = spec.sticky and spec.segment is None and not (self.gates or self.overrides or self.closed)
        return self._decide_plainly() if plain else self._decide_by_all()

    def _decide_plainly(self) -> Decide:
        """Do what `_decide_by_all` does, at half the cost, for an experiment that has nothing but a draw."""
        digest, (decisions, table, seed) = xxh3_64_intdigest, self._draw
        missing = self._missing_unit(UNIT)

        def decide(unit: str | None, context: Context | None = None, request_id: str | None = None) -> Decision:  # noqa: ARG001
            try:  # what `encoded` does, without a call
                if unit and len(unit) <= MAX_UNIT and unit.isprintable():
                    return decisions[table[digest(unit.encode(), seed) >> SHIFT]]
            except (AttributeError, TypeError):
                pass
            return missing()

        return decide

    def _decide_by_all(self) -> Decide:
        digest, overrides, closed, enter = xxh3_64_intdigest, self.overrides or None, self.closed, self.enter
        gates = [(gate.seed, gate.table, self._stops(gate)) for gate in self.gates]
        attribute = self.gates[-1].attribute if self.gates else None
        unit_needed = self._allocation.spec.sticky or bool(gates)
        missing = self._missing_unit(attribute or UNIT)

        def decide(unit: str | None, context: Context | None = None, request_id: str | None = None) -> Decision:
            if attribute is not None:
                unit = unit_in(context, attribute)
            if overrides is not None and unit in overrides:
                return overrides[unit]
            if closed is not None:
                return closed
            data = encoded(unit) or b""
            if not data and unit_needed:
                return missing()
            for seed, table, stops in gates:
                stop = stops[table[digest(data, seed) >> SHIFT]]
                if stop is not None:
                    return stop
            return enter(data, context, request_id)

        return decide

    def _missing_unit(self, attribute: str) -> Callable[[], Decision]:
        """Return what a request gets that has no unit to draw by, or one that the ledger could not keep."""
        return self._counted(Reason.MISSING_UNIT, f"the request does not say which `{attribute[:80]}` asks", attribute)

    def _stops(self, gate: Gate) -> tuple[Decision | None, ...]:
        """Return for each owner of a slot the decision that its units get here; None lets them in."""
        if gate is not self.gates[-1]:  # of the root, only the holdout counts
            return (self.held_out(gate), *[None] * NOBODY)
        kinds: dict[str, Decision | None] = {HOLDOUT: self.held_out(gate), self.name: None}
        stops = [kinds.get(name, self.excluded) for name in gate.names]
        return (*stops, *[self.excluded] * (NOBODY + 1 - len(stops)))


def encoded(text: Any) -> bytes | None:
    """Return the UTF-8 of a unit; None when it is none that the ledger could keep.

    That is: empty, no text, too long, or with characters that cannot be shown, such as NUL or half of a surrogate pair.
    """
    try:
        return text.encode() if 0 < len(text) <= MAX_UNIT and text.isprintable() else None
    except (AttributeError, TypeError):
        return None


def unit_in(context: Context | None, attribute: str) -> str | None:
    """Return the unit that a context names; a whole number is its decimal text."""
    value = None if context is None else context.get(attribute)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None

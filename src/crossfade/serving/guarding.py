"""`Protector`: looks at predictions by the safety rules of the process, and gives something else if need be."""

from __future__ import annotations

import msgspec
import numpy as np

from crossfade.core.tensors import Array, Tensors, row_count
from crossfade.errors import CrossfadeError, EmergencyError, UnsafeAnswerError
from crossfade.safety.fallback import filled
from crossfade.safety.guards import Guard
from crossfade.safety.inspection import Findings
from crossfade.safety.levels import Level
from crossfade.safety.reports import Role
from crossfade.safety.specs import Constant, LastSafe, OtherVersion, Refuse
from crossfade.safety.warden import Warden
from crossfade.serving.slots import Slot, SlotTable
from crossfade.serving.waiting import Priority


class SafetyNote(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What an answer says about its safety; an answer that has none was safe, or was not looked at.

    Args:
        level: What was found.
        checks: Those that were violated.
        instead: What is given instead of the rows that are not: `last_safe`, `constant`, or `version 1.0.0`.
        overrides: Checks that a person has turned off.
        emergency: The mode of the emergency that the model is in.
    """

    level: Level = Level.SAFE
    checks: tuple[str, ...] = ()
    instead: str = ""
    overrides: tuple[str, ...] = ()
    emergency: str = ""


class Question(msgspec.Struct, frozen=True, gc=False):
    """What was asked.

    Args:
        slot: Whom.
        inputs: As they passed the signature.
        names: Of the outputs that are wanted.
        unit: Whom it is about; empty when nobody said.
        deadline, priority: Of the request.
    """

    slot: Slot
    inputs: Tensors
    names: frozenset[str]
    unit: str
    deadline: float
    priority: Priority


class Protector:
    """Applies the rules of this process.

    Args:
        warden: Keeps them.
        slots: Where other versions are.

    Attributes:
        warden: The same.
    """

    def __init__(self, warden: Warden, slots: SlotTable) -> None:
        self.warden = warden
        self._slots = slots

    def admit(self, model: str) -> None:
        """Refuse what nothing can be answered to.

        Raises:
            EmergencyError: The model is stopped.
        """
        guard = self.warden.guard(model)
        if guard is not None and guard.closed:
            raise stopped(guard)

    def needs_unit(self, model: str) -> bool:
        """Tell whether it matters whom a request is about."""
        guard = self.warden.guard(model)
        return guard is not None and guard.asks_unit

    def said(self, model: str = "") -> str:
        """Return the emergencies that a model is in, or all, as a header says it; empty for none."""
        guards = self.warden.guards
        return "" if guards is None else guards.said(model)

    def pass_on(
        self, guard: Guard, slot: Slot, outputs: Tensors, names: frozenset[str], unit: str
    ) -> tuple[Tensors, SafetyNote | None]:
        """Return an answer that is safe, and remember it where the policy wants that."""
        rows = row_count(outputs)
        if guard.keeps and rows:
            guard.memory.safe.keep(unit, outputs, rows)
        overridden = guard.inspector(slot).overridden
        return _only(outputs, names), SafetyNote(overrides=overridden) if overridden else None

    async def settle(
        self, guard: Guard, question: Question, outputs: Tensors, found: Findings | None
    ) -> tuple[Tensors, SafetyNote | None]:
        """Return what is given, and what is said about it.

        Args:
            guard: Of the model.
            question: What was asked.
            outputs: What the model said, left as it is; in an emergency it does not matter.
            found: What is wrong with it; None only in an emergency.

        Raises:
            UnsafeAnswerError: Nothing can be given.
            EmergencyError: The same, because of an emergency.
        """
        slot, emergency = question.slot, guard.emergency
        if emergency is not None or found is None:
            everything = np.ones(row_count(question.inputs), dtype=bool)
            mode = "block" if emergency is None else emergency.mode
            given, instead = (None, "") if mode == "block" else await self._instead(guard, question, None, everything)
            if given is None:
                raise stopped(guard)
            return given, SafetyNote(instead=instead, emergency=mode)
        overridden = guard.inspector(slot).overridden
        if found.withheld is None:
            self.warden.found(guard, slot.version, found)
            if guard.keeps:
                guard.memory.safe.keep(question.unit, outputs, row_count(outputs))
            return _only(outputs, question.names), SafetyNote(found.level, found.checks, "", overridden)
        given, instead = await self._instead(guard, question, outputs, found.withheld)
        self.warden.found(guard, slot.version, found, instead or "refuse")
        if given is None:
            checks = ", ".join(f"`{name}`" for name in found.checks)
            raise UnsafeAnswerError(ref=slot.ref, model=slot.name, level=found.level.value, checks=checks)
        return given, SafetyNote(found.level, found.checks, instead, overridden)

    def look_at_shadow(self, slot: Slot, inputs: Tensors, outputs: Tensors) -> Level:
        """Count what is wrong with an answer that nobody is given; returns how bad it is."""
        guard = self.warden.guard(slot.name)
        if guard is None:
            return Level.SAFE
        found = guard.shadow_inspector(slot).inspect(inputs, outputs, row_count(inputs))
        if found is None:
            return Level.SAFE
        self.warden.log.add(slot.name, slot.version, found, role=Role.SHADOW)
        slot.shadows.unsafe += found.level.withheld
        return found.level

    def outputs_of(self, slot: Slot) -> frozenset[str]:
        """Return the outputs that the checks of a version look at, whether anybody wants them or not."""
        guard = self.warden.guard(slot.name)
        return frozenset() if guard is None else guard.inspector(slot).outputs

    # --- what is given instead ---

    async def _instead(
        self, guard: Guard, question: Question, outputs: Tensors | None, withheld: Array
    ) -> tuple[Tensors | None, str]:
        """Return the answer with other rows for those that are withheld, and what they are; None when nothing fits."""
        for step in () if guard.spec is None else guard.spec.fallback:
            if isinstance(step, Refuse):
                break
            if isinstance(step, OtherVersion):
                given = await self._of_version(guard, question, outputs, withheld, step.version)
                if given is not None:
                    return given, f"version {step.version}"
                continue
            row = self._row(guard, question, step)
            given = None if row is None else filled(outputs, question.names, row, withheld)
            if given is not None:
                return given, "constant" if isinstance(step, Constant) else "last_safe"
        return None, ""

    def _row(self, guard: Guard, question: Question, step: Constant | LastSafe) -> Tensors | None:
        if isinstance(step, Constant):
            return guard.constant(step, question.slot)
        return guard.memory.safe.find(step, question.unit)

    async def _of_version(
        self, guard: Guard, question: Question, outputs: Tensors | None, withheld: Array, version: str
    ) -> Tensors | None:
        """Ask another version about the rows that are withheld; None when it does not give a safe answer, either."""
        if version == question.slot.version and outputs is not None:
            return None
        slot = self._slots.take(question.slot.name, version)
        if slot is None:
            return None
        try:
            inputs = slot.signature.check({name: array[withheld] for name, array in question.inputs.items()})
            inspector = guard.inspector(slot)
            if not question.names <= slot.outputs:
                return None
            wanted = question.names | (inspector.outputs & slot.outputs)
            answer = await slot.predict(inputs, wanted, question.deadline, question.priority)
            found = inspector.inspect(inputs, answer, row_count(inputs), question.unit)
        except CrossfadeError:
            return None
        finally:
            slot.release()
        if found is not None:
            self.warden.log.add(slot.name, slot.version, found, role=Role.FALLBACK)
            if found.withheld is not None:
                return None
        return _spread(outputs, question.names, answer, withheld)


def stopped(guard: Guard) -> EmergencyError:
    """Return the error that says why a model does not answer."""
    emergency = guard.emergency
    assert emergency is not None  # noqa: S101 - whoever asks has seen it
    reason = emergency.reason[:200]
    return EmergencyError(name=guard.model, scope=emergency.scope, mode=emergency.mode, reason=reason)


def _only(outputs: Tensors, names: frozenset[str]) -> Tensors:
    """Return the outputs that are wanted; what checks wanted besides is left out."""
    if len(outputs) == len(names):
        return outputs
    return {name: array for name, array in outputs.items() if name in names}


def _spread(outputs: Tensors | None, names: frozenset[str], answer: Tensors, withheld: Array) -> Tensors | None:
    """Return outputs in which the withheld rows are those of another answer."""
    if outputs is None or bool(withheld.all()):
        return {name: answer[name] for name in names}
    given = {}
    for name in names:
        array, instead = outputs[name], answer[name]
        if array.shape[1:] != instead.shape[1:] or array.dtype != instead.dtype:
            return None
        given[name] = array = array.copy()
        array[withheld] = instead
    return given

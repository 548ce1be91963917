"""`Guards`: all rules compiled for one moment; `Guard`: those of one model, with what they remember."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import msgspec

from crossfade.core.tensors import Signature, Tensors
from crossfade.safety.checks import Bench, compile_check
from crossfade.safety.fallback import SafeAnswers, constant_row
from crossfade.safety.inspection import Inspector
from crossfade.safety.rules import EVERYTHING, Emergency, Override, Rules, SafetyPolicy
from crossfade.safety.specs import ChangeCheck, Constant, LastSafe, Refuse, SafetyPolicySpec

_MAX_INSPECTORS = 64
"""Of versions, for each model; a process serves a few."""


class Served(Protocol):
    """What has to be known of a version in this process."""

    version: str
    digest: str
    signature: Signature


class Memory(NamedTuple):
    """What is remembered of the answers of a model; it outlives changes of its rules.

    Args:
        checks: What checks remember.
        safe: The last safe answers.
    """

    checks: dict[tuple[str, ...], Any]
    safe: SafeAnswers


class Guard:
    """What is asked of the answers of one model.

    Args:
        model: Its name.
        policy: Its policy, if it has one.
        overrides: That are about it and hold.
        emergency: That it is in.
        memory: Of its former answers.

    Attributes:
        spec, emergency, memory: The same.
        asks_unit: Whether it matters whom a request is about.
        keeps: Whether safe answers are remembered.
    """

    def __init__(
        self,
        model: str,
        policy: SafetyPolicy | None = None,
        overrides: tuple[Override, ...] = (),
        emergency: Emergency | None = None,
        memory: Memory | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model = model
        self.spec = None if policy is None else policy.spec
        self.emergency = emergency
        self.memory = memory or Memory({}, SafeAnswers(1 if self.spec is None else self.spec.max_units, clock))
        self._overrides = overrides
        self._clock = clock
        self._inspectors: dict[str, Inspector] = {}
        self._shadows: dict[str, Inspector] = {}
        self._constants: dict[tuple[str, int], Tensors | None] = {}
        fallback = () if self.spec is None else self.spec.fallback
        self.keeps = any(isinstance(step, LastSafe) for step in fallback)
        self.asks_unit = self.keeps or (
            self.spec is not None and any(isinstance(check, ChangeCheck) and not check.by for check in self.spec.checks)
        )

    @property
    def closed(self) -> bool:
        """Whether nothing can be answered, whatever is asked."""
        if self.emergency is None:
            return False
        steps = () if self.spec is None else self.spec.fallback
        return self.emergency.mode == "block" or not steps or isinstance(steps[0], Refuse)

    def inspector(self, served: Served) -> Inspector:
        """Return what looks at the answers of a version."""
        return self._inspectors.get(served.digest) or self._open(served)

    def shadow_inspector(self, served: Served) -> Inspector:
        """Return what looks at answers that nobody is given."""
        found = self._shadows.get(served.digest)
        if found is None:
            found = self._shadows[served.digest] = self.inspector(served).without_memory()
        return found

    def constant(self, step: Constant, served: Served) -> Tensors | None:
        """Return a constant as one row of a version's outputs; None when it does not fit them."""
        key = served.digest, id(step)  # the policy, which lives as long as this, holds the step
        if key not in self._constants:
            try:
                self._constants[key] = constant_row(step.outputs, served.signature)
            except ValueError:
                self._constants[key] = None
        return self._constants[key]

    def _open(self, served: Served) -> Inspector:
        if len(self._inspectors) >= _MAX_INSPECTORS:
            self._inspectors.clear()
            self._shadows.clear()
            self._constants.clear()
        made = self._inspectors[served.digest] = self._compile(served)
        return made

    def _compile(self, served: Served) -> Inspector:
        if self.spec is None:
            return Inspector(())
        bench = Bench(served.signature, served.digest, self.spec.max_units, self.memory.checks, self._clock)
        off = tuple(
            check.name
            for check in self.spec.checks
            if any(override.covers(served.version, check.name) for override in self._overrides)
        )
        checks = [compile_check(check, bench) for check in self.spec.checks if check.name not in off]
        return Inspector(checks, off)


class Guards:
    """Every model about which there is a rule.

    Args:
        rules: All of them.
        at: The moment; aware.
        former: Those before, whose memories are kept where the policy has not changed.

    Attributes:
        due_at: When an override expires next; None for never.
        everything: The emergency that is about every model.
        stopped: Model -> its own emergency.
    """

    def __init__(
        self, rules: Rules, at: datetime, former: Guards | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        holding = tuple(override for override in rules.overrides if override.holds(at))
        self.due_at = min((override.expires_at for override in holding), default=None)
        found: dict[str, Emergency] = {}
        for emergency in rules.emergencies:
            found[emergency.model] = _stricter(found.get(emergency.model), emergency)
        self.everything = found.pop(EVERYTHING, None)
        self.stopped: Mapping[str, Emergency] = found
        policies = {policy.model: policy for policy in rules.policies}
        names = {*policies, *found}
        self._models = {name: self._guard(name, policies.get(name), holding, former) for name in sorted(names)}

    def __bool__(self) -> bool:
        """Tell whether there is any rule."""
        return bool(self._models) or self.everything is not None

    def find(self, model: str) -> Guard | None:
        """Return what is asked of the answers of a model; None when it is nothing."""
        guard = self._models.get(model)
        if guard is None and self.everything is not None:
            return Guard(model, emergency=self.everything)
        return guard

    def said(self, model: str = "") -> str:
        """Return the emergencies that a model is in, or all of them, as one header says it; empty for none."""
        return ", ".join(f"{item.scope}={item.mode}" for item in self.emergencies(model)[:20])

    def emergencies(self, model: str = "") -> list[Emergency]:
        """Return the emergencies that a model is in, or all of them."""
        found = [] if self.everything is None else [self.everything]
        return found + [item for name, item in self.stopped.items() if model in {"", name}]

    def _guard(
        self, name: str, policy: SafetyPolicy | None, holding: tuple[Override, ...], former: Guards | None
    ) -> Guard:
        before = None if former is None else former._models.get(name)
        kept = before is not None and policy is not None and _same(before.spec, policy.spec)
        own = tuple(override for override in holding if override.model == name)
        emergency = _stricter(self.everything, self.stopped.get(name))
        memory = before.memory if before is not None and kept else None
        return Guard(name, policy, own, emergency, memory, self._clock)


def _same(before: SafetyPolicySpec | None, after: SafetyPolicySpec) -> bool:
    return before is not None and msgspec.json.encode(before) == msgspec.json.encode(after)


def _stricter(one: Emergency | None, other: Emergency | None) -> Any:
    """Of two emergencies, the one that refuses."""
    if one is None or other is None:
        return one or other
    return other if other.mode == "block" else one

"""What to do next: a pure function from what is loaded and what shall be loaded to one action.

It keeps no state and repeats itself until its advice has taken effect, so a process that starts, one that was
interrupted and one that missed ten revisions all end in the same place.

Availability first: a version is loaded before the one it replaces is unloaded. Only when memory is short is something
unloaded to make room, and never what answers now: a version behind an alias, or the last ready version of a model whose
aliased versions are not all ready.

Source: the aspired-versions policies of TensorFlow Serving (Olston et al., 2017, https://arxiv.org/abs/1712.06139).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import msgspec

from crossfade.serving.slots import State
from crossfade.traffic.deployed import Deployed
from crossfade.traffic.snapshot import Aspired, Role

_UNDER_WAY = frozenset({State.NEW, State.LOADING, State.WARMING})
_LEAVING = frozenset({State.DRAINING, State.UNLOADING, State.GONE})


class SlotView(msgspec.Struct, frozen=True):
    """What the policy needs to know of a slot."""

    name: str
    version: str
    digest: str
    state: State
    size_bytes: int = 0
    retry_at: float = 0.0
    terms: Deployed | None = None
    refused: Deployed | None = None
    refit_at: float = 0.0


class Load(msgspec.Struct, frozen=True):
    """Load a version (again, when a slot of it failed)."""

    name: str
    aspired: Aspired


class Refit(msgspec.Struct, frozen=True):
    """Let a ready version run as it shall, instead of as it does."""

    name: str
    aspired: Aspired


class Unload(msgspec.Struct, frozen=True):
    """Unload a version."""

    name: str
    version: str


def next_action(
    slots: Collection[SlotView], aspired: Mapping[str, tuple[Aspired, ...]], free_bytes: int, now: float
) -> Load | Unload | Refit | None:
    """Return the next step, or None when there is nothing to do or something has to end first.

    Args:
        slots: What this process holds, at most one slot per version.
        aspired: Model -> the versions that shall be ready.
        free_bytes: What may still be loaded.
        now: On the clock of `SlotView.retry_at`.

    Example:
        >>> version = Aspired("1.0.0", "d", 10, Role.ACTIVE)
        >>> next_action((), {"churn": (version,)}, free_bytes=100, now=0.0).aspired.version
        '1.0.0'
    """
    if any(slot.state in _UNDER_WAY for slot in slots):
        return None
    plan = _Plan(slots, aspired, now)
    for slot in plan.discarded():
        return Unload(slot.name, slot.version)
    too_large = None
    for load in sorted(plan.missing(), key=lambda load: (load.aspired.role, load.name)):
        if load.aspired.size_bytes <= free_bytes:
            return load
        if load.aspired.role is not Role.WARM:
            too_large = load
            break
    for refit in plan.refits():
        return refit
    for slot in plan.superfluous():
        return Unload(slot.name, slot.version)
    return None if too_large is None else _make_room(too_large, plan, free_bytes)


def _make_room(load: Load, plan: _Plan, free_bytes: int) -> Load | Unload | None:
    if any(slot.state in _LEAVING for slot in plan.slots):
        return None
    spare = plan.spare()
    if free_bytes + sum(slot.size_bytes for slot in spare) < load.aspired.size_bytes:
        return load  # no sacrifice would be enough: the loader refuses, and says so
    return Unload(spare[0].name, spare[0].version)


class _Plan:
    """What is wished, seen beside what is there."""

    def __init__(self, slots: Collection[SlotView], aspired: Mapping[str, tuple[Aspired, ...]], now: float) -> None:
        self.slots = sorted(slots, key=lambda slot: (slot.name, slot.version))
        self._aspired = aspired
        self._now = now
        self._there = {(slot.name, slot.version): slot for slot in slots}
        self._wished = {(name, wish.version): wish for name, wishes in aspired.items() for wish in wishes}

    def discarded(self) -> Iterator[SlotView]:
        """Slots that can be of no use: failed and not wished for, or of a version that was registered anew."""
        for slot in self.slots:
            wish = self._wished.get((slot.name, slot.version))
            if slot.state in _LEAVING:
                continue
            useless = slot.state is State.FAILED if wish is None else wish.manifest_digest != slot.digest
            if useless:
                yield slot

    def missing(self) -> Iterator[Load]:
        """What can be loaded now."""
        for (name, version), wish in self._wished.items():
            slot = self._there.get((name, version))
            if slot is None or (slot.state is State.FAILED and slot.retry_at <= self._now):
                yield Load(name, wish)

    def refits(self) -> Iterator[Refit]:
        """What answers, and shall run otherwise; what could not before long ago is left as it is for a while."""
        for (name, version), wish in self._wished.items():
            slot = self._there.get((name, version))
            if slot is None or slot.state is not State.READY or slot.terms == wish.terms:
                continue
            if slot.refused != wish.terms or slot.refit_at <= self._now:
                yield Refit(name, wish)

    def superfluous(self) -> Iterator[SlotView]:
        """Ready slots that nobody wishes for and nobody needs."""
        for slot in self.slots:
            wished = (slot.name, slot.version) in self._wished
            if slot.state is State.READY and not wished and self._is_settled(slot.name):
                yield slot

    def spare(self) -> list[SlotView]:
        """Ready slots that are only kept for convenience."""
        warm = {key for key, wish in self._wished.items() if wish.role is Role.WARM}
        return [
            slot
            for slot in self.slots
            if slot.state is State.READY and (slot.name, slot.version) in warm and self._is_settled(slot.name)
        ]

    def _is_settled(self, name: str) -> bool:
        """Whether a model answers as it should, so that its other versions are not needed as a stopgap."""
        wishes = self._aspired.get(name, ())
        active = [wish for wish in wishes if wish.role is Role.ACTIVE]
        ready = [wish for wish in wishes if self._is_ready(name, wish)]
        return all(wish in ready for wish in active) if active else bool(ready) or not wishes

    def _is_ready(self, name: str, wish: Aspired) -> bool:
        slot = self._there.get((name, wish.version))
        return slot is not None and slot.state is State.READY and slot.digest == wish.manifest_digest

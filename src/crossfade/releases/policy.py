"""From what is seen of a rollout to what happens next: a pure function, so that it can be tried in every situation.

The order of the rules is the order of their urgency: what is wrong comes before what is missing, and what is missing
before what may go on. Missing data never lets anything go on.
"""

from __future__ import annotations

import math
from datetime import datetime

import msgspec

from crossfade.releases.checks.phase import CheckResult
from crossfade.releases.checks.spec import CheckSpec
from crossfade.releases.rollout import APPROVAL, PERSON, Rollout, RolloutStatus


class Situation(msgspec.Struct, frozen=True):
    """What is seen of a rollout's surroundings at one moment.

    Args:
        now: The moment.
        processes: Live processes that serve, by id.
        behind: Those that do not answer by the rollout's revision yet.
        ready: Whether each of them has the new version ready.
        problem: Why one of them cannot; empty while it may come.
        stable: The version that the subject points to now.
        usable: Whether the new version exists and may be released.
        missing: What it names that is not there, in words; empty when all of it is.
        emergency: Why nothing may go on now; empty in quiet times.
        patience_seconds: How long loading may take.
    """

    now: datetime
    processes: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    ready: bool = True
    problem: str = ""
    stable: str = ""
    usable: bool = True
    missing: str = ""
    emergency: str = ""
    patience_seconds: float = 120.0


class Wait(msgspec.Struct, frozen=True):
    """Nothing changes."""

    reason: str


class Enter(msgspec.Struct, frozen=True):
    """The next step begins."""

    step: int
    reason: str


class Complete(msgspec.Struct, frozen=True):
    """The new version gets everything for good."""

    reason: str


class Pause(msgspec.Struct, frozen=True):
    """A person has to look."""

    reason: str
    waiting_for: str = PERSON


class RollBack(msgspec.Struct, frozen=True):
    """The old version gets everything, at once.

    Args:
        reason: Why.
        latch: Whether the new version may not come again without a person's word.
    """

    reason: str
    latch: bool = True


class Abort(msgspec.Struct, frozen=True):
    """It ends, without anything being wrong with the new version."""

    reason: str


_NOBODY = "no process that serves is heard of"
Action = Wait | Enter | Complete | Pause | RollBack | Abort


def next_action(rollout: Rollout, seen: Situation) -> Action:
    """Return what happens next.

    Example:
        >>> next_action(rollout, Situation(now, usable=False))  # doctest: +SKIP
        RollBack(reason='version 1.1.0 is gone or rejected', latch=True)
    """
    return _wrong(rollout, seen) or _waiting(rollout, seen) or _missing(rollout, seen) or _onward(rollout)


def _wrong(rollout: Rollout, seen: Situation) -> Action | None:
    """What ends a rollout, in whatever status it is."""
    if seen.missing or not seen.usable:
        problem = f"cannot be used any more: {seen.missing}" if seen.missing else "is gone or rejected"
        return RollBack(f"version {rollout.candidate} {problem}")
    if seen.stable == rollout.candidate:
        return Complete(f"{rollout.subject} points to {rollout.candidate} already")
    if seen.stable != rollout.stable:
        return Abort(f"somebody moved {rollout.subject} to {seen.stable or 'nothing'} meanwhile")
    for check in _checks(rollout):
        if rollout.check_state(check).phase(check) is CheckResult.FAIL:
            return RollBack(f"check `{check.name}` failed: {_words(rollout, check)}")
    if rollout.status is RolloutStatus.PREPARING and seen.problem:
        return Abort(f"version {rollout.candidate} cannot be loaded: {seen.problem}")
    return None


def _waiting(rollout: Rollout, seen: Situation) -> Action | None:
    """What is paused stays so; what has to be looked at is paused."""
    if rollout.status is RolloutStatus.PAUSED:
        return Wait(rollout.state.words)
    if seen.emergency:
        return Pause(f"emergency mode: {seen.emergency}")
    age = (seen.now - (rollout.state.resumed_at or rollout.created_at)).total_seconds()
    if rollout.plan.deadline_seconds and age > rollout.plan.deadline_seconds:
        return Pause(f"it takes longer than the {rollout.plan.deadline_seconds:g} seconds of its plan")
    for check in _checks(rollout):
        if rollout.check_state(check).phase(check) in {CheckResult.ERROR, CheckResult.INCONCLUSIVE}:
            return Pause(f"check `{check.name}` decides nothing: {_words(rollout, check)}")
    return None


def _missing(rollout: Rollout, seen: Situation) -> Action | None:
    """What a rollout has to wait for before it may go on."""
    if rollout.status is RolloutStatus.PREPARING:
        return _unprepared(rollout, seen)
    lack = _lack(rollout, seen)
    if lack:
        return _without_traffic(rollout, seen, lack) or Wait(lack)
    step = rollout.plan.steps[rollout.state.step]
    if step.approval and rollout.state.approved < rollout.state.step:
        return Pause(f"step {rollout.state.step + 1} needs an approval", APPROVAL)
    return _too_early(rollout, seen)


def _lack(rollout: Rollout, seen: Situation) -> str:
    """Say what a step lacks before it is over; nothing when it lacks nothing."""
    if not seen.processes:
        return _NOBODY
    if seen.behind:
        return f"{len(seen.behind)} of {len(seen.processes)} processes have not followed yet"
    if early := too_early_to_say(rollout, seen.now):
        return early
    for check in _checks(rollout):
        if rollout.check_state(check).phase(check) is not CheckResult.PASS:
            return f"check `{check.name}` has not passed yet: {_words(rollout, check)}"
    return ""


def too_early_to_say(rollout: Rollout, now: datetime) -> str:
    """Say what a step lacks by time and requests before its checks have to have decided; nothing at its end."""
    state, step = rollout.state, rollout.plan.steps[rollout.state.step]
    if state.live_at is None:
        return "the processes have not followed yet"
    held = (now - state.live_at).total_seconds()
    if held < step.hold_seconds:
        return f"step {state.step + 1} holds for another {math.ceil(step.hold_seconds - held)} s"
    if state.requests < step.minimum_units:
        return f"{state.requests} of {step.minimum_units} requests have come"
    return ""


def _unprepared(rollout: Rollout, seen: Situation) -> Action | None:
    if not seen.processes or not seen.ready or seen.behind:
        begun = rollout.state.resumed_at or rollout.state.entered_at or rollout.created_at
        if (seen.now - begun).total_seconds() > seen.patience_seconds:
            words = f"version {rollout.candidate} was not ready everywhere within {seen.patience_seconds:g} seconds"
            return Abort(words)
        if not seen.processes:
            return Wait(_NOBODY)
        return Wait(f"version {rollout.candidate} is being loaded by {len(seen.processes)} processes")
    return _too_early(rollout, seen)


def _too_early(rollout: Rollout, seen: Situation) -> Action | None:
    following = rollout.plan.steps[rollout.state.step + 1 :]
    if following and following[0].not_before is not None and seen.now < following[0].not_before:
        return Wait(f"step {rollout.state.step + 2} begins at {following[0].not_before.isoformat()}")
    return None


def _without_traffic(rollout: Rollout, seen: Situation, lack: str) -> Action | None:
    """A person has to look when nobody asks: nothing can be learned."""
    state, step = rollout.state, rollout.plan.steps[rollout.state.step]
    if not (step.weight or step.shadow):
        return None
    since = max(filter(None, (state.asked_at, state.live_at, state.entered_at, state.resumed_at)), default=seen.now)
    patience = max(rollout.plan.no_traffic_seconds, step.hold_seconds)
    silent = (seen.now - since).total_seconds()
    followed = bool(seen.processes) and not seen.behind
    quiet = followed and rollout.is_read and state.requests >= step.minimum_units
    if silent > patience and not quiet:
        return Pause(f"no request for version {rollout.candidate} came within {silent:.0f} seconds: {lack}")
    begun = max(filter(None, (state.live_at, state.entered_at, state.resumed_at)), default=seen.now)
    if (seen.now - begun).total_seconds() <= patience:
        return None
    for check in _checks(rollout):
        last = rollout.check_state(check).last
        if last is not None and last.result is CheckResult.NO_TRAFFIC:
            return Pause(f"check `{check.name}` has nothing to go by: {last.reason}")
    return None


def _onward(rollout: Rollout) -> Action:
    following = rollout.state.step + 1
    if following < len(rollout.plan.steps):
        return Enter(following, f"step {following} passed" if following else f"version {rollout.candidate} is ready")
    return Complete(f"all {len(rollout.plan.steps)} steps passed")


def _checks(rollout: Rollout) -> tuple[CheckSpec, ...]:
    return () if rollout.state.step < 0 else rollout.plan.checks_of(rollout.state.step)


def _words(rollout: Rollout, check: CheckSpec) -> str:
    last = rollout.check_state(check).last
    return "it was not made yet" if last is None else last.reason

"""What each move of a rollout changes: into a step, on from a pause, to one of its ends."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from crossfade.releases.changing import Change, encoded
from crossfade.releases.rollout import PERSON, Rollout, RolloutState, RolloutStatus
from crossfade.storage.times import to_text


def entering(
    rollout: Rollout,
    step: int,
    words: str,
    now: datetime,
    processes: tuple[str, ...] = (),
    resumed_at: datetime | None = None,
) -> Change:
    """Return the change that begins a step; `resumed_at` is when a person wanted that."""
    planned = rollout.plan.steps[step]
    state = RolloutState(
        step=step,
        entered_at=now,
        approved=rollout.state.approved,
        resumed_at=resumed_at or rollout.state.resumed_at,
        processes=processes,
        words=words,
        cause=rollout.state.cause,
    )
    values = {"evidence": encoded(msgspec.structs.replace(rollout.evidence, waiting={}))}
    return Change("step", RolloutStatus.PROGRESSING, words, state, planned.weight, values)


def ending(
    rollout: Rollout, kind: str, status: RolloutStatus, reason: str, now: datetime, *, latch: bool = True
) -> Change:
    """Return the change that gives the old version everything."""
    state = msgspec.structs.replace(rollout.state, waiting_for="", words=reason, processes=())
    values = {"latched": latch, "finished_at": to_text(now), "held_until": None}
    return Change(kind, status, reason, state, 0.0, values)


def completing(rollout: Rollout, reason: str, now: datetime) -> Change:
    """Return the change that gives the new version everything for good; the old one stays loaded for a while."""
    state = msgspec.structs.replace(rollout.state, waiting_for="", words=reason, processes=())
    held = to_text(now + timedelta(seconds=rollout.plan.hold_down_seconds))
    return Change(
        "complete", RolloutStatus.COMPLETED, reason, state, 1.0, {"finished_at": to_text(now), "held_until": held}
    )


def pausing(rollout: Rollout, words: str, waiting_for: str = PERSON) -> Change:
    """Return the change after which a rollout keeps what it has, and waits."""
    state = msgspec.structs.replace(rollout.state, waiting_for=waiting_for, words=words)
    return Change("pause", RolloutStatus.PAUSED, words, state)


def resuming(rollout: Rollout, words: str, now: datetime) -> Change:
    """Return the change that lets a paused rollout go on; its checks begin anew."""
    status = RolloutStatus.PREPARING if rollout.state.step < 0 else RolloutStatus.PROGRESSING
    state = msgspec.structs.replace(rollout.state, waiting_for="", words=words, checks={}, resumed_at=now)
    return Change("resume", status, words, state)


def approving(rollout: Rollout, words: str, now: datetime) -> Change:
    """Return the change by which a person lets a rollout go on from the step that it is in."""
    state = msgspec.structs.replace(
        rollout.state, waiting_for="", words=words, approved=rollout.state.step, resumed_at=now
    )
    return Change("approve", RolloutStatus.PROGRESSING, words, state)

"""`Learned`: what a bandit knows, as it is stored between restarts."""

from __future__ import annotations

from datetime import datetime

import msgspec

from crossfade.errors import InvalidPolicyError
from crossfade.experiments.spec import ExperimentSpec
from crossfade.methods.bandits.policy import ContextualPolicy, Policy, start


class Learned(msgspec.Struct, frozen=True):
    """What is stored of a bandit.

    Args:
        policy: What it knows.
        until_ms: Decisions up to this time, in milliseconds since 1970, have been learned.
        decisions: How many.
        rewards: How many outcomes these had.
    """

    policy: Policy
    until_ms: int
    decisions: int = 0
    rewards: int = 0


class BanditReport(msgspec.Struct, frozen=True):
    """What a bandit knows.

    Args:
        experiment: Its name.
        kind: Of its policy.
        weights: Variant -> its weight now; empty where the context of the request decides.
        chances: Variant -> the probability that it is the best; empty where that cannot be said.
        decisions: How many it has learned from.
        late: How many reached the database too late to be learned.
        learned_until: Decisions up to this time have been learned.
        late_rewards: How many outcomes came after their decision had been learned as one that earned nothing more.
        reason: Why there are no chances; empty where there are.
    """

    experiment: str
    kind: str
    weights: dict[str, float]
    chances: dict[str, float]
    decisions: int
    late: int
    learned_until: datetime
    late_rewards: int = 0
    reason: str = ""


def first_learned(spec: ExperimentSpec, now: datetime, other: Learned | None) -> Learned | None:
    """Return what a bandit knows at its start; None for an experiment that is none.

    Args:
        spec: The experiment.
        now: The present moment.
        other: What the bandit knows that it is to be warm from.

    Raises:
        InvalidPolicyError: That one is of another sort, or looks at other features.
    """
    if spec.bandit is None:
        return None
    policy = start(spec.bandit.policy, [variant.name for variant in spec.variants], now)
    if other is not None:
        if type(other.policy) is not type(policy):
            raise InvalidPolicyError(problem=f"`{spec.bandit.warm_from}` learns something else")
        known = other.policy.advance(now).known()
        policy = policy.warm(known, spec.bandit.trust)  # type: ignore[arg-type]  # both are of the same sort
    return Learned(policy, int(now.timestamp() * 1000) - 1)


def drawing(learned: Learned | None) -> ContextualPolicy | None:
    """Return what draws variants, where the context of the request decides; None where slots do."""
    policy = None if learned is None else learned.policy
    return policy if isinstance(policy, ContextualPolicy) else None

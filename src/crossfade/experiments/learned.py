"""`Learned`: what a bandit knows, as it is stored between restarts."""

from __future__ import annotations

from datetime import datetime

import msgspec

from crossfade.experiments.spec import ExperimentSpec
from crossfade.methods.bandits.contextual import ContextualSpec
from crossfade.methods.bandits.policy import ContextualPolicy, Policy, start


class Learned(msgspec.Struct, frozen=True):
    """What is stored of a bandit.

    Args:
        policy: What it knows.
        until_ms: Decisions up to this time, in milliseconds since 1970, have been learned.
        decisions: How many.
    """

    policy: Policy
    until_ms: int
    decisions: int = 0


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
    """

    experiment: str
    kind: str
    weights: dict[str, float]
    chances: dict[str, float]
    decisions: int
    late: int
    learned_until: datetime


def first_learned(spec: ExperimentSpec, now: datetime) -> str | None:
    """Return what a bandit knows at its start, as it is stored; None for an experiment that is none."""
    if spec.bandit is None:
        return None
    policy = start(spec.bandit.policy, [variant.name for variant in spec.variants], now)
    return msgspec.json.encode(Learned(policy, int(now.timestamp() * 1000) - 1)).decode()


def first_policy(spec: ExperimentSpec, now: datetime) -> ContextualPolicy | None:
    """Return what draws variants at the start, where the context of the request decides."""
    if spec.bandit is None or not isinstance(spec.bandit.policy, ContextualSpec):
        return None
    policy = start(spec.bandit.policy, [variant.name for variant in spec.variants], now)
    return policy if isinstance(policy, ContextualPolicy) else None

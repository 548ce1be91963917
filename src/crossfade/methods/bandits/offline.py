"""Policies on a log of other decisions: what they would have done there, for evaluating them before they run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from crossfade.errors import InvalidDecisionLogError
from crossfade.methods.bandits.contextual import ContextualSpec
from crossfade.methods.bandits.outcomes import Outcomes
from crossfade.methods.bandits.policy import ContextFreePolicy, Policy, PolicySpec, start
from crossfade.methods.off_policy.log import Log
from crossfade.methods.off_policy.target import Target
from crossfade.methods.stats.distributions import Array

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Trial:
    """A policy and the rows of a log that it has to prove itself on.

    Args:
        policy: What is tried.
        log: The rows.
        contexts: The features that the policy looks at, `(n, d)`; None when it looks at none.
    """

    policy: Policy
    log: Log
    contexts: Array | None = None

    def target(self) -> Target:
        """Return what the policy would do in each row.

        Raises:
            InvalidDecisionLogError: The policy looks at contexts, and there are none.
            InvalidContextError: A feature without a default is missing, or one is no usable number.
        """
        if isinstance(self.policy, ContextFreePolicy):
            return Target.fixed(self.log, self.policy.weights())
        if self.contexts is None:
            raise InvalidDecisionLogError(problem="there are no contexts, and the policy looks at them")
        return Target.each(self.log, self.policy.variants, self.policy.scorer().many(self.contexts))


def learned_from_half(spec: PolicySpec, log: Log, contexts: Array | None = None) -> Trial:
    """Let a new policy learn from the first half of a log, and leave the second half to evaluate it on.

    On rows that it has learned from, a policy looks better than it is. All rows count as equally old.

    Args:
        spec: What is asked for.
        log: In the order of time.
        contexts: The features that the policy looks at, `(n, d)`.

    Raises:
        InvalidDecisionLogError: There are fewer than two rows, or a reward is out of the range of the policy.
        InvalidPolicyError: The floor is too high for so many actions.
        InvalidContextError: A feature without a default is missing, or one is no usable number.
    """
    if log.count < 2:
        raise InvalidDecisionLogError(problem="of one row no half can be learned from")
    half = log.count // 2
    before, after = log.part(0, half), log.part(half, log.count)
    looked_at = contexts if isinstance(spec, ContextualSpec) else None
    outcomes = Outcomes(
        [before.names[place] for place in before.actions.tolist()],
        before.rewards,
        np.zeros(half),
        before.propensities,
        None if looked_at is None else looked_at[:half],
    )
    policy = start(spec, before.names, _EPOCH).learn(outcomes, _EPOCH)
    return Trial(policy, after, None if looked_at is None else looked_at[half:])

"""Estimators of the mean reward of a policy: IPS, clipped IPS, SNIPS, the direct method, and doubly robust.

Each gives what it found and what every row contributed to it, whose spread is its standard error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossfade.methods.off_policy.log import Log, Places
from crossfade.methods.off_policy.reward_model import RewardModel, fitted_without
from crossfade.methods.off_policy.target import Target
from crossfade.methods.stats.distributions import Array


@dataclass(frozen=True)
class Found:
    """An estimate.

    Args:
        value: Mean reward of the policy.
        influence: By how much each row moved it, times n, `(n,)`; about zero on average.
    """

    value: float
    influence: Array

    @property
    def standard_error(self) -> float:
        """Standard error of the value: the root of the variance of rows over their number."""
        return float(np.sqrt(np.square(self.influence).sum())) / len(self.influence)


def ips(importance: Array, rewards: Array) -> Found:
    """Weigh every reward by how much more often the policy would have taken that action: no bias, much variance.

    Source:
        Horvitz, Thompson: A generalization of sampling without replacement from a finite universe (1952).

    Example:
        >>> ips(np.array([2.0, 0.0]), np.array([1.0, 5.0])).value
        1.0
    """
    return _mean(importance * rewards)


def clipped_ips(importance: Array, rewards: Array, clip: float) -> Found:
    """Weigh rewards by importance up to a limit: less variance, and too low where rewards are positive.

    Source:
        Ionides: Truncated importance sampling (2008), with the root of n as the limit.
    """
    return _mean(np.minimum(importance, clip) * rewards)


def snips(importance: Array, rewards: Array) -> Found:
    """Weigh rewards by importance and divide by its sum: adding a constant to all rewards adds it to the estimate.

    Its standard error is that of a ratio, by the delta method.

    Source:
        Swaminathan, Joachims: The self-normalized estimator for counterfactual learning (2015).

    Example:
        >>> snips(np.array([2.0, 1.0]), np.array([1.0, 4.0])).value
        2.0
    """
    mean = float(importance.mean())
    value = float(importance @ rewards) / float(importance.sum())
    return Found(value, importance * (rewards - value) / mean)


def direct(log: Log, target: Target, model: type[RewardModel]) -> Found:
    """Let a model of the reward say what every action would have earned: of little variance, and as wrong as the model.

    The standard error counts how well the model is known, through what every reward did to it, but not that it may be
    of the wrong form.

    Source:
        Dudik, Langford, Li: Doubly robust policy evaluation and learning (2011), section 2.
    """
    every = np.arange(log.count)
    fitted = model.fit(log, every)
    expected, pull = np.zeros(log.count), np.zeros(log.count)
    for action in range(len(log.names)):
        wanted = target.of_action(action)
        expected += wanted * fitted.predict(log, action, every)
        taken = np.flatnonzero(log.actions == action)
        missed = log.rewards[taken] - fitted.predict(log, action, taken)
        pull[taken] = fitted.pull(log, action, every, wanted, taken) * missed
    value = float(expected.mean())
    return Found(value, expected - value + pull)


def doubly_robust(log: Log, target: Target, importance: Array, model: type[RewardModel]) -> Found:
    """Correct the direct method by the weighted errors of its model: right when propensities or model are.

    Every reward is compared with a model that was fitted without it.

    Source:
        Dudik, Langford, Li: Doubly robust policy evaluation and learning (2011).
    """
    expected, taken = np.zeros(log.count), np.zeros(log.count)
    for fitted, rows in fitted_without(model, log):
        for action in range(len(log.names)):
            predicted = fitted.predict(log, action, rows)
            expected[rows] += target.of_action(action, rows) * predicted
            here: Places = np.flatnonzero(log.actions[rows] == action)
            taken[rows[here]] = predicted[here]
    return _mean(expected + importance * (log.rewards - taken))


def _mean(parts: Array) -> Found:
    value = float(parts.mean())
    return Found(value, parts - value)

"""Epsilon-greedy: mostly the best mean so far, and something at random in a fixed share of requests."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from crossfade.methods.bandits.spec import ContextFreeSpec, demand, winners
from crossfade.methods.bandits.tallies import Tally
from crossfade.methods.stats.distributions import Array


class EpsilonGreedy(ContextFreeSpec, frozen=True, kw_only=True, tag="epsilon_greedy"):
    """The largest mean gets 1 - epsilon of the traffic, and all variants share the rest: simple, and easily beaten.

    A variant without rewards goes first. Propensities are 1 - epsilon + epsilon / K and epsilon / K, after the floor.

    Args:
        epsilon: Share of the traffic that explores.

    Raises:
        InvalidPolicyError: `epsilon` is no probability.

    Source:
        Sutton, Barto: Reinforcement Learning (2018), section 2.2.

    Example:
        >>> EpsilonGreedy(epsilon=0.3).shares((Tally.estimated(9, 0.1), Tally.estimated(9, 0.2), Tally.estimated(9, 0)))
        array([0.1, 0.8, 0.1])
    """

    bounded: ClassVar[bool] = False
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        demand(0 <= self.epsilon <= 1, f"`epsilon` is {self.epsilon}, which is no probability")

    def shares(self, tallies: tuple[Tally, ...]) -> Array:
        """Return 1 - epsilon for the largest mean, and an equal part of the rest for all."""
        means = np.array([each.mean if each.n > 0 else np.inf for each in tallies])
        return self.epsilon / len(tallies) + (1 - self.epsilon) * winners(means)

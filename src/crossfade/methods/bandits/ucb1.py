"""UCB1: the variant whose mean could be the highest, within a bonus that shrinks with what is known."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from crossfade.methods.bandits.spec import ContextFreeSpec, demand, winners
from crossfade.methods.bandits.tallies import Tally
from crossfade.methods.stats.distributions import Array


class UCB1(ContextFreeSpec, frozen=True, kw_only=True, tag="ucb1"):
    """All traffic goes to the largest mean + alpha sqrt(2 ln N / n), in equal parts when several are the largest.

    The choice itself is not random: propensities are 1 - (K - 1) floor for the variant chosen and the floor for all
    others. A variant without rewards goes first.

    Args:
        alpha: How much the bonus counts: 1 is for rewards between 0 and 1, and stands for their unit otherwise.

    Raises:
        InvalidPolicyError: `alpha` is negative.

    Source:
        Auer, Cesa-Bianchi, Fischer: Finite-time analysis of the multiarmed bandit problem (2002). With a half-life:
        Garivier, Moulines: On upper-confidence bound policies for switching bandit problems (2011).

    Example:
        >>> UCB1().index((Tally.estimated(10, 0.5), Tally.estimated(90, 0.6), Tally())).round(3).tolist()
        [1.46, 0.92, inf]
    """

    bounded: ClassVar[bool] = False
    alpha: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        demand(0 <= self.alpha < math.inf, f"`alpha` is {self.alpha}, which is below zero")

    def shares(self, tallies: tuple[Tally, ...]) -> Array:
        """Return all traffic for the largest index."""
        return winners(self.index(tallies))

    def index(self, tallies: tuple[Tally, ...]) -> Array:
        """Return what each mean could be at most; infinite without rewards."""
        n, mean = np.array([(each.n, each.mean) for each in tallies]).T
        spread = math.log(max(n.sum(), 1.0))
        bonus = self.alpha * np.sqrt(2 * spread / np.where(n > 0, n, 1.0))
        return np.where(n > 0, mean + bonus, np.inf)

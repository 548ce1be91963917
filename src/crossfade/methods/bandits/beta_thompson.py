"""Thompson sampling for rewards between 0 and 1, such as clicks: beta posteriors, exact weights."""

from __future__ import annotations

import math

import numpy as np

from crossfade.methods.bandits.posteriors import best_of_betas, top_two
from crossfade.methods.bandits.spec import ContextFreeSpec, demand
from crossfade.methods.bandits.tallies import Tally
from crossfade.methods.stats.distributions import Array

LEAST = 0.1
"""A prior of less than this is nearly certain that a rate is 0 or 1."""


class BetaThompson(ContextFreeSpec, frozen=True, kw_only=True, tag="beta_thompson"):
    """Every variant gets traffic in proportion to the probability that it is the best.

    The propensity is that weight, after the floor. Rewards between 0 and 1 count as parts of a success.

    Args:
        successes: Of the prior, as if seen before; 1 and 1 is uniform.
        failures: Of the prior.
        top_two: Half the traffic for the best and half for its rivals: when finding it soon counts more than what is
            earned meanwhile.

    Raises:
        InvalidPolicyError: The prior has less than 0.1 of either.

    Source:
        Thompson: On the likelihood that one unknown probability exceeds another (1933). Chapelle, Li: An empirical
        evaluation of Thompson sampling (2011).

    Example:
        >>> policy = BetaThompson(floor=0.0)
        >>> policy.shares((Tally.estimated(100, 0.1), Tally.estimated(100, 0.2))).round(3).tolist()
        [0.025, 0.975]
    """

    successes: float = 1.0
    failures: float = 1.0
    top_two: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        usable = all(LEAST <= each < math.inf for each in (self.successes, self.failures))
        demand(usable, f"a prior has at least {LEAST} `successes` and `failures`")

    def shares(self, tallies: tuple[Tally, ...]) -> Array:
        """Return how much of the traffic each variant deserves, before the floor."""
        chances = self.chances(tallies)
        return top_two(chances) if self.top_two else chances

    def chances(self, tallies: tuple[Tally, ...]) -> Array:
        """Return the probability that each variant is the best."""
        n, mean = np.array([(each.n, each.mean) for each in tallies]).T
        return best_of_betas(self.successes + n * mean, self.failures + n * (1 - mean))

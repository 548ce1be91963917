"""Thompson sampling for rewards on any scale, such as revenue: normal-inverse-gamma posteriors, exact weights."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from crossfade.methods.bandits.posteriors import best_of_ts, top_two
from crossfade.methods.bandits.spec import ContextFreeSpec, demand
from crossfade.methods.bandits.tallies import Tally
from crossfade.methods.stats.distributions import Array


class GaussianThompson(ContextFreeSpec, frozen=True, kw_only=True, tag="gaussian_thompson"):
    """Every variant gets traffic in proportion to the probability that its mean is the largest.

    Neither mean nor variance is known beforehand, so what is believed about a mean has a Student-t distribution. The
    propensity is the weight, after the floor.

    Args:
        mean: Of the prior.
        strength: How many rewards the prior's mean counts like.
        shape: Half of how many rewards the prior's variance counts like, at least 0.5.
        scale: `shape` times the prior's variance: give it in the square of the reward's unit.
        top_two: Half the traffic for the best and half for its rivals.

    Raises:
        InvalidPolicyError: A parameter of the prior is out of its range.

    Source:
        Murphy: Conjugate Bayesian analysis of the Gaussian distribution (2007), section 6.

    Example:
        >>> policy = GaussianThompson(floor=0.0)
        >>> policy.shares((Tally.estimated(100, 5.0, 4.0), Tally.estimated(100, 5.5, 4.0))).round(3).tolist()
        [0.039, 0.961]
    """

    bounded: ClassVar[bool] = False
    mean: float = 0.0
    strength: float = 0.001
    shape: float = 1.0
    scale: float = 1.0
    top_two: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        demand(math.isfinite(self.mean), f"the prior's `mean` is {self.mean}")
        demand(1e-9 <= self.strength < math.inf, f"the prior's `strength` is {self.strength}, which is not above zero")
        demand(0.5 <= self.shape < math.inf, f"the prior's `shape` is {self.shape}, which is below 0.5")
        demand(1e-12 <= self.scale < math.inf, f"the prior's `scale` is {self.scale}, which is not above zero")

    def shares(self, tallies: tuple[Tally, ...]) -> Array:
        """Return how much of the traffic each variant deserves, before the floor."""
        chances = self.chances(tallies)
        return top_two(chances) if self.top_two else chances

    def chances(self, tallies: tuple[Tally, ...]) -> Array:
        """Return the probability that each variant is the best."""
        n, mean, variance = np.array([(each.n, each.mean, each.variance) for each in tallies]).T
        strength = self.strength + n
        location = (self.strength * self.mean + n * mean) / strength
        shape = self.shape + n / 2
        scale = self.scale + n * variance / 2 + self.strength * n * (mean - self.mean) ** 2 / (2 * strength)
        return best_of_ts(location, np.sqrt(scale / (shape * strength)), 2 * shape)

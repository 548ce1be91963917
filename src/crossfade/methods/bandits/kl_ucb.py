"""KL-UCB: like UCB1 for rewards between 0 and 1, with the tightest bonus that they allow."""

from __future__ import annotations

import math

import numpy as np

from crossfade.methods.bandits.spec import ContextFreeSpec, demand, winners
from crossfade.methods.bandits.tallies import Tally
from crossfade.methods.stats.distributions import Array, special

_HALVINGS = 60
"""More than enough for all digits of a number between 0 and 1."""


class KLUCB(ContextFreeSpec, frozen=True, kw_only=True, tag="kl_ucb"):
    """All traffic goes to the variant whose rate could be the highest.

    Propensities come about as with UCB1: the choice is not random, the floor is.

    Args:
        c: Weight of ln ln N in the bound; 0 is best in practice, 3 in the proof.

    Raises:
        InvalidPolicyError: `c` is negative.

    Source:
        Garivier, Cappe: The KL-UCB algorithm for bounded stochastic bandits and beyond (2011).

    Example:
        >>> KLUCB().index((Tally.estimated(10, 0.1), Tally.estimated(90, 0.1))).round(4).tolist()
        [0.5539, 0.2217]
    """

    c: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        demand(0 <= self.c < math.inf, f"`c` is {self.c}, which is below zero")

    def shares(self, tallies: tuple[Tally, ...]) -> Array:
        """Return all traffic for the largest index."""
        return winners(self.index(tallies))

    def index(self, tallies: tuple[Tally, ...]) -> Array:
        """Return what each rate could be at most; infinite without rewards."""
        n, mean = np.array([(each.n, each.mean) for each in tallies]).T
        bound = upper_bound(np.clip(mean, 0.0, 1.0), np.where(n > 0, n, 1.0), float(n.sum()), self.c)
        return np.where(n > 0, bound, np.inf)


def upper_bound(mean: Array, n: Array, total: float, c: float = 0.0) -> Array:
    """Return the largest q with n kl(mean, q) <= ln total + c ln ln total.

    Args:
        mean: Between 0 and 1, `(k,)`.
        n: Rewards of each, `(k,)`, above zero.
        total: Rewards of all.
        c: See `KLUCB`.
    """
    spread = math.log(max(total, 1.0))
    budget = spread + c * max(math.log(max(spread, 1e-300)), 0.0)
    low, high = mean.astype(np.float64), np.ones_like(mean)
    relative_entropy = special().rel_entr
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        apart = relative_entropy(mean, middle) + relative_entropy(1 - mean, 1 - middle)
        inside = n * apart <= budget
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return low

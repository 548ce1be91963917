"""Winsorising: extreme values are pulled in to a cap, so that one whale does not decide an experiment."""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from crossfade.methods.stats.distributions import Array
from crossfade.methods.stats.values import require


class Caps(msgspec.Struct, frozen=True):
    """Where values are cut off. The same for all variants, and fixed before the values are looked at by variant.

    Args:
        lower: What smaller values become; None leaves them.
        upper: What larger values become; None leaves them.

    Raises:
        InvalidAnalysisError: `lower` is above `upper`, or one is NaN.
    """

    lower: float | None = None
    upper: float | None = None

    def __post_init__(self) -> None:
        lower, upper = self.ends
        require(lower <= upper, f"values cannot be between {lower} and {upper}")

    @property
    def ends(self) -> tuple[float, float]:
        """Both caps as numbers, infinite where there is none."""
        return -math.inf if self.lower is None else self.lower, math.inf if self.upper is None else self.upper


def caps(values: ArrayLike, lower_share: float = 0.0, upper_share: float = 0.0) -> Caps:
    """Return the caps that cut off these shares of the values of all variants together, and no more.

    Args:
        values: Of all variants, or of a period before the experiment.
        lower_share: Share of the smallest that are pulled up.
        upper_share: Share of the largest that are pulled down.

    Raises:
        InvalidAnalysisError: There are no values, one is missing or infinite, or the shares are not in [0, 0.5).

    Source:
        Tukey: The future of data analysis, Annals of Mathematical Statistics 33 (1962).

    Example:
        >>> caps([1.0, 2.0, 3.0, 4.0, 1000.0], upper_share=0.25).upper
        4.0
    """
    require(0 <= lower_share < 0.5 and 0 <= upper_share < 0.5, "a share that is cut off is at least 0 and below 0.5")
    array = np.asarray(values, dtype=np.float64).ravel()
    require(array.size > 0, "there are no values to find caps from")
    require(bool(np.isfinite(array).all()), "a value is missing or infinite")
    lower = float(np.quantile(array, lower_share, method="lower")) if lower_share else None
    upper = float(np.quantile(array, 1 - upper_share, method="higher")) if upper_share else None
    return Caps(lower, upper)


def winsorize(values: ArrayLike, caps: Caps) -> Array:
    """Return the values, those beyond a cap pulled in to it; missing ones stay missing."""
    return np.clip(np.asarray(values, dtype=np.float64), *caps.ends)

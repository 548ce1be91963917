"""How good probabilities of a yes-or-no outcome were: offline before a release, and again once flights have landed."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_SMALLEST = 1e-7
_BINS = 10


@dataclass(frozen=True)
class Quality:
    """Measurements of probabilities against outcomes. Lower is better, except `auc`.

    Args:
        flights: How many outcomes.
        base_rate: Fraction of them that were late.
        mean_prediction: Mean probability; equal to `base_rate` when the level is right.
        log_loss: Mean of -ln of the probability given to what happened.
        brier: Mean squared difference between probability and outcome.
        auc: Probability that a late flight was ranked above a punctual one; 0.5 is a coin. NaN when all ended alike.
        calibration_error: Mean distance between predicted and observed frequency, over ten groups of equal size.
    """

    flights: int
    base_rate: float
    mean_prediction: float
    log_loss: float
    brier: float
    auc: float
    calibration_error: float

    def evaluation(self) -> dict[str, float]:
        """Return the measurements that exist, as they are stored with a version."""
        return {name: float(value) for name, value in asdict(self).items() if math.isfinite(value)}


def measure(late: ArrayLike, probabilities: ArrayLike) -> Quality:
    """Compare probabilities with outcomes.

    Args:
        late: (n,) outcomes, 0 or 1, n >= 1.
        probabilities: (n,) probabilities of being late.

    Source: log loss and Brier score: Gneiting and Raftery (2007), "Strictly Proper Scoring Rules"; AUC by ranks: Hanley
        and McNeil (1982); calibration error with equal-size groups: Nguyen and O'Connor (2015).

    Example:
        >>> quality = measure([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
        >>> quality.auc, round(quality.brier, 3)
        (0.75, 0.158)
    """
    outcomes = np.asarray(late, dtype=np.float64)
    given = np.asarray(probabilities, dtype=np.float64)
    clipped = np.clip(given, _SMALLEST, 1 - _SMALLEST)
    losses = outcomes * np.log(clipped) + (1 - outcomes) * np.log1p(-clipped)
    return Quality(
        flights=len(outcomes),
        base_rate=float(outcomes.mean()),
        mean_prediction=float(given.mean()),
        log_loss=float(-losses.mean()),
        brier=float(np.square(given - outcomes).mean()),
        auc=_auc(outcomes, given),
        calibration_error=_calibration_error(outcomes, given),
    )


def skill(late: ArrayLike, probabilities: ArrayLike, usual: float) -> Floats:
    """Return how much smaller the squared error of each probability is than that of always giving the usual rate.

    Above zero it told more than the rate does. Unlike the error itself it does not hang on how many flights are late.

    Args:
        late: (n,) outcomes, 0 or 1.
        probabilities: (n,) probabilities of being late.
        usual: The rate.

    Source: Murphy (1988), "Skill Scores Based on the Mean Square Error and Their Relationships to the Correlation
        Coefficient"; the difference instead of the ratio, so that single flights add up.

    Example:
        >>> skill([0, 1], [0.1, 0.9], 0.5).round(2).tolist()
        [0.24, 0.24]
    """
    outcomes = np.asarray(late, dtype=np.float64)
    gained: Floats = np.square(usual - outcomes) - np.square(np.asarray(probabilities, dtype=np.float64) - outcomes)
    return gained


def _auc(outcomes: Floats, given: Floats) -> float:
    positives = int(outcomes.sum())
    negatives = len(outcomes) - positives
    if not positives or not negatives:
        return math.nan
    _, group, counts = np.unique(given, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[group]  # equal probabilities share the mean of their ranks
    return float((ranks[outcomes == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _calibration_error(outcomes: Floats, given: Floats) -> float:
    groups = np.array_split(np.argsort(given, kind="stable"), min(_BINS, len(given)))
    gaps = [len(group) * abs(given[group].mean() - outcomes[group].mean()) for group in groups]
    return float(sum(gaps) / len(given))

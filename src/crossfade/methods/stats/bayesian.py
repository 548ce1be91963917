"""The Bayesian reading of a contrast: how likely the treatment is better, and what a wrong choice would cost."""

from __future__ import annotations

import functools
import math

import msgspec
import numpy as np

from crossfade.methods.stats.contrast import TINY
from crossfade.methods.stats.distributions import (
    Array,
    beta_cdf,
    log_beta,
    normal_cdf,
    normal_density,
    normal_quantile,
)
from crossfade.methods.stats.proportions import Count
from crossfade.methods.stats.values import Contrast, NotEstimable, Scale, require, require_probability


class Prior(msgspec.Struct, frozen=True):
    """A normal prior of the relative effect.

    Args:
        mean: What is expected before anything was measured; 0 favours nobody.
        deviation: How large effects usually are: 0.3 hardly pulls, 0.05 is sceptical.

    Raises:
        InvalidAnalysisError: `deviation` is not positive.
    """

    mean: float = 0.0
    deviation: float = 0.3

    def __post_init__(self) -> None:
        require(
            math.isfinite(self.mean) and 0 < self.deviation < math.inf, "a prior has a mean and a deviation above zero"
        )


class Posterior(msgspec.Struct, frozen=True, tag="posterior"):
    """What is believed about an effect.

    Args:
        scale: As of the contrast; on `log`, `mean` and the interval are relative effects, the rest is on the logarithm.
        mean: The expected effect (on `log`: the median).
        lower: Lower end of the credible interval.
        upper: Upper end of the credible interval.
        deviation: Standard deviation.
        chance_to_beat: Probability that the treatment is larger.
        loss_of_treatment: How much is lost on average, on this scale, by choosing the treatment.
        loss_of_control: How much is lost on average by staying with the control.
        alpha: The interval holds the effect with probability 1 - this.
    """

    scale: Scale
    mean: float
    lower: float
    upper: float
    deviation: float
    chance_to_beat: float
    loss_of_treatment: float
    loss_of_control: float
    alpha: float


def posterior(
    contrast: Contrast | NotEstimable, prior: Prior | None = None, alpha: float = 0.05
) -> Posterior | NotEstimable:
    """Combine a contrast with a prior of the effect.

    Args:
        contrast: On any scale; the prior is relative, and is multiplied by the control for absolute contrasts.
        prior: What was believed before; None is flat: all effects are as likely.
        alpha: Of the credible interval.

    Raises:
        InvalidAnalysisError: `alpha` is not between 0 and 1.

    Source:
        Normal posterior of a normal mean. Expected loss: Stucchio, Bayesian A/B testing at VWO (2015), in closed form.
    """
    require_probability(alpha)
    if isinstance(contrast, NotEstimable):
        return contrast
    unit = abs(contrast.baseline) if contrast.scale == "absolute" else 1.0
    error = contrast.standard_error
    if prior is None:
        mean, deviation = contrast.value, error
    elif unit < TINY:
        return NotEstimable("the control is zero, so a prior of the relative effect says nothing")
    else:
        trust = 1 / error**2
        belief = 1 / (prior.deviation * unit) ** 2
        mean = (trust * contrast.value + belief * prior.mean * unit) / (trust + belief)
        deviation = 1 / math.sqrt(trust + belief)
    half = float(normal_quantile(1 - alpha / 2)) * deviation
    loss = expected_loss(mean, deviation)
    return Posterior(
        scale=contrast.scale,
        mean=contrast.readable(mean),
        lower=contrast.readable(mean - half),
        upper=contrast.readable(mean + half),
        deviation=deviation,
        chance_to_beat=float(normal_cdf(mean / deviation)),
        loss_of_treatment=loss,
        loss_of_control=expected_loss(-mean, deviation),
        alpha=alpha,
    )


def expected_loss(mean: float, deviation: float) -> float:
    """Return how much a normal effect is below zero on average, counting nothing where it is above."""
    z = mean / deviation
    return max(float(deviation * normal_density(z) - mean * normal_cdf(-z)), 0.0)


class BetaReading(msgspec.Struct, frozen=True):
    """What is believed about two proportions.

    Args:
        chance_to_beat: Probability that the treatment's proportion is larger.
        loss_of_treatment: Expected loss in proportion by choosing the treatment.
        loss_of_control: Expected loss in proportion by staying with the control.
    """

    chance_to_beat: float
    loss_of_treatment: float
    loss_of_control: float


def beta_binomial(control: Count, treatment: Count, prior: tuple[float, float] = (1.0, 1.0)) -> BetaReading:
    """Compare two proportions with beta posteriors, exactly also where counts are small.

    Args:
        control: Of the variant that is compared against.
        treatment: Of the variant of interest.
        prior: Parameters of the beta prior of both; (1, 1) is flat.

    Raises:
        InvalidAnalysisError: A parameter of the prior is not positive.

    Source:
        The definitions: P(C < T), and E max(C - T, 0) as the integral of F_T (1 - F_C); Gauss-Legendre quadrature in
        the log odds.
    """
    require(all(0 < parameter < math.inf for parameter in prior), "parameters of a beta prior are above zero")
    of_c = (prior[0] + control.successes, prior[1] + control.n - control.successes)
    of_t = (prior[0] + treatment.successes, prior[1] + treatment.n - treatment.successes)
    breaks = np.unique(np.concatenate([_breaks(*of_c), _breaks(*of_t)]))
    points, weights = _nodes()
    half, middle = np.diff(breaks) / 2, (breaks[1:] + breaks[:-1]) / 2
    odds = (middle[:, None] + half[:, None] * points).ravel()
    log_x, log_rest = -np.logaddexp(0, -odds), -np.logaddexp(0, odds)
    x, weight = np.exp(log_x), (half[:, None] * weights).ravel()
    below_c, below_t = beta_cdf(x, *of_c), beta_cdf(x, *of_t)
    density = np.exp(of_t[0] * log_x + of_t[1] * log_rest - log_beta(*of_t))
    steps = weight * np.exp(log_x + log_rest)
    return BetaReading(
        chance_to_beat=min(max(float((density * below_c * weight).sum()), 0.0), 1.0),
        loss_of_treatment=float((below_t * (1 - below_c) * steps).sum()),
        loss_of_control=float((below_c * (1 - below_t) * steps).sum()),
    )


def _breaks(a: float, b: float) -> Array:
    """Return where the density of the log odds bends; unlike that of the proportion it has no poles."""
    deviation = math.sqrt((1 + 1 / a) / a + (1 + 1 / b) / b)
    steps = np.array([1.5, 3, 5, 8, 16, 40])
    return np.clip(math.log(a / b) + deviation * np.concatenate([-steps[::-1], [0.0], steps]), -700.0, 700.0)


@functools.cache
def _nodes() -> tuple[Array, Array]:
    return np.polynomial.legendre.leggauss(32)

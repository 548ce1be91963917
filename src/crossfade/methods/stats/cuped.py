"""CUPED: what was known before the experiment takes noise out of what was measured in it."""

from __future__ import annotations

import msgspec
import numpy as np

from crossfade.methods.stats.gradient import Statistic, linearize, quadratic, unusable
from crossfade.methods.stats.moments import Moments
from crossfade.methods.stats.values import Estimate, NotEstimable


class Adjustment(msgspec.Struct, frozen=True):
    """How a statistic is adjusted by covariates; the same for every variant of an experiment.

    Args:
        covariates: Statistics of columns that the treatment cannot have changed.
        coefficients: How much of each is taken off.
        centers: The covariates over all variants, so that adjusted values stay where they were.
    """

    covariates: tuple[Statistic, ...]
    coefficients: tuple[float, ...]
    centers: tuple[float, ...]


def adjustment(pooled: Moments, statistic: Statistic, covariates: tuple[Statistic, ...]) -> Adjustment:
    """Fit the adjustment that leaves the least variance: the regression of the statistic on its covariates.

    Covariates that do not vary, or that others already contain, get no weight of their own.

    Args:
        pooled: Of all variants: `Moments.within` uses only what varies inside of variants, so the treatment's effect
            cannot leak into the coefficients; `Moments.total` is the joint sample.
        statistic: What is measured.
        covariates: What was known before.

    Source:
        Deng, Xu, Kohavi, Walker: Improving the sensitivity of online controlled experiments by utilizing
        pre-experiment data (WSDM 2013); for ratios the same on their gradients.
    """
    _, gradient = linearize(statistic, pooled.mean)
    linear = [linearize(covariate, pooled.mean) for covariate in covariates]
    gradients = np.array([row for _, row in linear])
    centers = np.array([value for value, _ in linear])
    usable = np.isfinite(gradients).all(axis=1) & np.isfinite(centers)
    gradients, centers = np.where(usable[:, None], gradients, 0.0), np.where(usable, centers, 0.0)
    sigma = gradients @ pooled.m2 @ gradients.T
    scale = np.sqrt(np.diag(sigma))
    scale = np.where(scale > 0, scale, 1.0)  # one scale for all, so that "singular" does not depend on units
    target = gradients @ pooled.m2 @ np.nan_to_num(gradient) / scale
    solution = np.linalg.lstsq(sigma / np.outer(scale, scale), target, rcond=1e-10)[0] / scale
    return Adjustment(covariates, tuple(map(float, solution)), tuple(map(float, centers)))


def adjusted(moments: Moments, statistic: Statistic, adjustment: Adjustment) -> Estimate | NotEstimable:
    """Estimate a statistic of one variant, adjusted by its covariates.

    The estimate also knows the value without adjustment and how the two vary together, because relative effects are
    relative to the unadjusted control.
    """
    used = [
        item for item in zip(adjustment.covariates, adjustment.coefficients, adjustment.centers, strict=True) if item[1]
    ]
    for each in (statistic, *(covariate for covariate, _, _ in used)):
        if (refusal := unusable(moments, each)) is not None:
            return refusal
    baseline, gradient = linearize(statistic, moments.mean)
    value, slope = baseline, gradient
    for covariate, coefficient, center in used:
        known, direction = linearize(covariate, moments.mean)
        value -= coefficient * (known - center)
        slope = slope - coefficient * direction
    return Estimate(
        value=value,
        variance=max(quadratic(moments, slope, slope), 0.0),
        n=int(moments.n),
        baseline=baseline,
        baseline_variance=quadratic(moments, gradient, gradient),
        covariance=quadratic(moments, slope, gradient),
        df=int(moments.n) - 1,
    )

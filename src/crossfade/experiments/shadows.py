"""Shadows: variants that answered the same requests as the control, so differences are within units: paired."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from crossfade.experiments.samples import Samples, pooled, width_of
from crossfade.ledger.metrics import MetricSpec
from crossfade.methods.stats.contrast import ROUNDING, TINY, UNSEEN
from crossfade.methods.stats.gradient import (
    SIGNAL,
    Mean,
    Ratio,
    Statistic,
    estimate,
    linearize,
    quadratic,
    unusable,
)
from crossfade.methods.stats.moments import Moments
from crossfade.methods.stats.values import Contrast, Estimate, NotEstimable, Scale


@dataclass(frozen=True)
class Paired:
    """Control and shadow on the same units.

    Args:
        moments: Of all units.
        own: What the metric is of the control.
        other: What it is of the shadow.
        left_out: No units ever are: nothing is drawn, so weights do not matter.
        multiple: What the shadow is compared with: this much of the control.
    """

    moments: Moments
    own: Statistic
    other: Statistic
    left_out: int = 0
    multiple: float = 1.0

    @property
    def control(self) -> Estimate | NotEstimable:
        """Of the control."""
        found = estimate(self.moments, self.own)
        return found if isinstance(found, NotEstimable) else found.grown(self.multiple - 1)

    @property
    def treatment(self) -> Estimate | NotEstimable:
        """Of the shadow."""
        return estimate(self.moments, self.other)

    def beyond(self, share: float, *, cautious: bool = False) -> Contrast | NotEstimable:
        """Compare the shadow with the control and a share of it more, in the metric's unit."""
        return replace(self, multiple=1 + share).contrast("absolute", cautious=cautious)

    def contrast(self, scale: Scale, *, cautious: bool = False) -> Contrast | NotEstimable:  # noqa: ARG002
        """Compare them: the gradient of the difference, of the relative difference, or of the logarithm of the ratio.

        Where all units differ alike, as when every answer of a shadow is an error and none of the control, there is
        room for a few that would have differed otherwise, as between variants (`methods.stats.contrast.contrast`).

        Args:
            scale: On which scale.
            cautious: As of `Pair`; the same units have one variance, so there is nothing to be cautious about.

        Source:
            The delta method; of a difference of means it is the paired t-test.
        """
        for statistic in (self.own, self.other):
            if (refusal := unusable(self.moments, statistic)) is not None:
                return refusal
        (control, of_control), (treatment, of_treatment) = (
            linearize(statistic, self.moments.mean) for statistic in (self.own, self.other)
        )
        control, of_control = self.multiple * control, self.multiple * of_control
        size = 1.0
        if scale == "absolute":
            value, gradient = treatment - control, of_treatment - of_control
        elif scale == "relative":
            if not _clear(control, self.control):
                return NotEstimable("the control cannot be told from zero, so nothing is relative to it")
            size = abs(control)
            value = (treatment - control) / size
            slope = math.copysign(1.0, control) * treatment / control**2
            gradient = of_treatment / size - slope * of_control
        else:
            if not (
                min(control, treatment) > 0 and _clear(control, self.control) and _clear(treatment, self.treatment)
            ):
                return NotEstimable("a variant is not clearly above zero, so it has no logarithm")
            size = min(control, treatment)
            value, gradient = math.log(treatment / control), of_treatment / treatment - of_control / control
        error, n = math.sqrt(max(quadratic(self.moments, gradient, gradient), 0.0)), int(self.moments.n)
        whole, apart = self._whole_value()
        if not error * math.sqrt(n) > ROUNDING * whole / size:
            error = min(math.sqrt(UNSEEN) * whole / n, 2 * apart if apart > 0 else math.inf) / size
        if not error > TINY:
            return NotEstimable("the values do not vary: all of them are zero")
        return Contrast(scale, value, error, n - 1, n, n, control)

    def _whole_value(self) -> tuple[float, float]:
        """Return by how much a unit differs that differs, and the error that two variants would have.

        It is 1 of what is 0 or 1, however rare, and the value of what always is the same: the mean of the squares by
        the mean. Near a mean of zero that says nothing; but nobody is known worse than from other units.
        """
        whole, variance = 0.0, 0.0
        for found in (self.control, self.treatment):
            if isinstance(found, Estimate):
                variance += found.variance
                squared, mean = found.value**2 + found.n * found.variance, abs(found.value)
                whole = max(whole, squared / mean if mean > TINY else math.sqrt(squared))
        return whole, math.sqrt(variance)


def _clear(value: float, found: Estimate | NotEstimable) -> bool:
    return isinstance(found, Estimate) and abs(value) > SIGNAL * math.sqrt(found.variance)


def paired(samples: Samples, control: str, shadow: int, metric: MetricSpec) -> Paired | None:
    """Return the control and one of its shadows, on all units of the control.

    Args:
        samples: Whose moments have, after the covariate, one further column for each shadow (two for a ratio): what it
            would have had.
        control: The variant that answered.
        shadow: Place of the shadow in the order of the experiment's shadows.
        metric: Which.

    Returns:
        None where there are no such columns, because the metric does not depend on answers alone.
    """
    sample = pooled(samples, control)
    own = width_of(metric)
    column = own * (1 + shadow) + bool(metric.covariate)
    if sample is None or metric.kind == "quantile" or column + own > len(sample.moments.mean):
        return None
    if metric.kind == "ratio":
        return Paired(sample.moments, Ratio(0, 1), Ratio(column, column + 1))
    return Paired(sample.moments, Mean(0), Mean(column))

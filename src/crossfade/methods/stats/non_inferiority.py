"""Non-inferiority: showing that a guardrail got no worse than a margin, which "no significant change" does not show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from crossfade.methods.stats.contrast import shifted
from crossfade.methods.stats.values import Alternative, Contrast, Effect, NotEstimable, Scale, require

Direction = Literal["increase", "decrease"]
"""What is good for the metric."""


class NonInferiority(msgspec.Struct, frozen=True, tag="non_inferiority"):
    """Whether a treatment was shown to be no worse than a margin.

    Args:
        shown: It was.
        margin: How much worse is acceptable, above zero.
        worst: The worst effect that is still compatible with the data; compare it with the margin.
        p_value: Of "it is worse by the margin or more".
        alpha: Error probability.
        standard_error: Of the effect, as it was tested.
        scale: Of the margin: relative to the control, or absolute.
    """

    shown: bool
    margin: float
    worst: float
    p_value: float
    alpha: float
    standard_error: float = 0.0
    scale: Scale = "relative"


def non_inferiority(
    contrast: Contrast | NotEstimable,
    margin: float,
    direction: Direction,
    infer: Callable[[Contrast, float, Alternative], Effect | NotEstimable],
    alpha: float = 0.05,
) -> NonInferiority | NotEstimable:
    """Test against "the treatment is worse by the margin or more", one-sided.

    Args:
        contrast: Absolute or relative; the margin is on the same scale.
        margin: How much worse is acceptable, 0.02 for 2 % on the relative scale.
        direction: What is good: an increase or a decrease.
        infer: `welch` for one look, `confidence_sequence` for any number of looks.
        alpha: Error probability.

    Raises:
        InvalidAnalysisError: The margin is negative, or the contrast is on the logarithmic scale.

    Source:
        ICH E9, Statistical Principles for Clinical Trials (1998), section 3.3.2.
    """
    require(0 <= margin < float("inf"), f"a margin of {margin} is not zero or more")
    if isinstance(contrast, NotEstimable):
        return contrast
    require(contrast.scale != "log", "a margin is on the absolute or the relative scale")
    up = direction == "increase"
    by = margin if up else -margin
    effect = infer(shifted(contrast, by), alpha, "greater" if up else "less")
    if isinstance(effect, NotEstimable):
        return effect
    worst = effect.interval[0 if up else 1] - by
    return NonInferiority(
        effect.significant, margin, worst, effect.p_value, alpha, contrast.standard_error, contrast.scale
    )

"""Fixed horizon: Welch's t, for one look at the end that was planned; looking earlier and often breaks its promise."""

from __future__ import annotations

from crossfade.methods.stats.distributions import t_cdf, t_quantile
from crossfade.methods.stats.values import Alternative, Contrast, Effect, NotEstimable, require_probability


def welch(
    contrast: Contrast | NotEstimable, alpha: float = 0.05, alternative: Alternative = "two-sided"
) -> Effect | NotEstimable:
    """Return effect, interval and p-value of a contrast, by Student's t with the contrast's degrees of freedom.

    Raises:
        InvalidAnalysisError: `alpha` is not between 0 and 1.

    Source:
        Welch: The generalization of "Student's" problem when several different population variances are involved,
        Biometrika 34 (1947).
    """
    require_probability(alpha)
    if isinstance(contrast, NotEstimable):
        return contrast
    t = contrast.value / contrast.standard_error
    if alternative == "two-sided":
        p_value, quantile = 2 * t_cdf(-abs(t), contrast.df), t_quantile(1 - alpha / 2, contrast.df)
    else:
        p_value = t_cdf(-t if alternative == "greater" else t, contrast.df)
        quantile = t_quantile(1 - alpha, contrast.df)
    return Effect.around(contrast, float(quantile) * contrast.standard_error, p_value, alpha, alternative)

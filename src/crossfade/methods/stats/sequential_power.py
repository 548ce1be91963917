"""Power when one looks more than once: by always-valid intervals or by group sequential bounds."""

from __future__ import annotations

import numpy as np

from crossfade.methods.stats.confidence_sequence import SMALLEST, TUNING, mixture, width
from crossfade.methods.stats.distributions import Array, normal_cdf
from crossfade.methods.stats.group_sequential import Spending, boundaries, crossing, looks
from crossfade.methods.stats.power import Design, Population, signal
from crossfade.methods.stats.values import require


def always_valid_power(
    population: Population,
    effect: float,
    n: float,
    design: Design,
    *,
    times: int = 50,
    tuning: float = TUNING,
    smallest: int = SMALLEST,
) -> float:
    """Return the probability that the always-valid interval leaves out zero at any of equally spaced looks.

    Args:
        population: What is known of the metric.
        effect: Difference of the means, absolute.
        n: Units of all variants at the last look.
        design: How the experiment is judged.
        times: How many looks there are until then; more see a little more.
        tuning: As of `confidence_sequence`.
        smallest: Units that each variant must have before the first interval.

    Raises:
        InvalidAnalysisError: The effect is impossible, or there are no looks.

    Source:
        The recursion of Armitage, McPherson, Rowe, JRSS A 132 (1969), with the interval's width as bound.
    """
    information, compared = looks(times), design.control_share + design.treatment_share
    least = smallest / (n * min(design.control_share, design.treatment_share))
    information = information[information >= least]
    if not information.size:
        return 0.0
    bounds = _widths(information * n * compared, design, tuning)
    drift = signal(population, effect, n, design)
    return float(crossing(bounds, information, drift, design.alternative).sum())


def always_valid_power_at_end(
    population: Population, effect: float, n: float, design: Design, *, tuning: float = TUNING
) -> float:
    """Return the probability that the always-valid interval leaves out zero at the last look; less than at any look."""
    require(n > 0, "there are no units")
    compared = design.control_share + design.treatment_share
    bound = float(_widths(np.array([n * compared]), design, tuning)[0])
    drift = signal(population, effect, n, design)
    if design.alternative == "two-sided":
        return float(normal_cdf(drift - bound) + normal_cdf(-drift - bound))
    return float(normal_cdf((drift if design.alternative == "greater" else -drift) - bound))


def group_sequential_power(
    population: Population,
    effect: float,
    n: float,
    design: Design,
    *,
    times: int = 5,
    spending: Spending = "obrien_fleming",
) -> float:
    """Return the probability that any of equally spaced looks is outside of its group sequential bound.

    Raises:
        InvalidAnalysisError: The effect is impossible, or there are no looks.
    """
    information = looks(times)
    bounds = boundaries(information, design.alpha, spending, design.alternative)
    return float(crossing(bounds, information, signal(population, effect, n, design), design.alternative).sum())


def _widths(n: Array, design: Design, tuning: float) -> Array:
    ratio = mixture(design.alpha, tuning, design.alternative)
    return width(n, design.alpha, ratio, design.alternative)

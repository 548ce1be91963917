"""Exact tests of two proportions, for few units: Fisher's, Barnard's and Boschloo's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crossfade.methods.stats.distributions import Array, log_choose
from crossfade.methods.stats.proportions import Count
from crossfade.methods.stats.values import Alternative, require

LARGEST = 1_000
"""Units of a variant up to which the unconditional tests are worth their time; memory grows with the square."""
_TIES = 1e-7
"""Relative distance within which two computed probabilities count as the same."""
_GRID = 257
_PEAKS = 3
"""The function has several local maxima; this many of the highest are looked at closely."""


def fisher(control: Count, treatment: Count, alternative: Alternative = "two-sided") -> float:
    """Return Fisher's p-value: how likely so extreme a table is, given how many did it in both variants together.

    Source:
        Fisher: The logic of inductive inference, Journal of the Royal Statistical Society 98 (1935).
    """
    total = control.successes + treatment.successes
    of_treatment = np.arange(max(0, total - control.n), min(total, treatment.n) + 1, dtype=np.float64)
    logs = log_choose(treatment.n, of_treatment) + log_choose(control.n, total - of_treatment)
    probability = np.exp(logs - logs.max())
    probability /= probability.sum()
    here = int(treatment.successes - of_treatment[0])
    if alternative == "greater":
        chosen = probability[here:]
    elif alternative == "less":
        chosen = probability[: here + 1]
    else:
        chosen = probability[probability <= probability[here] * (1 + _TIES)]
    return min(float(chosen.sum()), 1.0)


def barnard(control: Count, treatment: Count, alternative: Alternative = "two-sided") -> float:
    """Return Barnard's p-value: more powerful than Fisher's, because only the units of each variant are given.

    Tables are ordered by the pooled z statistic; the p-value is the largest over the unknown common rate.

    Raises:
        InvalidAnalysisError: A variant has more than 1,000 units; the normal approximation is as good there.

    Source:
        Barnard: Significance tests for 2x2 tables, Biometrika 34 (1947).
    """
    _require_small(control, treatment)
    c = np.arange(control.n + 1)[:, None] / control.n
    t = np.arange(treatment.n + 1)[None, :] / treatment.n
    pooled = (c * control.n + t * treatment.n) / (control.n + treatment.n)
    error = np.sqrt(pooled * (1 - pooled) * (1 / control.n + 1 / treatment.n))
    z = np.divide(t - c, error, out=np.zeros_like(error), where=error > 0)
    z = {"two-sided": np.abs(z), "greater": z, "less": -z}[alternative]
    return _largest(control, treatment, z >= z[control.successes, treatment.successes] - _TIES)


def boschloo(control: Count, treatment: Count, alternative: Alternative = "two-sided") -> float:
    """Return Boschloo's p-value: tables ordered by Fisher's p-value; never larger than Fisher's one-sided p-value.

    Two-sided it is twice the smaller of the one-sided ones.

    Raises:
        InvalidAnalysisError: A variant has more than 1,000 units; the normal approximation is as good there.

    Source:
        Boschloo: Raised conditional level of significance for the 2x2-table, Statistica Neerlandica 24 (1970).
    """
    _require_small(control, treatment)
    if alternative == "two-sided":
        return min(1.0, 2 * min(boschloo(control, treatment, "less"), boschloo(control, treatment, "greater")))
    p_values = _fisher_tails(control.n, treatment.n, alternative)
    here = p_values[control.successes, treatment.successes]
    return _largest(control, treatment, p_values <= here * (1 + _TIES))


def _require_small(control: Count, treatment: Count) -> None:
    require(bool(control.n and treatment.n), "one of the variants has no units")
    require(max(control.n, treatment.n) <= LARGEST, f"exact tests are for up to {LARGEST} units in each variant")


def _fisher_tails(n_control: int, n_treatment: int, alternative: Alternative) -> Array:
    """Return Fisher's one-sided p-value of every table, `(n_control + 1, n_treatment + 1)`."""
    c = log_choose(n_control, np.arange(n_control + 1, dtype=np.float64))
    t = log_choose(n_treatment, np.arange(n_treatment + 1, dtype=np.float64))
    logs = c[:, None] + t[None, :]
    tails = np.empty_like(logs)
    for offset in range(-n_control, n_treatment + 1):
        # tables with the same total lie on an antidiagonal; flipped upside down it is a diagonal
        diagonal = np.diagonal(logs[::-1], offset)
        probability = np.exp(diagonal - diagonal.max())
        probability /= probability.sum()
        tail = np.cumsum(probability) if alternative == "less" else np.cumsum(probability[::-1])[::-1]
        rows = np.arange(max(0, -offset), max(0, -offset) + len(diagonal))
        tails[n_control - rows, rows + offset] = tail
    return tails


def _largest(control: Count, treatment: Count, region: NDArray[np.bool_]) -> float:
    """Return the largest probability of a set of tables over the common rate: a grid, then golden sections."""
    k_c, k_t = np.arange(control.n + 1, dtype=np.float64), np.arange(treatment.n + 1, dtype=np.float64)
    choose_c, choose_t = log_choose(control.n, k_c), log_choose(treatment.n, k_t)
    chosen = region.astype(np.float64)

    def probability(rates: Array) -> Array:
        log_yes, log_no = np.log(rates)[:, None], np.log1p(-rates)[:, None]
        of_c = np.exp(choose_c + k_c * log_yes + (control.n - k_c) * log_no)
        of_t = np.exp(choose_t + k_t * log_yes + (treatment.n - k_t) * log_no)
        found: Array = np.einsum("gi,gi->g", of_c @ chosen, of_t)
        return found

    # rates of rare and of common events matter alike, so the grid is even in the arc sine
    angles = np.linspace(0, np.pi / 2, _GRID + 2)[1:-1]
    values = probability(np.sin(angles) ** 2)
    best, step = float(values.max()), angles[1] - angles[0]
    peaks = np.flatnonzero((values >= np.roll(values, 1)) & (values >= np.roll(values, -1)))
    for peak in sorted(peaks, key=lambda peak: -values[peak])[:_PEAKS]:
        center, width = angles[peak], step
        for _ in range(6):  # each round looks 16 times closer
            near = np.clip(np.linspace(center - width, center + width, 33), 1e-6, np.pi / 2 - 1e-6)
            around = probability(np.sin(near) ** 2)
            center, width = near[int(around.argmax())], width / 16
            best = max(best, float(around.max()))
    return min(best, 1.0)

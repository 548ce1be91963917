"""Which of several beta or Student-t posteriors is the largest: exact Thompson weights, without drawing at random.

For normal posteriors see `crossfade.methods.stats.best_arm`, whose quadrature this is.
"""

from __future__ import annotations

import numpy as np

from crossfade.methods.stats.best_arm import quadrature, share_of_best
from crossfade.methods.stats.distributions import Array, beta_cdf, log_beta, log_gamma, special, t_cdf

_INNER = np.array([0.0, 1.0, 2.0, 3.0, 5.0, 8.0])
_TAILS = np.array([12.0, 20.0, 35.0])
"""In the logit a small count leaves an exponential tail, which is over by then."""
_EDGE = np.array([-2.0, 2.0])
"""Around the logit at which a beta density begins to fall like exp(-exp), when its other parameter is small."""
_LEFT_OUT = 1e-9
"""Probability of the tails of Student's t that are left out."""


def best_of_betas(successes: Array, failures: Array) -> Array:
    """Return the probability that each of several beta-distributed rates is the largest; right to about 1e-9.

    In the logit of the rate, where every beta density is smooth, however small its parameters.

    Args:
        successes: First parameters, `(k,)`, at least 0.1.
        failures: Second parameters, `(k,)`, at least 0.1.

    Source:
        The definition; Gauss-Legendre quadrature on intervals between points where a density bends.

    Example:
        >>> best_of_betas(np.array([11.0, 21.0]), np.array([91.0, 81.0])).round(3).tolist()
        [0.025, 0.975]
    """
    digamma, trigamma = special().psi, special().polygamma
    center = digamma(successes) - digamma(failures)
    spread = np.sqrt(trigamma(1, successes) + trigamma(1, failures))
    steps = np.concatenate([_INNER, _TAILS])
    around = center[:, None] + spread[:, None] * np.concatenate([-steps, steps])
    edges = np.concatenate([np.log(successes)[:, None] + _EDGE, -np.log(failures)[:, None] - _EDGE], axis=1)
    breaks = np.unique(np.concatenate([around, edges], axis=1))
    logit, weights = quadrature(breaks)
    log_rate, log_rest = -np.logaddexp(0.0, -logit), -np.logaddexp(0.0, logit)
    a, b = successes[:, None], failures[:, None]
    constant = np.array([log_beta(*pair) for pair in zip(successes, failures, strict=True)])[:, None]
    density = np.exp(a * log_rate + b * log_rest - constant)
    # above one half through the complement, because rates next to 1 cannot be told from it
    low, rate, rest = logit < 0, np.exp(log_rate), np.exp(log_rest)
    below = np.vstack(
        [
            np.concatenate([beta_cdf(rate[low], one, other), 1 - beta_cdf(rest[~low], other, one)])
            for one, other in zip(successes.tolist(), failures.tolist(), strict=True)
        ]
    )
    return _whole(share_of_best(density * weights, below))


def best_of_ts(location: Array, scale: Array, df: Array) -> Array:
    """Return the probability that each of several values is the largest, when each has a Student-t distribution.

    Args:
        location: `(k,)`.
        scale: `(k,)`, above zero.
        df: Degrees of freedom, `(k,)`, at least 1.

    Source:
        The definition; Gauss-Legendre quadrature on intervals that grow by a factor in the tails.

    Example:
        >>> best_of_ts(np.array([0.0, 1.0]), np.array([0.5, 0.5]), np.array([4.0, 4.0])).round(3).tolist()
        [0.127, 0.873]
    """
    location = location - location.mean()  # only differences matter, and small numbers keep their digits
    ends = [at + by * _steps(degrees) for at, by, degrees in zip(location, scale, df, strict=True)]
    x, weights = quadrature(np.unique(np.concatenate(ends)))
    z = (x[None, :] - location[:, None]) / scale[:, None]
    v = df[:, None]
    constant = log_gamma((v + 1) / 2) - log_gamma(v / 2) - 0.5 * np.log(v * np.pi) - np.log(scale[:, None])
    density = np.exp(constant - (v + 1) / 2 * np.log1p(z * z / v))
    return _whole(share_of_best(density * weights, t_cdf(z, v)))


def top_two(chances: Array) -> Array:
    """Return the weights of top-two Thompson sampling: half the traffic for the best, half for its strongest rival.

    Plain Thompson sampling gives nearly everything to the best once it is likely; this finds out sooner that it is.

    Args:
        chances: Probability of each to be the best, `(k,)`.

    Source:
        Russo: Simple Bayesian algorithms for best arm identification (2016), with beta = 1/2:
        p_i / 2 + sum over j != i of p_j p_i / (1 - p_j) / 2, which redraws until another one is the best.

    Example:
        >>> top_two(np.array([0.9, 0.1, 0.0])).round(3).tolist()
        [0.5, 0.5, 0.0]
    """
    count = len(chances)
    if count == 1:
        return np.ones(1)
    others = chances[None, :] * ~np.eye(count, dtype=bool)  # row j: chances of those that are not j
    total = others.sum(axis=1, keepdims=True)  # not 1 - p_j, of which rounding leaves nothing
    rivals = np.divide(others, total, out=(1 - np.eye(count)) / (count - 1), where=total > 0)
    found: Array = 0.5 * chances + 0.5 * (chances @ rivals)
    return found


def _steps(df: float) -> Array:
    """Return where to cut the density of Student's t, in units of its scale: far enough out for `_LEFT_OUT`."""
    farthest = max(8.0, _LEFT_OUT ** (-1 / df))
    tails = np.geomspace(8.0, farthest, 1 + int(np.ceil(np.log(farthest / 8.0) / np.log(3.0))))
    steps = np.concatenate([_INNER[:-1], tails])
    return np.concatenate([-steps, steps])


def _whole(shares: Array) -> Array:
    """Return shares that sum to 1, which quadrature misses by a little."""
    whole: Array = shares / shares.sum()
    return whole

"""The distributions that the methods need, from `scipy.special`: the one file that imports scipy, and only when used.

`scipy.stats` has the same functions and costs a second of start-up. Every function takes numbers or arrays.
"""

from __future__ import annotations

import functools
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from crossfade.errors import MissingExtraError

Array = NDArray[np.float64]
X = TypeVar("X", float, Array)


@functools.cache
def special() -> Any:
    """Import `scipy.special`.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    try:
        from scipy import special as module
    except ImportError as error:
        raise MissingExtraError(feature="statistics of experiments", package="scipy", extra="experiments") from error
    return module


def normal_density(x: X) -> X:
    """Return the density of the standard normal distribution."""
    return np.exp(-0.5 * np.square(x)) / np.sqrt(2 * np.pi)  # type: ignore[no-any-return]


def normal_cdf(x: X) -> X:
    """Return P(Z <= x)."""
    return special().ndtr(x)  # type: ignore[no-any-return]


def normal_sf(x: X) -> X:
    """Return P(Z > x), exact far out, where 1 - cdf is 0."""
    return special().ndtr(-x)  # type: ignore[no-any-return]


def normal_quantile(p: X) -> X:
    """Return the x with P(Z <= x) = p."""
    return special().ndtri(p)  # type: ignore[no-any-return]


def t_cdf(x: X, df: X) -> X:
    """Return P(T <= x) of Student's t; `df` may be infinite."""
    return special().stdtr(np.minimum(df, 1e12), x)  # type: ignore[no-any-return]


def t_quantile(p: X, df: float) -> X:
    """Return the x with P(T <= x) = p of Student's t; `df` may be infinite."""
    return special().stdtrit(df, p) if np.isfinite(df) else special().ndtri(p)  # type: ignore[no-any-return]


def noncentral_t_cdf(x: float, df: float, shift: float) -> float:
    """Return P(T <= x) of the t distribution with non-centrality `shift`; `df` may be infinite."""
    value = float(special().nctdtr(df, shift, x)) if df < 1e6 else np.nan
    if np.isnan(value):  # where the series fails, its normal approximation is exact to many digits
        return float(normal_cdf((x * (1 - 1 / (4 * df)) - shift) / np.sqrt(1 + x * x / (2 * df))))
    return value


def chi_square_sf(x: float, df: float) -> float:
    """Return P(X > x) of the chi-square distribution."""
    return float(special().chdtrc(df, x))


def beta_cdf(x: X, a: float, b: float) -> X:
    """Return P(X <= x) of the beta distribution."""
    return special().betainc(a, b, x)  # type: ignore[no-any-return]


def log_beta(a: float, b: float) -> float:
    """Return ln B(a, b)."""
    return float(special().betaln(a, b))


def log_gamma(x: X) -> X:
    """Return ln |Gamma(x)|."""
    return special().gammaln(x)  # type: ignore[no-any-return]


def log_choose(n: float, k: Array) -> Array:
    """Return ln of the binomial coefficients n over k."""
    return log_gamma(n + 1.0) - log_gamma(k + 1.0) - log_gamma(n - k + 1.0)

"""Reference cases from outside (`../shared/cases`), and from their sufficient statistics to ours."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from crossfade.methods.stats.cuped import adjusted, adjustment
from crossfade.methods.stats.gradient import Mean, Ratio, estimate
from crossfade.methods.stats.moments import Moments
from crossfade.methods.stats.proportions import Count, proportion
from crossfade.methods.stats.quantiles import from_order_statistics

CASES = Path(__file__).parents[3].parent / "shared" / "cases"


@cache
def _document(name):
    return json.loads((CASES / name).read_text())


def document(name):
    """The whole file; the test is skipped where the cases are not there."""
    if not (CASES / name).exists():
        pytest.skip(f"reference cases are not here: ../shared/cases/{name}")
    return _document(name)


def cases(name, *path):
    """Parametrize over a list inside of a file; one skipped test where the cases are not there."""
    if not (CASES / name).exists():
        reason = f"reference cases are not here: ../shared/cases/{name}"
        return pytest.mark.parametrize("case", [pytest.param(None, marks=pytest.mark.skip(reason=reason))])
    found = _document(name)
    for key in path:
        found = found[key]
    return pytest.mark.parametrize("case", found, ids=[str(each.get("name", i)) for i, each in enumerate(found)])


def number(value):
    return float(value) if isinstance(value, str) else value


def moments_of_sums(n, sums, products):
    """Moments from sums and sums of products, which is what gbstats keeps."""
    sums, products = np.array(sums, dtype=float), np.array(products, dtype=float)
    return Moments(np.asarray(n), sums / n, products - np.outer(sums, sums) / n)


def moments_of(stat):
    """Our moments of one gbstats statistic, with the columns in a fixed order."""
    n, kind = stat["n"], stat["kind"]
    if kind == "mean":
        return moments_of_sums(n, [stat["sum"]], [[stat["sum_squares"]]])
    if kind == "ratio":
        m, d, md = stat["m"], stat["d"], stat["sum_md"]
        return moments_of_sums(n, [m["sum"], d["sum"]], [[m["sum_squares"], md], [md, d["sum_squares"]]])
    if kind == "cuped":
        post, pre, both = stat["post"], stat["pre"], stat["sum_post_pre"]
        products = [[post["sum_squares"], both], [both, pre["sum_squares"]]]
        return moments_of_sums(n, [post["sum"], pre["sum"]], products)
    assert kind == "cuped_ratio"
    order = ["m_post", "d_post", "m_pre", "d_pre"]
    products = [
        [
            stat[a]["sum_squares"]
            if a == b
            else stat.get(f"{a}_{b}_sum_of_products", stat.get(f"{b}_{a}_sum_of_products"))
            for b in order
        ]
        for a in order
    ]
    return moments_of_sums(n, [stat[name]["sum"] for name in order], products)


def estimates(a, b):
    """Estimates of control and treatment from two gbstats statistics."""
    kind = a["kind"]
    if kind == "proportion":
        return tuple(proportion(Count(stat["sum"], stat["n"])) for stat in (a, b))
    if kind == "quantile":
        return tuple(
            from_order_statistics(stat["q"], stat["lo"], stat["hi"], level=stat["nu"], n=stat["n"]) for stat in (a, b)
        )
    arms = [moments_of(stat) for stat in (a, b)]
    if kind == "cuped":
        fitted = adjustment(Moments.stack(arms).total(), Mean(0), (Mean(1),))
        return tuple(adjusted(arm, Mean(0), fitted) for arm in arms)
    statistic = Ratio(0, 1) if kind == "ratio" else Mean(0)
    return tuple(estimate(arm, statistic) for arm in arms)

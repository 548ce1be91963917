"""Two proportions: against tea-tasting's numbers, scipy and statsmodels; small and degenerate tables."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import xlogy
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint, proportions_ztest

from crossfade.errors import InvalidAnalysisError
from crossfade.methods.stats import exact
from crossfade.methods.stats.distributions import normal_quantile
from crossfade.methods.stats.proportions import (
    Count,
    continuity,
    error_at,
    error_at_ratio,
    newcombe,
    pooled_error,
    pooled_p_value,
    proportion,
    table_p_value,
    wilson,
)
from crossfade.methods.stats.values import NotEstimable
from tests.methods.stats.support import cases, number

TABLES = [(3, 10, 7, 12), (0, 5, 4, 6), (30, 100, 45, 110), (1, 120, 9, 110), (5, 5, 0, 7)]


def counts(a, n, b, m):
    return Count(a, n), Count(b, m)


@cases("stats/tea_tasting_proportion.json", "cases")
def test_tea_tasting(case):
    arms = [Count(round(case[arm]["n"] * case[arm]["p"]), case[arm]["n"]) for arm in ("control", "treatment")]
    method, alternative, correct = case["method"], case["alternative"], case["correction"]
    expected = case["expected"]
    if method in ("fisher", "barnard", "boschloo"):
        p_value = getattr(exact, method)(*arms, alternative)
    elif method == "norm":
        p_value = pooled_p_value(*arms, alternative, correct=correct)
        check_pooled_interval(arms, alternative, correct, expected)
    else:
        p_value = table_p_value(*arms, "pearson" if method == "pearson" else "likelihood", correct=correct)
    if (method, alternative) == ("barnard", "greater"):
        # with its default effort scipy, which tea-tasting asks, stops at a lower local maximum
        columns = [
            [count.successes for count in reversed(arms)],
            [count.n - count.successes for count in reversed(arms)],
        ]
        assert p_value > expected["pvalue"]
        assert p_value == pytest.approx(stats.barnard_exact(columns, "greater", n=512).pvalue, rel=1e-9)
        return
    assert p_value == pytest.approx(expected["pvalue"], rel=1e-9, abs=1e-9)


def check_pooled_interval(arms, alternative, correct, expected):
    """Tea-tasting's interval is the pooled one; it confirms the standard error and the correction, both scales."""
    control, treatment = arms
    z = float(normal_quantile(0.975 if alternative == "two-sided" else 0.95))
    step = continuity(*arms) if correct else 0.0
    difference, half = treatment.rate - control.rate, z * pooled_error(*arms)
    ends = {"lower": (difference, -1), "upper": (difference, 1)}
    for end, (center, sign) in ends.items():
        if (alternative, end) not in (("greater", "upper"), ("less", "lower")):
            found = center + sign * (half + step)
            assert number(expected[f"effect_size_ci_{end}"]) == pytest.approx(found, abs=1e-9)


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
@pytest.mark.parametrize("table", TABLES)
def test_exact_tests_agree_with_scipy(table, alternative):
    control, treatment = counts(*table)
    # scipy compares the first column's variant with the second's
    columns = [
        [treatment.successes, control.successes],
        [treatment.n - treatment.successes, control.n - control.successes],
    ]
    assert exact.fisher(control, treatment, alternative) == pytest.approx(
        stats.fisher_exact(columns, alternative).pvalue, rel=1e-9
    )
    for ours, theirs in ((exact.barnard, stats.barnard_exact), (exact.boschloo, stats.boschloo_exact)):
        found, other = ours(control, treatment, alternative), theirs(columns, alternative, n=128).pvalue
        assert other * (1 - 1e-9) <= found <= other * (1 + 1e-4), "a maximum may be found better, not worse"


@pytest.mark.parametrize("table", [table for table in TABLES if 0 < table[0] + table[2] < table[1] + table[3]])
def test_the_pooled_test_and_newcombe_agree_with_statsmodels(table):
    control, treatment = counts(*table)
    effect = newcombe(control, treatment)
    low, high = confint_proportions_2indep(
        treatment.successes, treatment.n, control.successes, control.n, method="newcomb", compare="diff"
    )
    assert (effect.lower, effect.upper) == pytest.approx((low, high), abs=1e-12)
    _, p_value = proportions_ztest([treatment.successes, control.successes], [treatment.n, control.n])
    assert effect.p_value == pytest.approx(p_value, rel=1e-9)
    for alternative, theirs in (("greater", "larger"), ("less", "smaller")):
        _, p_value = proportions_ztest(
            [treatment.successes, control.successes], [treatment.n, control.n], alternative=theirs
        )
        assert pooled_p_value(control, treatment, alternative) == pytest.approx(p_value, rel=1e-9)
    assert wilson(control, 1.959963984540054) == pytest.approx(
        proportion_confint(control.successes, control.n, method="wilson"), abs=1e-12
    )


@pytest.mark.parametrize("table", [(3, 10, 7, 12), (30, 100, 45, 110), (1, 120, 9, 110)])
def test_chi_square_tests_agree_with_scipy(table):
    (a, n, b, m), arms = table, counts(*table)
    for name, ours in (("pearson", "pearson"), ("log-likelihood", "likelihood")):
        for correct in (False, True):
            theirs = stats.chi2_contingency([[a, n - a], [b, m - b]], correction=correct, lambda_=name).pvalue
            assert table_p_value(*arms, ours, correct=correct) == pytest.approx(theirs, rel=1e-9)


def test_one_sided_intervals_are_open_on_the_other_side():
    above, below = (newcombe(Count(30, 100), Count(45, 110), alternative=side) for side in ("greater", "less"))
    assert (above.upper, below.lower) == (None, None)
    assert (above.interval[1], below.interval[0]) == (math.inf, -math.inf)
    assert above.p_value + below.p_value == pytest.approx(1)
    both = newcombe(Count(30, 100), Count(45, 110))
    assert above.lower > both.lower
    assert below.upper < both.upper


def test_degenerate_tables():
    nobody = newcombe(Count(0, 50), Count(0, 50))
    assert nobody.p_value == 1
    assert nobody.lower < 0 < nobody.upper, "that nobody did it so far is no proof that the rates are equal"
    assert newcombe(Count(50, 50), Count(50, 50)).upper < 1
    assert isinstance(newcombe(Count(0, 0), Count(1, 2)), NotEstimable)
    assert isinstance(proportion(Count(1, 1)), NotEstimable)
    assert table_p_value(Count(0, 9), Count(0, 9)) == 1.0
    for test in (exact.fisher, exact.barnard, exact.boschloo):
        assert test(Count(0, 9), Count(0, 9)) == 1.0


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (0, 2**53), (math.nan, 4)])
def test_counts_that_are_no_proportion_are_refused(successes, n):
    with pytest.raises(InvalidAnalysisError):
        Count(successes, n)


def test_exact_tests_of_many_units_are_refused_instead_of_filling_the_memory():
    with pytest.raises(InvalidAnalysisError, match="exact tests are for up to 1000 units"):
        exact.barnard(Count(1, 10_000_000), Count(1, 5))
    with pytest.raises(InvalidAnalysisError, match="no units"):
        exact.boschloo(Count(0, 0), Count(1, 5))
    assert exact.fisher(Count(100, 1_000_000), Count(160, 1_000_000)) < 0.01  # needs no table of all tables


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
@pytest.mark.parametrize("alpha", [0, 1, math.nan, -0.1])
def test_an_alpha_that_is_no_probability_is_refused(alpha, alternative):
    with pytest.raises(InvalidAnalysisError, match="alpha"):
        newcombe(Count(1, 5), Count(1, 5), alpha, alternative)


@pytest.mark.parametrize("difference", [-0.4, -0.05, -0.0006, 0.0, 0.0006, 0.05, 0.4])
@pytest.mark.parametrize("table", [*TABLES, (0, 5000, 1, 5000), (0, 50, 0, 70), (50, 50, 70, 70), (3, 900, 400, 1000)])
def test_the_error_at_a_difference_is_that_of_the_likeliest_rates_with_it(table, difference):
    control, treatment = counts(*table)

    def unlikely(rate):
        rates = ((control, rate), (treatment, rate + difference))
        return -sum(xlogy(each.successes, p) + xlogy(each.n - each.successes, 1 - p) for each, p in rates)

    low, high = max(0.0, -difference), min(1.0, 1.0 - difference)
    grid = low + (high - low) * np.linspace(0.0, 1.0, 200_001)
    rate = float(grid[np.argmin([unlikely(each) for each in grid[::100]]) * 100])
    near = np.clip(rate + (high - low) * np.linspace(-0.01, 0.01, 20_001), low, high)
    rate = float(near[np.argmin(unlikely(near))])
    after = rate + difference
    expected = math.sqrt(rate * (1 - rate) / control.n + after * (1 - after) / treatment.n)
    assert error_at(control, treatment, difference) == pytest.approx(expected, rel=1e-2, abs=1e-6)


@pytest.mark.parametrize("ratio", [0.5, 0.9, 1.0, 1.5, 4.0])
@pytest.mark.parametrize("table", TABLES)
def test_the_error_at_a_ratio_is_that_of_the_likeliest_rates_with_it(table, ratio):
    control, treatment = counts(*table)
    rates = min(1.0, 1.0 / ratio) * np.linspace(0.0, 1.0, 2_000_001)
    pairs = ((control, rates), (treatment, np.minimum(ratio * rates, 1.0)))
    likely = sum(xlogy(each.successes, p) + xlogy(each.n - each.successes, 1 - p) for each, p in pairs)
    rate = float(rates[np.argmax(likely)])
    after = ratio * rate
    expected = math.sqrt(ratio**2 * rate * (1 - rate) / control.n + after * (1 - after) / treatment.n)
    assert error_at_ratio(control, treatment, ratio) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_an_impossible_ratio_has_no_error():
    for ratio in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InvalidAnalysisError):
            error_at_ratio(*counts(*TABLES[0]), ratio)


def test_an_impossible_difference_has_no_error():
    for counted, difference in (
        (counts(1, 9, 2, 9), 1.0),
        (counts(1, 9, 2, 9), math.nan),
        ((Count(0, 0), Count(0, 1)), 0),
    ):
        with pytest.raises(InvalidAnalysisError):
            error_at(*counted, difference)

"""The shift by ranks: against R's numbers (by way of Kayenta), Hodges and Lehmann, and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from crossfade.errors import InvalidAnalysisError
from crossfade.methods.stats.mann_whitney import shift
from crossfade.methods.stats.values import NotEstimable
from tests.methods.stats.support import cases


@cases("canary/kayenta_mann_whitney.json", "cases")
def test_r(case):
    found = shift(case["control"], case["experiment"], 1 - case["confidence"])
    # R stops its root finder 1e-4 from a tie, we at the tie
    assert [found.lower, found.upper] == pytest.approx(sorted(case["ci"]), abs=2e-4)
    assert found.estimate == pytest.approx(case["estimate"], abs=2e-4)


def test_the_estimate_is_the_median_of_all_differences():
    random = np.random.default_rng(1)
    for _ in range(10):
        a, b = random.normal(size=21), random.gamma(2.0, size=17)
        expected = np.median(b[:, None] - a[None, :])
        assert shift(a, b).estimate == pytest.approx(expected, abs=1e-6)


def test_the_interval_is_what_the_test_does_not_reject():
    random = np.random.default_rng(2)
    a, b = random.normal(size=40), random.normal(0.4, 1.5, size=30)
    found = shift(a, b, 0.1)

    def p_value(by):
        return mannwhitneyu(b - by, a, method="asymptotic", use_continuity=True).pvalue

    for end, outward in ((found.lower, -1), (found.upper, 1)):
        assert p_value(end + outward * 1e-6) <= 0.1 <= p_value(end - outward * 1e-6)


def test_it_covers():
    random, inside = np.random.default_rng(3), 0
    for _ in range(300):
        found = shift(random.standard_t(2, size=30), random.standard_t(2, size=30) + 1.0, 0.1)
        inside += found.lower <= 1.0 <= found.upper
    assert inside / 300 == pytest.approx(0.9, abs=0.06)


@settings(max_examples=50)
@given(st.lists(st.integers(-20, 20), min_size=3, max_size=25), st.lists(st.integers(-20, 20), min_size=3, max_size=25))
def test_it_turns_around_and_moves_along(a, b):
    found, back, moved = shift(a, b), shift(b, a), shift(a, np.array(b) + 7.0)
    if isinstance(found, NotEstimable):
        assert len({*np.subtract.outer(b, a).ravel().tolist()}) == 1
        return
    assert (back.lower, back.upper) == pytest.approx((-found.upper, -found.lower), abs=1e-6)
    assert (moved.estimate, moved.lower) == pytest.approx((found.estimate + 7, found.lower + 7), abs=1e-6)
    assert found.lower <= found.upper


def test_what_cannot_be_ranked():
    assert isinstance(shift([], [1.0]), NotEstimable)
    assert isinstance(shift([2.0, 2.0], [1.0, 1.0, 1.0]), NotEstimable)
    for bad in (math.nan, math.inf):
        with pytest.raises(InvalidAnalysisError):
            shift([1.0, bad], [1.0, 2.0])
    with pytest.raises(InvalidAnalysisError):
        shift([1.0], [2.0], 0.0)

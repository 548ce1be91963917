"""The error-rate e-process: golden values, fairness, merging, mirror, hostile windows."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from crossfade.errors import InvalidAnalysisError
from crossfade.methods.stats.error_rate import WORSE, ErrorRate
from tests.methods.stats.support import cases

WINDOW = st.tuples(st.integers(0, 300), st.integers(0, 300), st.floats(0, 1), st.floats(0, 1)).map(
    lambda window: {
        "canary": window[0],
        "baseline": window[1],
        "bad_canary": int(window[0] * window[2]),
        "bad_baseline": int(window[1] * window[3]),
    }
)


@cases("canary/error_rate_eprocess.json", "cases")
def test_golden_evidence(case):
    test = ErrorRate.worse()
    for window, expected in zip(case["windows"], case["log_e"], strict=True):
        test = test.observe(**window)
        assert test.log_evidence == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("rates", [(0.02, 0.02), (0.4, 0.4), (0.1, 0.3)])
@pytest.mark.parametrize("sizes", [(5, 40), (30, 30), (50, 3)])
def test_a_healthy_canary_makes_no_evidence_on_average(sizes, rates):
    """Added up over every outcome of a window: at most 1, close to it at the edge."""
    (n_c, n_b), (p_c, p_b) = sizes, rates
    expected = 0.0
    for k_c in range(n_c + 1):
        for k_b in range(n_b + 1):
            state = ErrorRate.worse().observe(canary=n_c, baseline=n_b, bad_canary=k_c, bad_baseline=k_b)
            weight = stats.binom.pmf(k_c, n_c, p_c) * stats.binom.pmf(k_b, n_b, p_b)
            expected += weight * math.exp(state.log_evidence)
    assert expected <= 1 + 1e-9
    if rates == (0.02, 0.02):
        assert expected > 0.9, "at the edge of the null hypothesis the bet is nearly fair"


@pytest.mark.parametrize(("p_c", "edge"), [(0.11, True), (0.2, False)])
def test_the_mirrored_test_is_fair_too(p_c, edge):
    """Worse by the margin or more: promoting is an error, and its evidence is at most 1 on average."""
    expected, n_c, n_b, p_b = 0.0, 30, 30, 0.1
    for k_c in range(n_c + 1):
        for k_b in range(n_b + 1):
            state = ErrorRate.not_worse(0.1).observe(canary=n_c, baseline=n_b, bad_canary=k_c, bad_baseline=k_b)
            weight = stats.binom.pmf(k_c, n_c, p_c) * stats.binom.pmf(k_b, n_b, p_b)
            expected += weight * math.exp(state.log_evidence)
    assert expected <= 1 + 1e-9
    assert (expected > 0.7) == edge


def test_a_canary_that_is_as_good_is_promoted_in_time():
    random, test, requests = np.random.default_rng(5), ErrorRate.not_worse(0.5), 0
    while not test.rejects(0.05) and requests < 10**6:
        bad = random.binomial(500, 0.02, size=2)
        test = test.observe(canary=500, baseline=500, bad_canary=int(bad[0]), bad_baseline=int(bad[1]))
        requests += 500
    assert requests < 50_000


@given(st.lists(WINDOW, max_size=8), st.lists(WINDOW, max_size=8))
def test_windows_merge_in_any_order(first, second):
    def run(windows):
        test = ErrorRate.worse()
        for window in windows:
            test = test.observe(**window)
        return test

    together, merged = run(first + second), run(first).merge(run(second))
    assert merged.log_bets == pytest.approx(together.log_bets, abs=1e-6)
    assert run(second).merge(run(first)).log_evidence == pytest.approx(merged.log_evidence, abs=1e-6)
    assert 0 <= merged.p_value <= 1


@given(WINDOW)
def test_a_window_without_comparison_says_nothing(window):
    test = ErrorRate.worse()
    assert test.observe(**window | {"canary": 0, "bad_canary": 0}) is test
    assert test.observe(**window | {"baseline": 0, "bad_baseline": 0}) is test
    assert test.observe(**window | {"bad_canary": 0, "bad_baseline": 0}) is test


def test_evidence_that_was_there_is_kept():
    bad = ErrorRate.worse().observe(canary=100, baseline=900, bad_canary=40, bad_baseline=9)
    assert bad.rejects()
    healed = bad
    for _ in range(50):
        healed = healed.observe(canary=100, baseline=900, bad_canary=0, bad_baseline=9)
    assert healed.rejects()
    assert healed.log_evidence < bad.log_evidence
    assert healed.merge(ErrorRate.worse()).rejects()
    assert not ErrorRate.worse().merge(healed).rejects(), "a test does not take over what another has looked at"


def test_a_tolerated_ratio_moves_the_edge():
    windows = {"canary": 500, "baseline": 500, "bad_canary": 75, "bad_baseline": 50}
    strict, lenient = ErrorRate.worse(), ErrorRate.worse(tolerated=2.0)
    for _ in range(10):
        strict, lenient = strict.observe(**windows), lenient.observe(**windows)
    assert strict.rejects()
    assert not lenient.rejects(0.5)


@pytest.mark.parametrize(
    "window",
    [(10, 10, 11, 0), (10, 10, 0, 11), (-1, 10, 0, 0), (10, 10, -1, 0), (10, 10, math.nan, 0), (math.nan, 10, 0, 0)],
)
def test_windows_that_cannot_be_are_refused(window):
    names = ("canary", "baseline", "bad_canary", "bad_baseline")
    with pytest.raises(InvalidAnalysisError):
        ErrorRate.worse().observe(**dict(zip(names, window, strict=True)))


@pytest.mark.parametrize("tolerated", [0, -1, math.nan, math.inf])
def test_what_cannot_be_tolerated_is_refused(tolerated):
    with pytest.raises(InvalidAnalysisError):
        ErrorRate.worse(tolerated)
    with pytest.raises(InvalidAnalysisError):
        ErrorRate.not_worse(tolerated - 1)
    with pytest.raises(InvalidAnalysisError):
        ErrorRate.worse(ratios=[1.0])
    with pytest.raises(InvalidAnalysisError):
        ErrorRate.worse(ratios=[])


def test_different_tests_do_not_merge():
    with pytest.raises(InvalidAnalysisError):
        ErrorRate.worse().merge(ErrorRate.not_worse(0.1))
    assert len(WORSE) == 40

"""Bayesian readings: against gbstats, closed forms and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from crossfade.errors import InvalidAnalysisError
from crossfade.methods.stats.bayesian import Prior, beta_binomial, expected_loss, posterior
from crossfade.methods.stats.contrast import contrast
from crossfade.methods.stats.proportions import Count
from crossfade.methods.stats.values import Contrast, NotEstimable
from tests.methods.stats.support import cases, estimates


def check(case, tolerance):
    prior = case["prior"]
    made = contrast(*estimates(case["a"], case["b"]), case["difference"])
    found = posterior(made, None if prior is None else Prior(prior["mean"], math.sqrt(prior["variance"])))
    expected = case["expected"]
    if case["a"]["kind"] == "cuped" and case["difference"] == "relative":  # gbstats drops a term of the delta method
        assert found.deviation == pytest.approx(expected["sd"], rel=0.05)
        assert found.mean == pytest.approx(expected["effect"], abs=0.01 * expected["sd"] if prior else 1e-9)
        return
    assert found.mean == pytest.approx(expected["effect"], rel=tolerance, abs=tolerance)
    assert [found.lower, found.upper] == pytest.approx(expected["ci"], rel=tolerance, abs=tolerance)
    if "sd" in expected:
        assert found.deviation == pytest.approx(expected["sd"], rel=tolerance, abs=tolerance)
        assert found.chance_to_beat == pytest.approx(expected["chance_to_win"], rel=tolerance, abs=tolerance)
        losses = [found.loss_of_control, found.loss_of_treatment]
        assert losses == pytest.approx(expected["risk"], rel=tolerance, abs=tolerance)


@cases("bayesian/gbstats_bayesian.json", "literal")
def test_literal_cases_of_gbstats(case):
    check(case, 6e-6)


@cases("bayesian/gbstats_bayesian.json", "generated")
def test_generated_cases_of_gbstats(case):
    check(case, 1e-9)


@cases("bayesian/gbstats_bayesian.json", "risk")
def test_expected_loss_of_gbstats(case):
    found = [expected_loss(-case["mu"], case["sigma"]), expected_loss(case["mu"], case["sigma"])]
    assert found == pytest.approx(case["risk_control_treatment"], abs=1e-9)


def contrast_of(value, error, scale="relative", baseline=2.0):
    return Contrast(scale, value, error, math.inf, 500, 500, baseline)


def test_a_prior_pulls_toward_itself_and_a_flat_one_does_not():
    made = contrast_of(0.1, 0.1)
    assert posterior(made).mean == 0.1
    assert posterior(made, Prior(0.0, 0.1)).mean == pytest.approx(0.05)
    assert posterior(made, Prior(0.0, 1e-9)).mean == pytest.approx(0, abs=1e-9)
    assert posterior(contrast_of(0.2, 0.2, "absolute"), Prior(0.0, 0.1)).mean == pytest.approx(0.1)


def test_the_logarithm_comes_out_as_a_relative_effect():
    found = posterior(contrast_of(math.log(1.2), 0.05, "log"))
    assert found.mean == pytest.approx(0.2)
    assert found.lower == pytest.approx(math.exp(math.log(1.2) - 1.959964 * 0.05) - 1, abs=1e-6)


def test_a_control_of_zero_has_no_relative_prior():
    assert isinstance(posterior(contrast_of(0.2, 0.2, "absolute", 0.0), Prior()), NotEstimable)
    reason = NotEstimable("no")
    assert posterior(reason) is reason


@given(mean=st.floats(-5, 5), deviation=st.floats(0.01, 5))
def test_losses_differ_by_the_mean(mean, deviation):
    assert expected_loss(mean, deviation) - expected_loss(-mean, deviation) == pytest.approx(-mean, abs=1e-9)
    assert expected_loss(mean, deviation) >= 0


@settings(max_examples=40)
@given(a=st.integers(0, 60), b=st.integers(0, 60), c=st.integers(1, 60), d=st.integers(0, 60))
def test_beta_posteriors_by_the_sum(a, b, c, d):
    """For whole numbers P(T > C) is a finite sum (Miller 2013)."""
    found = beta_binomial(Count(a, a + b), Count(c, c + d))
    i = np.arange(c + 1)
    from scipy.special import betaln

    terms = betaln(a + 1 + i, b + d + 2) - np.log(d + 1 + i) - betaln(1 + i, d + 1) - betaln(a + 1, b + 1)
    assert found.chance_to_beat == pytest.approx(np.exp(terms).sum(), abs=1e-9)
    difference = (a + 1) / (a + b + 2) - (c + 1) / (c + d + 2)
    assert found.loss_of_treatment - found.loss_of_control == pytest.approx(difference, abs=1e-9)


@pytest.mark.parametrize("prior", [(1.0, 1.0), (0.5, 0.5), (0.3, 4.0)])
@pytest.mark.parametrize(
    "table", [(0, 5, 1, 5), (3, 400, 9, 390), (120_000, 1_000_000, 121_000, 1_000_000), (0, 0, 0, 0)]
)
def test_beta_posteriors_by_simulation(table, prior):
    k_c, n_c, k_t, n_t = table
    random = np.random.default_rng(11)
    c = random.beta(prior[0] + k_c, prior[1] + n_c - k_c, 400_000)
    t = random.beta(prior[0] + k_t, prior[1] + n_t - k_t, 400_000)
    found = beta_binomial(Count(k_c, n_c), Count(k_t, n_t), prior)
    assert found.chance_to_beat == pytest.approx((t > c).mean(), abs=0.004)
    loss = np.maximum(c - t, 0)
    assert found.loss_of_treatment == pytest.approx(loss.mean(), abs=4 * loss.std() / math.sqrt(400_000) + 1e-9)


def test_large_beta_posteriors_are_normal():
    found = beta_binomial(Count(120_000, 1_000_000), Count(121_000, 1_000_000))
    gap, error = 0.001, math.sqrt((0.12 * 0.88 + 0.121 * 0.879) / 1e6)
    assert found.chance_to_beat == pytest.approx(stats.norm.cdf(gap / error), abs=1e-5)


@pytest.mark.parametrize("deviation", [0.0, -1.0, math.nan, math.inf])
def test_a_prior_without_deviation_is_refused(deviation):
    with pytest.raises(InvalidAnalysisError):
        Prior(0.0, deviation)
    with pytest.raises(InvalidAnalysisError):
        beta_binomial(Count(1, 2), Count(1, 2), (deviation, 1.0))

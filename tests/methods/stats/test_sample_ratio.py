"""Sample ratio mismatch: against gbstats, tea-tasting and ssrm; variants without weight; changes of the weights."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from crossfade.errors import InvalidAnalysisError
from crossfade.methods.stats.sample_ratio import ALARM, SampleRatio, fixed, log_bayes_factor
from tests.methods.stats.support import cases, document


@cases("srm/gbstats_srm.json", "cases")
def test_chi_square_of_gbstats(case):
    assert fixed(case["counts"], case["weights"]) == pytest.approx(case["p"], rel=1e-9)


@cases("srm/tea_tasting_sample_ratio.json", "cases")
def test_two_variants_of_tea_tasting(case):
    counts, weights = (case["control"], case["treatment"]), (1.0, case["ratio"])
    p_value = fixed(counts, weights, exact=case["method"] == "binom", correct=case["correction"])
    assert p_value == pytest.approx(case["p"], rel=1e-9, abs=1e-12)


@cases("srm/ssrm_sequential.json", "generated")
def test_the_sequential_test_of_ssrm(case):
    state = SampleRatio.start(case["p0"], [case["concentration"]])
    totals = np.cumsum(case["increments"], axis=0)
    for total, p_value, factor in zip(totals, case["p_values"], case["bayes_factors"], strict=True):
        state = state.observe(total.tolist())
        assert math.exp(state.log_evidence) == pytest.approx(factor, rel=1e-7)
        assert state.p_value == pytest.approx(p_value, rel=1e-7)


def test_the_literal_likelihoods_of_ssrm():
    case = document("srm/ssrm_sequential.json")["literal"]
    totals = np.cumsum(case["increments"], axis=0)
    for total, ours, theirs in zip(totals, case["log_m1"], case["log_m0"], strict=True):
        factor = log_bayes_factor(total.tolist(), case["p0"], 1.0, prior=case["alpha"])
        assert factor == pytest.approx(ours - theirs, abs=1e-7)


@pytest.mark.parametrize("counts", [(3, 9), (0, 8), (5, 5), (1, 30), (210, 160)])
@pytest.mark.parametrize("share", [0.5, 0.2, 0.9])
def test_exact_for_two_is_the_binomial_test(counts, share):
    expected = stats.binomtest(counts[0], sum(counts), share).pvalue
    assert fixed(counts, (share, 1 - share), exact=True) == pytest.approx(expected, rel=1e-9)


def test_exact_for_three_adds_up_outcomes():
    counts, shares = np.array([1, 6, 1]), np.array([0.5, 0.25, 0.25])
    distribution = stats.multinomial(8, shares)
    outcomes = [(a, b, 8 - a - b) for a in range(9) for b in range(9 - a)]
    here = distribution.pmf(counts)
    expected = sum(p for p in map(distribution.pmf, outcomes) if p <= here * (1 + 1e-9))
    assert fixed(counts.tolist(), shares.tolist()) == pytest.approx(expected, rel=1e-9)


def test_few_units_are_tested_exactly_without_asking():
    assert fixed((0, 6), (0.5, 0.5)) == pytest.approx(stats.binomtest(0, 6, 0.5).pvalue)
    assert fixed((0, 0), (0.5, 0.5)) == 1.0
    assert fixed((7,), (1.0,)) == 1.0


def test_a_variant_without_weight_is_no_degree_of_freedom():
    expected = stats.chisquare([1000, 1088]).pvalue
    assert fixed((1000, 1088, 0), (0.5, 0.5, 0)) == pytest.approx(expected)
    assert fixed((1000, 1000, 1), (0.5, 0.5, 0)) == 0.0
    assert SampleRatio.start((0.5, 0.5, 0)).observe((10, 10, 1)).p_value == 0.0
    assert SampleRatio.start((0.5, 0.5, 0)).observe((10, 10, 0)).p_value == 1.0


def test_evidence_of_revisions_multiplies():
    state = SampleRatio.start((0.9, 0.1)).observe((4_500, 620)).reweight((0.5, 0.5))
    assert state.log_evidence == pytest.approx(SampleRatio.start((0.9, 0.1)).observe((4_500, 620)).log_evidence)
    later = state.observe((900, 1_040))
    alone = [
        math.exp(log_bayes_factor((4_500, 620), (0.9, 0.1), bet) + log_bayes_factor((900, 1_040), (0.5, 0.5), bet))
        for bet in state.concentrations
    ]
    assert math.exp(later.log_evidence) == pytest.approx(sum(alone) / 3, rel=1e-9)


def test_counts_of_two_revisions_together_would_raise_a_false_alarm():
    counts = (9_000 + 5_000, 1_000 + 5_000)
    assert fixed(counts, (0.5, 0.5)) < ALARM
    ramped = SampleRatio.start((0.9, 0.1)).observe((9_000, 1_000)).reweight((0.5, 0.5)).observe((5_000, 5_000))
    assert ramped.p_value == 1.0


def test_the_smallest_p_value_is_kept():
    state = SampleRatio.start((0.5, 0.5)).observe((700, 500))
    assert state.observe((1_200, 1_200)).p_value == state.p_value < ALARM


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=6), st.data())
def test_it_is_a_fair_bet_in_any_order(counts, data):
    """Units one by one, in any order, give the same state as the totals: the test depends on nothing else."""
    weights = data.draw(st.lists(st.floats(0.01, 1), min_size=len(counts), max_size=len(counts)))
    half = [count // 2 for count in counts]
    step = SampleRatio.start(weights).observe(half).observe(counts)
    assert step.log_evidence == pytest.approx(SampleRatio.start(weights).observe(counts).log_evidence)
    assert 0 <= step.p_value <= 1


def test_expected_evidence_after_a_few_units_is_one():
    shares = np.array([0.3, 0.7])
    for concentration in (1.0, 100.0):
        evidence = [
            stats.binom.pmf(k, 12, shares[0]) * math.exp(log_bayes_factor((k, 12 - k), shares.tolist(), concentration))
            for k in range(13)
        ]
        assert sum(evidence) == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize(
    ("counts", "weights"),
    [
        ((1, 2), (0.5,)),
        ((-1, 2), (0.5, 0.5)),
        ((1, 2), (0.5, -0.5)),
        ((1, 2), (0, 0)),
        ((1, math.nan), (1, 1)),
        ((1, 1), (math.inf, 1)),
    ],
)
def test_counts_and_weights_that_make_no_sense_are_refused(counts, weights):
    with pytest.raises(InvalidAnalysisError):
        fixed(counts, weights)


@pytest.mark.parametrize("bets", [[], [0.0], [-1.0], [math.nan], [math.inf]])
def test_bets_that_make_no_sense_are_refused(bets):
    with pytest.raises(InvalidAnalysisError):
        SampleRatio.start((0.5, 0.5), bets)

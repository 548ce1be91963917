"""The probability of being best: against adaptive quadrature, simulation and symmetry."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.errors import InvalidAnalysisError
from crossfade.methods.stats.best_arm import probability_best
from tests.methods.stats.support import cases


@cases("bandit/p_best_gaussian.json", "cases")
def test_reference_cases(case):
    assert probability_best(case["means"], case["sds"]) == pytest.approx(case["p_best"], rel=1e-7, abs=1e-9)


def test_two_arms_have_a_closed_form():
    for gap, a, b in ((0.3, 1.0, 0.5), (2.0, 0.01, 3.0), (-1.0, 0.2, 0.2)):
        expected = 0.5 * math.erfc(-gap / math.hypot(a, b) / math.sqrt(2))
        assert probability_best([0.0, gap], [a, b])[1] == pytest.approx(expected, rel=1e-9)


def test_against_simulation():
    means, deviations = np.array([0.1, 0.2, 0.15, -0.5]), np.array([0.3, 0.05, 0.2, 0.9])
    draws = np.random.default_rng(3).normal(means, deviations, size=(400_000, 4)).argmax(axis=1)
    assert probability_best(means, deviations) == pytest.approx(np.bincount(draws) / 400_000, abs=0.004)


@given(
    st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(1e-4, 1e3)), min_size=1, max_size=12),
    st.floats(-100, 100),
    st.floats(1e-3, 1e3),
)
def test_they_sum_to_one_and_follow_the_values(arms, shift, factor):
    means, deviations = np.array(arms).T
    found = probability_best(means, deviations)
    assert found.sum() == pytest.approx(1, abs=1e-9)
    assert ((found >= 0) & (found <= 1)).all()
    moved = probability_best(shift + means * factor, deviations * factor)
    assert moved == pytest.approx(found, abs=1e-6)
    assert probability_best(means[::-1], deviations[::-1])[::-1] == pytest.approx(found, abs=1e-9)


def test_a_common_offset_costs_no_digits():
    plain = probability_best([0.0, 0.25, 0.5], [0.25, 0.5, 0.125])
    assert probability_best([2.0**44, 2.0**44 + 0.25, 2.0**44 + 0.5], [0.25, 0.5, 0.125]) == pytest.approx(
        plain, abs=1e-9
    )


def test_many_equal_arms_share():
    assert probability_best([1.0] * 30, [0.5] * 30) == pytest.approx([1 / 30] * 30, rel=1e-9)


@pytest.mark.parametrize(
    ("means", "deviations"),
    [
        ([], []),
        ([0.0], [1.0, 1.0]),
        ([0.0, 1.0], [0.0, 1.0]),
        ([math.nan], [1.0]),
        ([0.0], [math.inf]),
        ([0.0], [-1.0]),
    ],
)
def test_what_is_no_posterior_is_refused(means, deviations):
    with pytest.raises(InvalidAnalysisError):
        probability_best(means, deviations)

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from crossfade.solutions.flights.quality import measure, skill

PAIRS = st.lists(st.tuples(st.booleans(), st.integers(1, 99)), min_size=2, max_size=60).filter(
    lambda pairs: len({outcome for outcome, _ in pairs}) == 2
)


@given(PAIRS)
def test_measurements_agree_with_scikit_learn(pairs):
    late = np.array([outcome for outcome, _ in pairs], dtype=int)
    given_ = np.array([percent / 100 for _, percent in pairs])
    quality = measure(late, given_)
    assert quality.log_loss == pytest.approx(log_loss(late, given_))
    assert quality.brier == pytest.approx(brier_score_loss(late, given_))
    assert quality.auc == pytest.approx(roc_auc_score(late, given_))
    assert quality.base_rate == pytest.approx(late.mean())
    assert quality.mean_prediction == pytest.approx(given_.mean())
    assert quality.flights == len(pairs)


def test_a_perfect_forecast():
    quality = measure([0, 1, 1], [0.0, 1.0, 1.0])
    assert (quality.brier, quality.auc, quality.calibration_error) == (0.0, 1.0, 0.0)
    assert quality.log_loss == pytest.approx(0.0, abs=1e-6)


def test_certainty_that_is_wrong_costs_much_but_stays_finite():
    assert 15 < measure([1, 0], [0.0, 1.0]).log_loss < 20


def test_equal_probabilities_rank_like_a_coin():
    assert measure([0, 1, 1, 0], [0.3] * 4).auc == 0.5


def test_without_both_outcomes_there_is_no_ranking():
    quality = measure([0, 0], [0.1, 0.2])
    assert math.isnan(quality.auc)
    assert "auc" not in quality.evaluation()
    assert quality.evaluation()["base_rate"] == 0.0


def test_a_forecast_of_the_base_rate_is_calibrated():
    late = [0, 0, 0, 1] * 100
    assert measure(late, [0.25] * 400).calibration_error == pytest.approx(0.0, abs=0.06)


def test_a_forecast_that_is_always_too_high_by_a_fifth():
    late = np.tile([0, 0, 0, 0, 1], 200)
    assert measure(late, np.full(1000, 0.4)).calibration_error == pytest.approx(0.2)


def test_a_single_flight_can_be_measured():
    quality = measure([1], [0.5])
    assert (quality.log_loss, quality.brier, quality.calibration_error) == (pytest.approx(math.log(2)), 0.25, 0.5)


def test_an_evaluation_holds_finite_floats_only():
    evaluation = measure([0, 1], [0.2, 0.7]).evaluation()
    assert all(type(value) is float and math.isfinite(value) for value in evaluation.values())
    assert set(evaluation) >= {"log_loss", "auc", "brier", "base_rate", "calibration_error"}


@given(PAIRS, st.floats(0, 1))
def test_skills_add_up_to_the_difference_of_two_brier_scores(pairs, usual):
    late = np.array([outcome for outcome, _ in pairs], dtype=int)
    given_ = np.array([percent / 100 for _, percent in pairs])
    difference = brier_score_loss(late, np.full(len(pairs), usual)) - brier_score_loss(late, given_)
    assert skill(late, given_, usual).mean() == pytest.approx(difference)


def test_saying_the_usual_rate_has_no_skill():
    assert skill([0, 1, 1], [0.3, 0.3, 0.3], 0.3).tolist() == [0.0, 0.0, 0.0]

"""Losses against scikit-learn's, and where there are none."""

import math

import numpy as np
import pytest
from sklearn.metrics import log_loss, mean_absolute_error, mean_squared_error, zero_one_loss

from crossfade.ledger.losses import losses


def test_losses_are_those_of_scikit_learn():
    random = np.random.default_rng(3)
    scores, outcomes = random.random(200), random.integers(0, 2, 200).astype(float)
    assert losses("log", scores, outcomes).mean() == pytest.approx(log_loss(outcomes, scores))
    assert losses("squared", scores, outcomes).mean() == pytest.approx(mean_squared_error(outcomes, scores))
    assert losses("absolute", scores, outcomes).mean() == pytest.approx(mean_absolute_error(outcomes, scores))
    assert losses("zero_one", scores, outcomes).mean() == pytest.approx(zero_one_loss(outcomes, scores >= 0.5))


def test_being_sure_and_wrong_costs_much_and_not_infinitely_much():
    assert losses("log", np.array([0.0, 1.0, 1.0]), np.array([1.0, 0.0, 1.0])) == pytest.approx(
        [34.53878, 34.53878, 0.0]
    )


@pytest.mark.parametrize(
    ("loss", "score", "outcome"),
    [
        ("log", 1.1, 1.0),
        ("log", -0.1, 1.0),
        ("log", 0.5, 0.5),
        *((loss, math.nan, 1.0) for loss in ("log", "squared", "absolute", "zero_one")),
    ],
)
def test_there_is_no_loss_of_what_is_no_answer(loss, score, outcome):
    assert np.isnan(losses(loss, np.array([[score], [score]]), np.array([outcome]))).all()


def test_every_answerer_has_its_own():
    found = losses("absolute", np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([1.0, 1.0]))
    assert found.tolist() == [[0.0, 1.0], [2.0, 4.0]]

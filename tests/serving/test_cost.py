"""What a batch will take is learned from the batches before."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.serving.cost import CostModel


def test_nothing_is_known_at_first():
    assert CostModel().seconds(100) == 0.0
    assert CostModel(0.25).seconds(100) == 0.25


def test_a_line_is_found_whatever_the_order():
    cost = CostModel()
    for rows in np.random.default_rng(0).permutation(40):
        cost.observe(int(rows) + 1, 0.002 * (rows + 1) + 0.03)
    assert cost.seconds(100) == pytest.approx(0.23)
    assert cost.seconds(100, batches=3) == pytest.approx(0.29)


def test_batches_of_one_size_are_all_slope():
    cost = CostModel()
    for _ in range(5):
        cost.observe(10, 0.1)
    assert cost.seconds(20) == pytest.approx(0.2)


def test_a_model_that_became_slower_is_noticed():
    cost = CostModel()
    for _ in range(200):
        cost.observe(10, 0.01)
    for _ in range(200):
        cost.observe(10, 0.05)
    assert cost.seconds(10) == pytest.approx(0.05, rel=0.05)


def test_it_is_the_weighted_least_squares_fit():
    dice = np.random.default_rng(1)
    rows = dice.integers(1, 100, 60)
    seconds = 0.001 * rows + 0.02 + dice.normal(0, 0.001, 60)
    cost = CostModel()
    for n, t in zip(rows, seconds, strict=True):
        cost.observe(int(n), float(t))
    weights = 0.98 ** np.arange(59, -1, -1)
    slope, intercept = np.polyfit(rows, seconds, 1, w=np.sqrt(weights))
    assert cost.seconds(50) == pytest.approx(slope * 50 + intercept)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.floats(0, 100)), min_size=1, max_size=30), st.integers(0, 10_000))
def test_an_estimate_is_never_negative_and_grows_with_rows(batches, rows):
    cost = CostModel()
    for seen, seconds in batches:
        cost.observe(seen, seconds)
    assert cost.seconds(rows) >= -1e-9
    assert cost.seconds(rows + 1) >= cost.seconds(rows) - 1e-9

"""What is kept about rewards: merged, forgotten and weighted as it would be from scratch."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.errors import InvalidPolicyError
from crossfade.methods.bandits.ridge import Ridge
from crossfade.methods.bandits.tallies import Tally

REWARDS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


def tally(rewards, kept=1.0):
    rewards = np.array(rewards)
    return Tally.of(rewards, np.full(len(rewards), kept))


def close(one, other):
    assert one.n == pytest.approx(other.n, rel=1e-9)
    assert one.mean == pytest.approx(other.mean, rel=1e-9, abs=1e-6)
    assert one.variance == pytest.approx(other.variance, rel=1e-6, abs=1e-4)


@given(REWARDS, REWARDS)
def test_merging_is_counting_together(one, other):
    close(tally(one).plus(tally(other)), tally(one + other))
    close(tally(other).plus(tally(one)), tally(one + other))


@given(REWARDS)
def test_it_is_mean_and_variance(rewards):
    found = tally(rewards)
    assert found.n == pytest.approx(len(rewards))
    assert found.mean == pytest.approx(np.mean(rewards), abs=1e-6)
    assert found.variance == pytest.approx(np.var(rewards), rel=1e-6, abs=1e-4)


@given(REWARDS, st.floats(0.01, 1))
def test_forgetting_changes_the_count_alone(rewards, factor):
    found = tally(rewards).times(factor)
    assert found.n == pytest.approx(len(rewards) * factor)
    assert found.mean == tally(rewards).mean
    assert found.variance == pytest.approx(tally(rewards).variance)
    close(found, tally(rewards, factor))


def test_importance_makes_rows_count_less():
    weights = np.array([1.0, 1.0, 8.0])
    found = Tally.of(np.array([0.0, 0.0, 1.0]), np.ones(3), weights)
    assert found.mean == pytest.approx(0.8)
    assert found.n == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    equal = Tally.of(np.array([0.0, 1.0]), np.ones(2), np.full(2, 7.0))
    assert equal.n == pytest.approx(2)


def test_large_rewards_keep_their_variance():
    rewards = 1e9 + np.random.default_rng(0).normal(size=1000)
    whole = Tally()
    for chunk in np.split(rewards, 20):
        whole = whole.plus(tally(chunk))
    assert whole.variance == pytest.approx(np.var(rewards), rel=1e-6)


def test_nothing_stays_nothing():
    assert Tally().plus(Tally()) == Tally() == Tally().times(0.5)
    assert tally([1.0, 2.0]).plus(Tally()) == tally([1.0, 2.0]) == Tally().plus(tally([1.0, 2.0]))
    assert tally([1.0]).times(0.0) == Tally() == tally([1.0]).times(1e-300)
    assert Tally().n == Tally().variance == 0
    assert Tally.of(np.array([]), np.array([])) == Tally()


def test_nothing_is_left_after_ages_of_forgetting():
    found = tally([1.0, 2.0, 3.0])
    for _ in range(3000):
        found = found.times(0.5)
    assert found == Tally()


@pytest.mark.parametrize("numbers", [(-1.0, 1.0, 0.0, 0.0), (1.0, 1.0, math.nan, 0.0), (1.0, 1.0, 0.0, math.inf)])
def test_what_is_no_tally_is_refused(numbers):
    with pytest.raises(InvalidPolicyError):
        Tally(*numbers)


# --- linear models -------------------------------------------------------------------------------------------------


@pytest.fixture
def rows():
    random = np.random.default_rng(5)
    return random.normal(size=(40, 3)), random.normal(size=40), random.uniform(0.1, 1, size=40)


def test_the_posterior_is_ridge_regression(rows):
    design, rewards, kept = rows
    theta, root = Ridge.of(design, rewards, kept).posterior(0.7)
    matrix = 0.7 * np.eye(3) + (design * kept[:, None]).T @ design
    assert theta == pytest.approx(np.linalg.solve(matrix, design.T @ (kept * rewards)))
    assert root.T @ root == pytest.approx(np.linalg.inv(matrix))


def test_a_model_that_has_seen_nothing_is_its_prior():
    theta, root = Ridge.nothing(3).posterior(4.0)
    assert theta.tolist() == [0, 0, 0]
    assert root.T @ root == pytest.approx(np.eye(3) / 4)  # not times 4


def test_linear_models_merge_and_forget(rows):
    design, rewards, kept = rows
    whole = Ridge.of(design, rewards, kept)
    halves = Ridge.of(design[:15], rewards[:15], kept[:15]).plus(Ridge.of(design[15:], rewards[15:], kept[15:]))
    assert np.array(halves.gram) == pytest.approx(np.array(whole.gram))
    assert np.array(halves.moment) == pytest.approx(np.array(whole.moment))
    assert Ridge.of(design, rewards, kept * 0.25).posterior(1.0)[0] == pytest.approx(
        whole.times(0.25).posterior(1.0)[0]
    )
    assert whole.times(0.0) == Ridge.nothing(3)


def test_features_that_say_the_same_are_no_trouble():
    design = np.repeat(np.random.default_rng(0).normal(size=(50, 1)), 3, axis=1) * 1e3
    theta, root = Ridge.of(design, design[:, 0], np.ones(50)).posterior(1e-6)
    assert np.isfinite(theta).all()
    assert np.isfinite(root).all()
    assert design @ theta == pytest.approx(design[:, 0], rel=1e-5)


@pytest.mark.parametrize("content", [b"[1.0,[1.0,2.0],[1.0]]", b"[-1.0,[1.0],[1.0]]", b"[1.0,[1e999],[1.0]]"])
def test_sums_of_no_model_are_refused(content):
    with pytest.raises((InvalidPolicyError, msgspec.MsgspecError)):
        msgspec.json.decode(content, type=Ridge)

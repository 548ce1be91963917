"""Estimators by hand, by their properties, and their standard errors by resampling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crossfade.methods.off_policy.estimators import clipped_ips, direct, doubly_robust, ips, snips
from crossfade.methods.off_policy.log import Log
from crossfade.methods.off_policy.reward_model import CellMeans, LinearRewards, fitted_without
from crossfade.methods.off_policy.target import Target
from tests.calibration.policies import decisions

WEIGHTS = arrays(float, 20, elements=st.floats(0.01, 50))
REWARDS = arrays(float, 20, elements=st.floats(-100, 100))


@pytest.fixture
def sample():
    log, target, _, _ = decisions(np.random.default_rng(0), 800)
    return log, target, target.taken / log.propensities


def part_of(log, target, rows):
    picked = Log(log.names, log.actions[rows], log.rewards[rows], log.propensities[rows], features=log.features[rows])
    return picked, Target(target.taken[rows], target.table[rows], {})


def test_by_hand():
    weights, rewards = np.array([2.0, 0.5, 4.0]), np.array([1.0, 2.0, 0.5])
    assert ips(weights, rewards).value == pytest.approx(5 / 3)
    assert clipped_ips(weights, rewards, 2.0).value == pytest.approx(4 / 3)
    assert snips(weights, rewards).value == pytest.approx(5 / 6.5)
    assert ips(weights, rewards).standard_error == pytest.approx(np.std([2.0, 1.0, 2.0]) / np.sqrt(3))


@given(WEIGHTS, REWARDS, st.floats(-100, 100))
def test_snips_follows_a_shift_and_stays_among_the_rewards(weights, rewards, shift):
    found = snips(weights, rewards).value
    assert snips(weights, rewards + shift).value == pytest.approx(found + shift, abs=1e-6)
    assert rewards.min() - 1e-9 <= found <= rewards.max() + 1e-9
    assert snips(weights * 7, rewards).value == pytest.approx(found)


@given(WEIGHTS, REWARDS)
def test_a_high_limit_clips_nothing(weights, rewards):
    assert clipped_ips(weights, rewards, 50.0).value == ips(weights, rewards).value
    assert clipped_ips(weights, np.abs(rewards), 3.0).value <= ips(weights, np.abs(rewards)).value


@given(WEIGHTS, REWARDS)
def test_what_rows_contribute_is_zero_on_average(weights, rewards):
    for found in (ips(weights, rewards), clipped_ips(weights, rewards, 5.0), snips(weights, rewards)):
        scale = float(np.abs(found.influence).max())
        assert found.influence.mean() == pytest.approx(0, abs=1e-9 * max(scale, 1.0))


def test_the_policy_that_ran_earned_what_it_earned(sample):
    log, _, _ = sample
    same = Target(log.propensities, None, {})
    importance = same.taken / log.propensities
    for found in (ips(importance, log.rewards), snips(importance, log.rewards)):
        assert found.value == pytest.approx(log.rewards.mean())
        assert found.standard_error == pytest.approx(log.rewards.std() / np.sqrt(log.count))


@pytest.mark.parametrize("method", ["ips", "clipped_ips", "snips", "dm", "dr"])
def test_standard_errors_against_resampling(sample, method):
    log, target, _ = sample

    def estimate(log, target):
        importance = target.taken / log.propensities
        return {
            "ips": lambda: ips(importance, log.rewards),
            "clipped_ips": lambda: clipped_ips(importance, log.rewards, 3.0),
            "snips": lambda: snips(importance, log.rewards),
            "dm": lambda: direct(log, target, LinearRewards),
            "dr": lambda: doubly_robust(log, target, importance, LinearRewards),
        }[method]()

    random = np.random.default_rng(1)
    again = [estimate(*part_of(log, target, random.integers(log.count, size=log.count))).value for _ in range(200)]
    assert estimate(log, target).standard_error == pytest.approx(np.std(again), rel=0.2)


@pytest.mark.parametrize("model", [CellMeans, LinearRewards])
def test_doubly_robust_by_its_definition(sample, model):
    log, target, importance = sample
    parts = np.zeros(log.count)
    for fitted, rows in fitted_without(model, log):
        table = np.column_stack([fitted.predict(log, action, rows) for action in range(len(log.names))])
        for row, predicted in zip(rows, table, strict=True):
            missed = log.rewards[row] - predicted[log.actions[row]]
            parts[row] = target.table[row] @ predicted + importance[row] * missed
    found = doubly_robust(log, target, importance, model)
    assert found.value == pytest.approx(parts.mean())
    assert found.standard_error == pytest.approx(parts.std() / np.sqrt(log.count))


def test_doubly_robust_forgives_wrong_propensities_and_a_wrong_model_but_not_both():
    log, target, worth, _ = decisions(np.random.default_rng(2), 60_000)
    truth, importance = worth.mean(), target.taken / log.propensities
    wrong = target.taken / np.where(log.actions == 0, 0.8, 0.1)
    near = 4 * doubly_robust(log, target, importance, LinearRewards).standard_error
    assert doubly_robust(log, target, importance, LinearRewards).value == pytest.approx(truth, abs=near)
    assert doubly_robust(log, target, importance, CellMeans).value == pytest.approx(truth, abs=near)
    assert doubly_robust(log, target, wrong, LinearRewards).value == pytest.approx(truth, abs=near + 0.02)
    assert abs(doubly_robust(log, target, wrong, CellMeans).value - truth) > 2 * near


def test_a_model_that_explains_much_makes_intervals_narrow(sample):
    log, target, importance = sample
    rewards = 10 + log.features[:, 0] + log.rewards * 0.1
    told = Log(log.names, log.actions, rewards, log.propensities, features=log.features)
    found = doubly_robust(told, target, importance, LinearRewards)
    assert found.standard_error < 0.5 * ips(importance, rewards).standard_error

"""Reward models: what they predict, what they fall back on, and what one reward does to them."""

import numpy as np
import pytest

from crossfade.methods.off_policy.log import Log
from crossfade.methods.off_policy.reward_model import FOLDS, CellMeans, LinearRewards, fitted_without

EVERY = pytest.mark.parametrize("model", [CellMeans, LinearRewards])


@pytest.fixture
def log():
    random = np.random.default_rng(0)
    actions = [str(each) for each in random.integers(3, size=600)]
    return Log.of(
        actions,
        random.normal(size=600),
        np.full(600, 1 / 3),
        cells=random.integers(4, size=600).tolist(),
        features=random.normal(size=(600, 2)),
    )


def changed(log, row, by):
    rewards = log.rewards.copy()
    rewards[row] += by
    return Log(log.names, log.actions, rewards, log.propensities, log.cells, log.features)


@EVERY
def test_what_a_reward_does_to_predictions(model, log):
    """`pull` against changing one reward and fitting again; what passes through all actions together is left out."""
    every, wanted = np.arange(log.count), np.random.default_rng(1).random(log.count)
    fitted = model.fit(log, every)
    for row in (0, 17, 400):
        action = log.actions[row]
        again = model.fit(changed(log, row, 1.0), every)
        moved = wanted @ again.predict(log, action, every) - wanted @ fitted.predict(log, action, every)
        found = fitted.pull(log, action, every, wanted, np.array([row]))
        assert found[0] == pytest.approx(moved, rel=0.05, abs=0.01)
        fixed = fitted.pull(log, action, every, 0.25, np.array([row]))
        assert fixed == pytest.approx(fitted.pull(log, action, every, np.full(log.count, 0.25), np.array([row])))


def test_means_of_cells_by_hand():
    log = Log.of(["a", "a", "a", "b"], [1.0, 3.0, 8.0, 5.0], [0.5] * 4, cells=["x", "x", "y", "y"])
    fitted = CellMeans.fit(log, np.arange(4))
    overall = 17 / 4
    of_a, of_b = (12 + overall) / 4, (5 + overall) / 2
    rows = np.array([0, 2])
    assert fitted.predict(log, 0, rows) == pytest.approx([(4 + of_a) / 3, (8 + of_a) / 2])
    assert fitted.predict(log, 1, rows) == pytest.approx([of_b, (5 + of_b) / 2])


def test_without_cells_all_contexts_are_one(log):
    plain = Log(log.names, log.actions, log.rewards, log.propensities)
    fitted = CellMeans.fit(plain, np.arange(600))
    assert fitted.table.shape == (1, 3)
    assert fitted.predict(plain, 2, np.arange(5)) == pytest.approx(log.rewards[log.actions == 2].mean(), abs=0.01)


def test_linear_rewards_find_a_line():
    random = np.random.default_rng(3)
    features = np.column_stack([random.normal(1e6, 1e3, 5_000), random.normal(size=5_000), np.full(5_000, 7.0)])
    actions = random.integers(2, size=5_000)
    rewards = np.where(actions == 0, (features[:, 0] - 1e6) / 1e3, 2 - features[:, 1])
    log = Log.of([str(each) for each in actions], rewards, np.full(5_000, 0.5), features=features)
    fitted, rows = LinearRewards.fit(log, np.arange(5_000)), np.arange(100)
    for action in (0, 1):
        expected = np.where(log.names[action] == "0", (features[rows, 0] - 1e6) / 1e3, 2 - features[rows, 1])
        assert fitted.predict(log, action, rows) == pytest.approx(expected, abs=0.02)


@EVERY
def test_an_action_that_was_hardly_seen_is_like_the_others(model):
    log = Log.of(
        ["a"] * 99 + ["b"], np.concatenate([np.full(99, 5.0), [6.0]]), np.full(100, 0.5), features=np.zeros((100, 1))
    )
    fitted = model.fit(log, np.arange(99))  # without the only row of b
    assert fitted.predict(log, 1, np.array([0])) == pytest.approx(5.0, abs=0.1)


@EVERY
def test_nothing_is_predicted_by_who_has_seen_it(model, log):
    fitted = fitted_without(model, log)
    rows = np.concatenate([each for _, each in fitted])
    assert len(fitted) == FOLDS
    assert sorted(rows) == list(range(log.count))
    [first, predicted] = fitted[0]
    again = fitted_without(model, changed(log, int(predicted[0]), 1e6))[0][0]
    assert again.predict(log, 0, predicted) == pytest.approx(first.predict(log, 0, predicted))


@EVERY
def test_few_rows_have_as_many_folds(model, log):
    tiny = Log(log.names, log.actions[:3], log.rewards[:3], log.propensities[:3], log.cells[:3], log.features[:3])
    assert len(fitted_without(model, tiny)) == 3

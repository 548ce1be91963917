"""Policies without context: reference numbers, other implementations, and what every kind has to do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mabwiser.mab import MAB, LearningPolicy

from crossfade.errors import InvalidPolicyError
from crossfade.methods.bandits.beta_thompson import BetaThompson
from crossfade.methods.bandits.epsilon_greedy import EpsilonGreedy
from crossfade.methods.bandits.gaussian_thompson import GaussianThompson
from crossfade.methods.bandits.kl_ucb import KLUCB, upper_bound
from crossfade.methods.bandits.posteriors import best_of_ts
from crossfade.methods.bandits.spec import Spec, winners
from crossfade.methods.bandits.square_cb import inverse_gap
from crossfade.methods.bandits.tallies import Tally
from crossfade.methods.bandits.ucb1 import UCB1
from crossfade.methods.stats.values import NotEstimable
from tests.methods.bandits.support import CONTEXT_FREE, NAMES, NOW, history, learned, made, start
from tests.methods.stats.support import cases

RATE = st.floats(0, 1)


def tallies(*pairs):
    return tuple(Tally.estimated(n, mean, mean * (1 - mean)) for n, mean in pairs)


@cases("bandit/klucb.json", "cases")
def test_kl_ucb_reference(case):
    found = upper_bound(np.array([float(case["mean"])]), np.array([float(case["n"])]), case["T"], case["c"])
    assert found[0] == pytest.approx(case["upper"], abs=1e-9)


@settings(deadline=None)
@given(RATE, st.floats(1, 1e6), st.floats(1, 1e9), st.floats(0, 3))
def test_kl_ucb_is_a_bound_within_its_budget(mean, n, total, c):
    found = float(upper_bound(np.array([mean]), np.array([n]), total, c)[0])
    assert mean <= found <= 1
    more = float(upper_bound(np.array([mean]), np.array([2 * n]), total, c)[0])
    assert more <= found + 1e-12


@cases("bandit/gbstats_gaussian_thompson.json", "cases")
def test_gaussian_thompson_reference(case):
    arms = []
    for arm in case["arms"]:
        n, mean = arm["n"], arm["sum"] / arm["n"]
        arms.append(Tally.estimated(n, -mean if case["inverse"] else mean, arm["sum_squares"] / n - mean**2))
    spec = GaussianThompson(floor=case["floor"], strength=1e-6)
    found = spec.chances(tuple(arms))
    tolerance = case["mc_tolerance"]
    assert found == pytest.approx(case["expected"]["best_arm_probabilities"], abs=tolerance)
    assert spec.floored(found) == pytest.approx(case["expected"]["weights"], abs=tolerance)


@cases("bandit/vw_explore.json", "epsilon_greedy")
def test_epsilon_greedy_reference(case):
    means = [(10, 0.9 if place == case["top"] else 0.1) for place in range(case["k"])]
    found = EpsilonGreedy(epsilon=case["epsilon"]).shares(tallies(*means))
    assert found == pytest.approx(case["expected"], abs=1e-3)


@cases("bandit/vw_explore.json", "enforce_minimum_probability")
def test_floors_are_kept_where_cutting_off_would_give_the_same(case):
    shares, floor = np.array(case["pdf"], float), case["eps"] / len(case["pdf"])
    if not case["update_zero"] or not shares.sum():
        pytest.skip("a floor for only those that have a share already, which no policy here wants")
    found = Spec(floor=floor).floored(shares / shares.sum())
    assert (found >= floor - 1e-12).all()
    if set(case["pdf"]) <= {0, 1} or case["eps"] in (0, 1):
        assert found == pytest.approx(case["expected"], abs=1e-3)


def test_squarecb_is_its_rule():
    predictions, gamma = np.array([0.2, 0.7, 0.65]), 30.0
    expected = [1 / (3 + gamma * 0.5), 0.0, 1 / (3 + gamma * 0.05)]
    expected[1] = 1 - sum(expected)
    assert inverse_gap(predictions, gamma) == pytest.approx(expected)
    assert inverse_gap(np.array([0.3, 0.3]), 1e9).tolist() == [0.5, 0.5]
    assert inverse_gap(predictions, 0.0) == pytest.approx([1 / 3] * 3)


# --- another implementation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "theirs"),
    [
        (UCB1(alpha=1.3), LearningPolicy.UCB1(alpha=1.3)),
        (UCB1(), LearningPolicy.UCB1(alpha=1.0)),
    ],
)
def test_ucb1_against_mabwiser(spec, theirs):
    outcomes = history()
    bandit = MAB(list(NAMES), theirs)
    bandit.fit(outcomes.variants, outcomes.rewards.tolist())
    expected = bandit.predict_expectations()
    policy = start(spec, NAMES, NOW).learn(outcomes, NOW)
    assert spec.index(policy.evidence) == pytest.approx([expected[name] for name in NAMES])


def test_epsilon_greedy_means_against_mabwiser():
    outcomes = history()
    bandit = MAB(list(NAMES), LearningPolicy.EpsilonGreedy(epsilon=0.0))
    bandit.fit(outcomes.variants, outcomes.rewards.tolist())
    policy = learned(EpsilonGreedy)
    expected = bandit.predict_expectations()
    assert [each.mean for each in policy.evidence] == pytest.approx([expected[name] for name in NAMES])
    assert max(policy.weights(), key=policy.weights().get) == bandit.predict()


def test_beta_thompson_against_draws_of_mabwiser():
    outcomes = history(60)
    bandit = MAB(list(NAMES), LearningPolicy.ThompsonSampling(), seed=1)
    bandit.fit(outcomes.variants, outcomes.rewards.tolist())
    draws = [bandit.predict() for _ in range(20_000)]
    chances = start(BetaThompson(), NAMES, NOW).learn(outcomes, NOW).chances()
    assert [draws.count(name) / 20_000 for name in NAMES] == pytest.approx(list(chances.values()), abs=0.015)


# --- the posterior of normal rewards -------------------------------------------------------------------------------


def test_the_normal_posterior_is_that_of_one_reward_after_the_other():
    rewards = np.random.default_rng(3).normal(2.0, 1.5, size=12)
    spec = GaussianThompson(mean=0.5, strength=2.0, shape=3.0, scale=4.0)
    mean, strength, shape, scale = spec.mean, spec.strength, spec.shape, spec.scale
    for reward in rewards:  # Murphy (2007), one at a time
        scale += strength * (reward - mean) ** 2 / (2 * (strength + 1))
        mean = (strength * mean + reward) / (strength + 1)
        strength, shape = strength + 1, shape + 0.5
    expected = best_of_ts(
        np.array([mean, spec.mean]),
        np.sqrt([scale / (shape * strength), spec.scale / (spec.shape * spec.strength)]),
        2 * np.array([shape, spec.shape]),
    )
    assert spec.chances((Tally.of(rewards, np.ones(12)), Tally())) == pytest.approx(expected)


def test_not_knowing_the_variance_matters():
    """Three rewards that happen to be alike do not make a variant certain."""
    found = GaussianThompson().chances((Tally.estimated(3, 1.0, 1e-6), Tally.estimated(3, 0.9, 1e-6)))
    assert 0.5 < found[0] < 0.7


# --- what every kind does ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CONTEXT_FREE)
def test_before_anything_is_learned_all_are_alike(kind):
    assert start(made(kind), NAMES, NOW).weights() == pytest.approx(dict.fromkeys(NAMES, 1 / 3))


@pytest.mark.parametrize("kind", CONTEXT_FREE)
def test_the_best_gets_the_most(kind):
    weights = learned(kind).weights()
    assert sum(weights.values()) == pytest.approx(1, abs=1e-12)
    assert min(weights.values()) >= 0.01
    assert max(weights, key=weights.get) == "c"


@pytest.mark.parametrize("kind", CONTEXT_FREE)
@settings(deadline=None, max_examples=25)
@given(
    arms=st.lists(st.tuples(st.floats(0, 1e5), RATE), min_size=1, max_size=8),
    share=st.floats(0, 1),
)
def test_weights_are_probabilities_above_the_floor(kind, arms, share):
    floor = share / len(arms)
    spec = made(kind, floor=floor)
    found = spec.floored(spec.shares(tallies(*arms)))
    assert found.sum() == pytest.approx(1, abs=1e-9)
    assert (found >= floor - 1e-12).all()
    again = spec.floored(spec.shares(tallies(*arms)))
    assert (found == again).all()


@pytest.mark.parametrize("kind", [UCB1, KLUCB, EpsilonGreedy])
def test_variants_without_rewards_go_first(kind):
    weights = made(kind, floor=0.0).shares((*tallies((100, 0.9)), Tally(), Tally()))
    assert weights[1] == weights[2] > weights[0]


@pytest.mark.parametrize("kind", [BetaThompson, GaussianThompson])
def test_top_two_keeps_looking(kind):
    arms = tallies((1000, 0.1), (1000, 0.2), (1000, 0.05))
    plain, two = made(kind).shares(arms), made(kind, top_two=True).shares(arms)
    assert plain[1] > 0.99
    assert two[1] == pytest.approx(0.5, abs=0.01)
    assert two[0] > two[2]


def test_chances_without_a_prior():
    assert isinstance(learned(UCB1).chances(), dict)
    assert sum(learned(UCB1).chances().values()) == pytest.approx(1)
    assert isinstance(start(UCB1(), NAMES, NOW).chances(), NotEstimable)
    close = learned(BetaThompson).chances()
    assert learned(EpsilonGreedy).chances() == pytest.approx(close, abs=0.02)


def test_winners_share_along_the_last_axis():
    found = winners(np.array([[1.0, 2.0, 2.0], [3.0, 1.0, 1.0], [np.inf, np.inf, 0.0]]))
    assert found.tolist() == [[0, 0.5, 0.5], [1, 0, 0], [0.5, 0.5, 0]]


@pytest.mark.parametrize("kind", CONTEXT_FREE)
@pytest.mark.parametrize(
    "settings_of",
    [
        {"floor": -0.1},
        {"floor": 1.1},
        {"floor": float("nan")},
        {"half_life_seconds": 0.0},
        {"half_life_seconds": 1e-300},
        {"half_life_seconds": float("nan")},
        {"half_life_seconds": float("inf")},
    ],
)
def test_settings_out_of_range_are_refused(kind, settings_of):
    with pytest.raises(InvalidPolicyError):
        made(kind, **settings_of)


@pytest.mark.parametrize(
    ("kind", "settings_of"),
    [
        (BetaThompson, {"successes": 0.0}),
        (BetaThompson, {"failures": float("nan")}),
        (BetaThompson, {"failures": float("inf")}),
        (GaussianThompson, {"mean": float("nan")}),
        (GaussianThompson, {"strength": 0.0}),
        (GaussianThompson, {"shape": 0.1}),
        (GaussianThompson, {"scale": -1.0}),
        (UCB1, {"alpha": -1.0}),
        (UCB1, {"alpha": float("nan")}),
        (KLUCB, {"c": -1.0}),
        (EpsilonGreedy, {"epsilon": 1.5}),
    ],
)
def test_parameters_out_of_range_are_refused(kind, settings_of):
    with pytest.raises(InvalidPolicyError):
        kind(**settings_of)

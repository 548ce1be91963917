"""Policies with context: another implementation, the exact integral, and every kind of context that may arrive."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mabwiser.mab import MAB, LearningPolicy

from crossfade.errors import InvalidContextError, InvalidPolicyError
from crossfade.methods.bandits.contextual import MAX_FEATURES, Feature
from crossfade.methods.bandits.lin_ts import LinTS, ensemble
from crossfade.methods.bandits.lin_ucb import LinUCB
from crossfade.methods.bandits.outcomes import Outcomes
from crossfade.methods.bandits.square_cb import SquareCB, inverse_gap
from crossfade.methods.stats.best_arm import probability_best
from tests.methods.bandits.support import (
    CONTEXTUAL,
    FEATURES,
    NAMES,
    NOW,
    as_context,
    contexts,
    history,
    learned,
    made,
    start,
)

KINDS = pytest.mark.parametrize("kind", CONTEXTUAL)


def bandit(theirs):
    outcomes = history()
    made_by_them = MAB(list(NAMES), theirs)
    made_by_them.fit(outcomes.variants, outcomes.rewards.tolist(), outcomes.contexts)
    return made_by_them


# --- another implementation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "regularization"), [(1.0, 1.0), (0.3, 5.0)])
def test_lin_ucb_against_mabwiser(alpha, regularization):
    theirs = bandit(LearningPolicy.LinUCB(alpha=alpha, l2_lambda=regularization))
    settings_of = {"alpha": alpha, "regularization": regularization, "intercept": False, "floor": 0.0}
    ask = learned(LinUCB, **settings_of).scorer()
    asked = contexts(200)
    chosen = theirs.predict(asked)
    assert [NAMES[int(np.argmax(ask(as_context(row))))] for row in asked] == list(chosen)


def test_the_linear_models_are_those_of_mabwiser():
    theirs = bandit(LearningPolicy.LinGreedy(epsilon=0.0, l2_lambda=2.0))
    policy = learned(SquareCB, intercept=False, regularization=2.0)
    asked = contexts(20)
    expected = theirs.predict_expectations(asked)
    for row, each in zip(asked, expected, strict=True):
        ours = [model.posterior(2.0)[0] @ row for model in policy.evidence]
        assert ours == pytest.approx([each[name] for name in NAMES])


def test_lin_ts_against_draws_of_coefficients():
    [row], random = contexts(1, seed=4), np.random.default_rng(0)
    policy = learned(LinTS, scale=0.5, intercept=False, floor=0.0)
    values = []
    for model in policy.evidence:
        theta, root = model.posterior(1.0)
        values.append(random.multivariate_normal(theta, 0.25 * root.T @ root, size=20_000) @ row)
    expected = np.bincount(np.argmax(values, axis=0), minlength=3) / 20_000
    assert policy.scorer()(as_context(row)) == pytest.approx(expected, abs=0.08)


# --- what each kind promises ---------------------------------------------------------------------------------------


def test_lin_ucb_by_its_formula():
    policy, row = learned(LinUCB, floor=0.1, alpha=2.0), contexts(1)[0]
    x = np.concatenate([[1.0], row])
    bounds = []
    for model in policy.evidence:
        gram = np.zeros((5, 5))
        gram[np.triu_indices(5)] = model.gram
        matrix = np.eye(5) + gram + np.triu(gram, 1).T
        bounds.append(np.linalg.solve(matrix, model.moment) @ x + 2.0 * math.sqrt(x @ np.linalg.solve(matrix, x)))
    found = policy.scorer()(as_context(row))
    assert found == pytest.approx([0.8 if place == np.argmax(bounds) else 0.1 for place in range(3)])


def test_a_new_variant_is_worth_looking_at():
    """Scored with inv(A) = I / regularization: the less it is regularised, the more is possible."""
    row = as_context(contexts(1)[0])
    ask = learned(LinUCB, regularization=0.01).add("new").scorer()
    assert ask(row)[-1] > 0.9
    strict = learned(LinUCB, regularization=1e6).add("new").scorer()
    assert strict(row)[-1] < 0.1


@pytest.mark.parametrize(("variants", "rows"), [(2, 50), (3, 200), (8, 100)])
def test_lin_ts_is_near_the_integral(variants, rows):
    names = [f"v{number}" for number in range(variants)]
    policy = start(made(LinTS, floor=0.0), names, NOW).learn(history(rows, variants=names), NOW)
    posteriors = [model.posterior(1.0) for model in policy.evidence]
    asked = contexts(200)
    missed = []
    for row, found in zip(asked, policy.scorer().many(asked), strict=True):
        x = np.concatenate([[1.0], row])
        exact = probability_best([theta @ x for theta, _ in posteriors], [np.linalg.norm(r @ x) for _, r in posteriors])
        missed.append(np.abs(found - exact).max())
    assert np.mean(missed) < 0.05
    assert max(missed) < 0.15


@pytest.mark.parametrize(("count", "width"), [(1, 1), (2, 3), (5, 11), (7, 40), (100, 2)])
def test_the_ensemble_is_standard_normal_and_treats_variants_alike(count, width):
    found = ensemble(count, width)
    assert found.shape[1:] == (count, width)
    assert len(found) >= 120
    for place in range(count):
        assert found[:, place].mean(axis=0) == pytest.approx(np.zeros(width), abs=1e-12)
        assert found[:, place].T @ found[:, place] / len(found) == pytest.approx(np.eye(width), abs=1e-9)
    assert found.sum(axis=0) == pytest.approx(np.zeros((count, width)), abs=1e-9)


def test_the_ensemble_never_changes():
    """Guards against an accidental change: decisions would no longer replay."""
    assert ensemble(2, 2)[0] == pytest.approx(np.array(ENSEMBLE), abs=1e-8)


ENSEMBLE = [[-0.29955782, -1.17892673], [0.3581279, -0.23005035]]


def test_square_cb_explores_less_the_more_it_knows():
    row = as_context(contexts(1)[0])
    asked = [start(made(SquareCB), NAMES, NOW).learn(history(n), NOW).scorer()(row) for n in (30, 300, 3000)]
    assert max(asked[0]) < max(asked[1]) < max(asked[2])
    policy = learned(SquareCB, floor=0.0)
    x = np.concatenate([[1.0], contexts(1)[0]])
    predicted = np.array([model.posterior(1.0)[0] @ x for model in policy.evidence])
    assert policy.scorer()(row) == pytest.approx(inverse_gap(predicted, 10 * 300**0.5).tolist())


# --- what every kind does ------------------------------------------------------------------------------------------


@KINDS
def test_before_anything_is_learned_all_are_alike(kind):
    ask = start(made(kind), NAMES, NOW).scorer()
    for row in contexts(5):
        assert ask(as_context(row)) == pytest.approx([1 / 3] * 3)


@KINDS
@pytest.mark.parametrize("intercept", [True, False])
def test_one_context_and_many_are_the_same(kind, intercept):
    ask = learned(kind, intercept=intercept).scorer()
    asked = contexts(100)
    one_by_one = np.array([ask(as_context(row)) for row in asked])
    assert ask.many(asked) == pytest.approx(one_by_one, abs=1e-12)


@KINDS
def test_a_context_of_zeros(kind):
    ask = learned(kind, intercept=False).scorer()
    zeros = dict.fromkeys((feature.name for feature in FEATURES), 0.0)
    assert ask(zeros) == pytest.approx([1 / 3] * 3)
    assert ask.many(np.zeros((2, 4))) == pytest.approx(np.full((2, 3), 1 / 3))


@KINDS
@settings(deadline=None, max_examples=50)
@given(row=st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4), floor=st.floats(0, 1 / 3))
def test_probabilities_sum_to_one_and_keep_the_floor(kind, row, floor):
    found = learned(kind, floor=floor).scorer()(as_context(row))
    assert sum(found) == pytest.approx(1, abs=1e-9)
    assert min(found) >= floor - 1e-12
    assert all(type(each) is float for each in found)


@KINDS
def test_it_learns_what_contexts_tell(kind):
    random = np.random.default_rng(2)
    asked = random.normal(size=(2_000, 4))
    chosen = random.integers(2, size=2_000)
    rewards = np.where(chosen == 0, asked[:, 1], -asked[:, 1]) + random.normal(0, 0.3, 2_000)
    outcomes = Outcomes([("plus", "minus")[each] for each in chosen], rewards, np.zeros(2_000), contexts=asked)
    ask = start(made(kind), ("plus", "minus"), NOW).learn(outcomes, NOW).scorer()
    nothing = dict.fromkeys((feature.name for feature in FEATURES), 0.0)
    assert ask(nothing | {"f1": 1.5})[0] > 0.9
    assert ask(nothing | {"f1": -1.5})[1] > 0.9


@KINDS
def test_threads_may_share_a_scorer(kind):
    ask, asked = learned(kind).scorer(), [as_context(row) for row in contexts(300)]
    expected = [ask(context) for context in asked]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, asked)) == expected


# --- contexts as they arrive ---------------------------------------------------------------------------------------

GOOD = {"f0": 0.1, "f1": 0.2, "f2": 0.3, "f3": 0.4}
BAD = [
    {},
    {"f0": 0.1, "f1": 0.2, "f2": 0.3},
    GOOD | {"f2": None},
    GOOD | {"f2": math.nan},
    GOOD | {"f2": math.inf},
    GOOD | {"f2": -math.inf},
    GOOD | {"f2": 1e7},
    GOOD | {"f2": 10**400},
    GOOD | {"f2": "0.3"},
    GOOD | {"f2": [0.3]},
    GOOD | {"f2": {"f2": 1}},
    GOOD | {"f2": 1j},
    {name: [1.0] for name in GOOD},
    dict.fromkeys(GOOD, "1"),
    None,
    [0.1, 0.2, 0.3, 0.4],
    "f0",
]


@KINDS
@pytest.mark.parametrize("context", BAD, ids=lambda each: str(each)[:60])
def test_contexts_that_cannot_be_used_are_refused(kind, context):
    policy = learned(kind)
    with pytest.raises(InvalidContextError):
        policy.scorer()(context)
    with pytest.raises(InvalidContextError):
        policy.spec.matrix([GOOD, context])


@KINDS
def test_numbers_of_every_sort_are_numbers(kind):
    ask = learned(kind).scorer()
    expected = ask({"f0": 1.0, "f1": 0.0, "f2": 3.0, "f3": 0.5})
    assert ask({"f0": True, "f1": False, "f2": 3, "f3": np.float32(0.5), "more": "is left out"}) == expected
    assert ask({"f0": np.int64(1), "f1": np.bool_(0), "f2": np.float64(3), "f3": 0.5}) == expected
    whole = learned(kind, intercept=False).scorer()
    assert whole({"f0": 1, "f1": 0, "f2": 3, "f3": 2}) == whole({"f0": 1.0, "f1": 0.0, "f2": 3.0, "f3": 2.0})


@KINDS
def test_large_numbers_within_the_limit_are_used(kind):
    found = learned(kind).scorer()(dict.fromkeys(GOOD, 1e6))
    assert sum(found) == pytest.approx(1)


@KINDS
def test_a_default_stands_in_for_what_is_missing(kind):
    features = (*FEATURES[:3], Feature("f3", default=0.4))
    policy = start(kind(features=features), NAMES, NOW).learn(history(), NOW)
    ask = policy.scorer()
    expected = ask(GOOD)
    for missing in ({}, {"f3": None}, {"f3": math.nan}):
        assert ask({name: GOOD[name] for name in ("f0", "f1", "f2")} | missing) == expected
    with pytest.raises(InvalidContextError):
        ask(GOOD | {"f3": "0.4"})
    rows = np.array([[0.1, 0.2, 0.3, math.nan]])
    assert ask.many(rows)[0] == pytest.approx(expected)
    assert math.isnan(rows[0, 3]), "what was handed over is as it was"
    with pytest.raises(InvalidContextError, match="f2"):
        ask.many(np.array([[0.1, 0.2, math.nan, 0.4]]))


def test_one_feature_is_enough():
    ask = start(LinUCB(features=(Feature("only"),)), NAMES, NOW).scorer()
    assert ask({"only": 0.5}) == pytest.approx([1 / 3] * 3)
    with pytest.raises(InvalidContextError):
        ask({})


def test_messages_name_the_feature():
    with pytest.raises(InvalidContextError) as caught:
        learned(LinUCB).scorer()(GOOD | {"f2": None})
    assert "`f2`" in str(caught.value)
    assert "default" in caught.value.hint


@KINDS
@pytest.mark.parametrize(
    "settings_of",
    [
        {"features": ()},
        {"features": (Feature("a"), Feature("a"))},
        {"features": (Feature("a", default=math.nan),)},
        {"features": (Feature("a", default=1e7),)},
        {"features": tuple(Feature(f"f{number}") for number in range(MAX_FEATURES + 1))},
        {"regularization": 0.0},
        {"regularization": math.nan},
    ],
    ids=lambda each: str(each)[:40],
)
def test_what_is_no_specification_is_refused(kind, settings_of):
    with pytest.raises(InvalidPolicyError):
        made(kind, **settings_of)


@pytest.mark.parametrize(
    ("kind", "settings_of"),
    [
        (LinUCB, {"alpha": -1.0}),
        (LinTS, {"scale": 0.0}),
        (LinTS, {"scale": math.nan}),
        (SquareCB, {"gamma": math.inf}),
        (SquareCB, {"exponent": -0.5}),
    ],
)
def test_parameters_out_of_range_are_refused(kind, settings_of):
    with pytest.raises(InvalidPolicyError):
        made(kind, **settings_of)

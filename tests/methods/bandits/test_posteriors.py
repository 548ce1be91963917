"""Exact Thompson weights: against adaptive quadrature, closed forms, simulation and symmetry."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from crossfade.methods.bandits.posteriors import best_of_betas, best_of_ts, top_two
from crossfade.methods.stats.best_arm import probability_best

COUNTS = st.floats(0.1, 1e5)


@pytest.mark.parametrize(("a", "b"), [((3, 9), (5, 7)), ((1, 1), (1, 1)), ((40, 400), (55, 390)), ((0.1, 0.1), (2, 3))])
def test_two_betas_against_adaptive_quadrature(a, b):
    def inside(logit):
        x, rest = special.expit(logit), special.expit(-logit)
        log_density = a[0] * np.log(x) + a[1] * np.log(rest) - special.betaln(*a)
        return np.exp(log_density) * stats.beta.cdf(x, *b)

    pieces = [-300, -100, -30, -10, -5, -2, 0, 2, 5, 10, 30, 100, 300]
    expected = sum(integrate.quad(inside, *ends, limit=200)[0] for ends in pairwise(pieces))
    found = best_of_betas(np.array([a[0], b[0]], float), np.array([a[1], b[1]], float))
    assert found[0] == pytest.approx(expected, abs=1e-7)


def test_betas_against_simulation():
    successes, failures = np.array([11.0, 21, 5, 0.1, 30]), np.array([91.0, 81, 40, 0.1, 120])
    draws = np.random.default_rng(0).beta(successes, failures, size=(400_000, 5)).argmax(axis=1)
    assert best_of_betas(successes, failures) == pytest.approx(np.bincount(draws) / 400_000, abs=0.004)


def test_many_successes_are_a_normal_posterior():
    successes, failures = np.array([10_000.0, 10_100.0]), np.array([90_000.0, 89_900.0])
    total = successes + failures
    means = successes / total
    assert best_of_betas(successes, failures) == pytest.approx(
        probability_best(means, np.sqrt(means * (1 - means) / total)), abs=1e-4
    )


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=6))
@example([(62.0, 0.125), (0.5, 0.125)])
@example([(0.1, 0.1), (10_000.0, 0.1)])
def test_betas_sum_to_one_and_have_mirror_images(pairs):
    successes, failures = np.array(pairs).T
    found = best_of_betas(successes, failures)
    assert found.sum() == pytest.approx(1, abs=1e-12)
    assert ((found >= 0) & (found <= 1)).all()
    assert best_of_betas(successes[::-1], failures[::-1])[::-1] == pytest.approx(found, abs=1e-9)
    if len(pairs) == 2:  # the largest rate is the smallest of the rates of failing
        assert best_of_betas(failures, successes)[::-1] == pytest.approx(found, abs=1e-9)


def test_the_quadrature_of_betas_misses_little(monkeypatch):
    monkeypatch.setattr("crossfade.methods.bandits.posteriors._whole", lambda shares: shares)
    random = np.random.default_rng(1)
    for _ in range(200):
        successes, failures = np.exp(random.uniform(np.log(0.1), 10, size=(2, int(random.integers(2, 8)))))
        assert best_of_betas(successes, failures).sum() == pytest.approx(1, abs=1e-9)


def test_student_t_against_simulation():
    location, scale = np.array([0, 0.5, 0.4, 0.1, 0.45]), np.array([0.5, 0.2, 0.3, 1.0, 0.1])
    df = np.array([2.0, 4, 8, 20, 200])
    draws = location + scale * np.random.default_rng(0).standard_t(df, size=(400_000, 5))
    expected = np.bincount(draws.argmax(axis=1)) / 400_000
    assert best_of_ts(location, scale, df) == pytest.approx(expected, abs=0.004)


def test_many_degrees_of_freedom_are_normal():
    location, scale = np.array([0.1, 0.3, 0.2]), np.array([0.1, 0.05, 0.3])
    found = best_of_ts(location, scale, np.full(3, 1e9))
    assert found == pytest.approx(probability_best(location, scale), abs=1e-7)


@pytest.mark.parametrize("df", [1.0, 2.0, 5.0, 40.0])
def test_the_difference_of_two_ts_against_adaptive_quadrature(df):
    def inside(x):
        return stats.t.pdf(x, df) * stats.t.cdf((x + 1) / 3, df)  # the second one has location -1 and scale 3

    ends = [-np.inf, -10, 0, 10, np.inf]
    expected = sum(integrate.quad(inside, *pair, limit=200)[0] for pair in pairwise(ends))
    found = best_of_ts(np.array([0.0, -1.0]), np.array([1.0, 3.0]), np.full(2, df))
    assert found[0] == pytest.approx(expected, abs=2e-8)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.floats(1, 1e4)), min_size=1, max_size=6),
    st.floats(-1e3, 1e3),
    st.floats(0.01, 100),
)
def test_ts_sum_to_one_and_follow_their_scale(arms, shift, factor):
    location, scale, df = np.array(arms).T
    found = best_of_ts(location, scale, df)
    assert found.sum() == pytest.approx(1, abs=1e-12)
    assert best_of_ts(shift + factor * location, factor * scale, df) == pytest.approx(found, abs=1e-6)
    assert best_of_ts(location[::-1], scale[::-1], df[::-1])[::-1] == pytest.approx(found, abs=1e-9)


def test_top_two_is_its_formula_and_its_procedure():
    chances = np.array([0.5, 0.3, 0.15, 0.05])
    expected = [
        0.5 * p + 0.5 * sum(q * p / (1 - q) for j, q in enumerate(chances) if j != i) for i, p in enumerate(chances)
    ]
    assert top_two(chances) == pytest.approx(expected)
    random = np.random.default_rng(0)
    first, again = random.choice(4, p=chances, size=(2, 200_000))
    while (same := first == again).any():
        again[same] = random.choice(4, p=chances, size=same.sum())
    chosen = np.where(random.random(200_000) < 0.5, first, again)
    assert np.bincount(chosen) / 200_000 == pytest.approx(expected, abs=0.005)


def test_top_two_when_one_is_certain():
    assert top_two(np.array([1.0, 0.0, 0.0])).tolist() == [0.5, 0.25, 0.25]
    assert top_two(np.array([1.0, 3e-19, 1e-19])) == pytest.approx([0.5, 0.375, 0.125])
    assert top_two(np.array([1.0])).tolist() == [1.0]

"""Moments: exact where sums of squares are not, whatever way they are put together; hostile values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crossfade.errors import InvalidAnalysisError
from crossfade.methods.stats.moments import Moments

VALUES = st.floats(-1e6, 1e6)


def rows(columns=2, least=0):
    return st.integers(least, 12).flatmap(lambda count: arrays(np.float64, (count, columns), elements=VALUES))


def assert_same(found, expected, scale=1e12):
    assert found.n.tolist() == expected.n.tolist()
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-9, atol=1e-9 * scale**0.5)
    np.testing.assert_allclose(found.m2, expected.m2, rtol=1e-8, atol=1e-9 * scale)


@given(rows(), rows(), rows())
def test_merging_is_like_taking_all_at_once_in_any_order(a, b, c):
    everything = Moments.of(np.concatenate([a, b, c]))
    x, y, z = map(Moments.of, (a, b, c))
    assert_same(x.merge(y).merge(z), everything)
    assert_same(z.merge(x.merge(y)), everything)
    assert_same(Moments.stack([x, y, z]).total(), everything)


@given(rows(), rows())
def test_what_was_merged_can_be_taken_out_again(a, b):
    x, y = Moments.of(a), Moments.of(b)
    assert_same(x.merge(y).subtract(y), x)
    back = x.merge(y).subtract(x).subtract(y)
    assert int(back.n) == 0
    assert not back.mean.any()
    assert not back.m2.any()


@given(rows(least=2))
def test_they_are_those_of_numpy(a):
    found = Moments.of(a)
    np.testing.assert_allclose(found.mean, a.mean(axis=0), rtol=1e-12, atol=1e-6)
    np.testing.assert_allclose(found.covariance, np.cov(a.T), rtol=1e-9, atol=1e-3)
    assert (np.linalg.eigvalsh(found.m2) >= -1e-3).all()


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 4), VALUES, VALUES), max_size=40))
def test_groups_in_one_pass_are_the_groups_one_by_one(labelled):
    groups = np.array([group for group, *_ in labelled], dtype=np.int64)
    values = np.array([row for _, *row in labelled], dtype=np.float64).reshape(-1, 2)
    found = Moments.grouped(values, groups, 5)
    for cell in range(5):
        assert_same(found[cell], Moments.of(values[groups == cell]))
    assert_same(found.total(), Moments.of(values))


def test_a_unit_whose_outcome_grows_is_replaced():
    values = np.array([[1.0, 2.0], [3.0, 1.0], [5.0, 9.0]])
    grown = values.copy()
    grown[1] = [30.0, 2.0]
    found = Moments.of(values).subtract(Moments.of(values[1:2])).merge(Moments.of(grown[1:2]))
    assert_same(found, Moments.of(grown), 100)


def test_large_values_keep_their_variance():
    random = np.random.default_rng(1)
    values = random.normal(1e9, 1.0, size=(50, 2000))
    parts = Moments.of(values[..., None]).total()
    assert float(parts.covariance[0, 0]) == pytest.approx(values.var(ddof=1), rel=1e-7)
    sums = (np.square(values).sum() - values.size * values.mean() ** 2) / (values.size - 1)
    assert abs(sums - 1) >= 1, "this is why sums of squares are not kept"


def test_many_cells_at_once():
    random = np.random.default_rng(2)
    values = random.normal(size=(3, 4, 50, 2))
    found = Moments.of(values)
    assert found.n.shape == (3, 4)
    assert_same(found[1, 2], Moments.of(values[1, 2]), 1)
    assert_same(found.total(0)[2], Moments.of(np.concatenate(values[:, 2])), 1)
    assert_same(found.total(-1).total(), Moments.of(values.reshape(-1, 2)), 1)
    assert_same(found.merge(found)[0, 0], Moments.of(np.tile(values[0, 0], (2, 1))), 1)


def test_within_leaves_out_what_lies_between_cells():
    a, b = Moments.of([[0.0, 1.0], [2.0, 3.0]]), Moments.of([[100.0, 1.0], [102.0, 3.0]])
    pooled = Moments.stack([a, b]).within()
    assert pooled.m2.tolist() == (a.m2 + b.m2).tolist()
    assert pooled.mean.tolist() == [51.0, 2.0]


def test_nothing_is_neutral():
    some = Moments.of([[1.0, 2.0], [4.0, 8.0]])
    assert_same(Moments.empty(2).merge(some), some)
    assert_same(some.merge(Moments.empty(2)), some)
    assert_same(some.subtract(Moments.empty(2)), some)
    assert Moments.empty(2, (3,)).total().covariance.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert int(Moments.of([]).n) == 0


def test_rounding_makes_no_variance_negative():
    large = Moments.of(np.full(1000, 1e8) + np.random.default_rng(3).normal(size=1000) * 1e-9)
    assert float(large.subtract(Moments.of(np.full(998, 1e8))).m2[0, 0]) >= 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
def test_values_that_cannot_be_used_are_refused(bad):
    with pytest.raises(InvalidAnalysisError):
        Moments.of([1.0, bad, 3.0])
    with pytest.raises(InvalidAnalysisError):
        Moments.grouped([1.0, bad, 3.0], np.zeros(3, dtype=np.int64), 2)


@pytest.mark.parametrize("groups", [[0, 1, 2], [0, -1, 1], [0, 1], [0, 1, 0, 1]])
def test_groups_that_are_no_cells_are_refused(groups):
    with pytest.raises(InvalidAnalysisError):
        Moments.grouped([1.0, 2.0, 3.0], np.array(groups), 2)


def test_more_cannot_be_taken_out_than_there_is():
    with pytest.raises(InvalidAnalysisError):
        Moments.of([1.0]).subtract(Moments.of([1.0, 2.0]))

"""The arithmetic of ensembles, against the plainest code that does the same."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.registry.ensembles.combining import average, features, vote

WEIGHT = st.floats(1e-9, 1e9)
NUMBER = st.floats(-1e12, 1e12)


@st.composite
def ballots(draw, values):
    """m members, n rows: values, weights, and who answered; somebody did in every row."""
    members, rows = draw(st.integers(1, 5)), draw(st.integers(0, 4))
    table = [[draw(values) for _ in range(rows)] for _ in range(members)]
    weights = [draw(WEIGHT) for _ in range(members)]
    good = np.array([[draw(st.booleans()) for _ in range(rows)] for _ in range(members)], bool).reshape(members, rows)
    for row in range(rows):
        good[draw(st.integers(0, members - 1)), row] = True
    return table, weights, good


@given(ballots(NUMBER))
def test_an_average_is_that_of_those_who_answered(case):
    table, weights, good = case
    found = average([np.array(row, float) for row in table], np.array(weights), good)
    for row in range(good.shape[1]):
        there = [member for member in range(len(table)) if good[member, row]]
        total = sum(weights[member] for member in there)
        expected = sum(weights[member] / total * table[member][row] for member in there)
        scale = max(abs(table[member][row]) for member in there)
        assert found[row] == pytest.approx(expected, rel=1e-9, abs=1e-9 * (1 + scale))
        slack = 1e-9 * scale + 1e-300
        assert min(table[m][row] for m in there) - slack <= found[row] <= max(table[m][row] for m in there) + slack


@given(ballots(st.sampled_from(["a", "b", "c"])))
def test_a_vote_is_won_by_the_most_weight_and_a_draw_by_the_smallest_label(case):
    table, weights, good = case
    found = vote([np.array(row, object) for row in table], np.array(weights), good)
    for row in range(good.shape[1]):
        support = Counter()
        for member, weight in enumerate(weights):
            if good[member, row]:
                support[table[member][row]] += weight
        best = max(support.values())
        assert found[row] == min(label for label, weight in support.items() if weight == best)


def test_what_is_not_there_is_not_looked_at():
    good = np.array([[True], [False]])
    assert average([np.array([2.0]), np.array([np.nan])], np.array([1.0, 9.0]), good).tolist() == [2.0]
    assert vote([np.array([1]), np.array([7])], np.array([1.0, 9.0]), good).tolist() == [1]


def test_huge_numbers_have_a_mean_too():
    huge = [np.array([1.7e308]), np.array([1.7e308])]
    assert average(huge, np.array([1e9, 1e9]), np.ones((2, 1), bool))[0] == pytest.approx(1.7e308)


def test_equal_weights_give_equal_probabilities_exactly():
    chances = average([np.array([[0.4, 0.6]]), np.array([[0.6, 0.4]])], np.array([3.0, 3.0]), np.ones((2, 1), bool))
    assert chances[0, 0] == chances[0, 1]


def test_an_average_keeps_every_dimension():
    values = [np.ones((2, 3, 4), np.float32), np.full((2, 3, 4), 4, np.int8)]
    assert average(values, np.array([2.0, 1.0]), np.ones((2, 2), bool)).tolist() == np.full((2, 3, 4), 2.0).tolist()


@pytest.mark.parametrize(
    ("labels", "winner"), [([3, 1, 2], 1), ([2.5, 2.5, 1.0], 2.5), ([True, False, True], True), (["b", "a", "b"], "b")]
)
def test_labels_of_every_kind_are_voted_on(labels, winner):
    kind = object if isinstance(labels[0], str) else None
    found = vote([np.array([label], kind) for label in labels], np.ones(3), np.ones((3, 1), bool))
    assert found.tolist() == [winner]


def test_many_different_labels_cost_memory_by_rows_and_members_only():
    rows = 50_000
    found = vote([np.arange(rows), np.arange(rows) + rows], np.ones(2), np.ones((2, rows), bool))
    assert found.tolist() == list(range(rows))


def test_a_stacker_gets_the_second_of_two_probabilities_and_all_of_more():
    two, three = np.array([[0.2, 0.8]]), np.array([[0.1, 0.2, 0.7]])
    assert features([two], binary=True).tolist() == [[0.8]]
    assert features([three], binary=False).tolist() == three.tolist()
    assert features([np.array([5]), np.array([[6, 7]])], binary=False).tolist() == [[5.0, 6.0, 7.0]]

"""The stability index: exact for known counts, quiet while nothing changes, loud when something does."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.methods.drift.stability import ReferenceSample, Window, stability_index

EVEN = ReferenceSample((0.0,), (0.5, 0.5), 1000)


def slow_index(reference, values):
    """The definition, value by value."""
    total = 0.0
    edges = (-math.inf, *reference.edges, math.inf)
    for number, share in enumerate(reference.shares):
        inside = [value for value in values if edges[number] <= value < edges[number + 1]]
        p, q = max(len(inside) / len(values), 1e-4), max(share, 1e-4)
        total += (p - q) * math.log(p / q)
    return total


# --- references ---


def test_bins_of_a_sample_hold_about_the_same_share():
    reference = ReferenceSample.of(np.random.default_rng(1).normal(size=10_000).tolist(), bins=10)
    assert len(reference.shares) == 10
    assert reference.size == 10_000
    assert all(0.095 < share < 0.105 for share in reference.shares)
    assert reference.problem() == ""


def test_values_that_are_equal_make_fewer_bins():
    reference = ReferenceSample.of([0.0] * 80 + [1.0] * 20, bins=10)
    assert reference.edges == (0.0, 1.0)
    assert reference.shares == (0.0, 0.8, 0.2)
    assert reference.problem() == ""


def test_one_value_only_makes_two_bins_of_which_one_is_empty():
    reference = ReferenceSample.of([5.0] * 100)
    assert reference.edges == (5.0,)
    assert reference.shares == (0.0, 1.0)


@pytest.mark.parametrize("values", [[], [1.0] * 99, [1.0] * 99 + [math.nan], [1.0] * 99 + [math.inf]])
def test_what_is_too_little_or_not_finite_makes_no_reference(values):
    with pytest.raises(ValueError, match="at least 100 finite values"):
        ReferenceSample.of(values)


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        (ReferenceSample((), (1.0,)), "at least one finite edge"),
        (ReferenceSample((0.0,), (1.0,)), "one share more than edges"),
        (ReferenceSample((math.nan,), (0.5, 0.5)), "finite"),
        (ReferenceSample((0.0,), (math.inf, 0.5)), "finite"),
        (ReferenceSample((1.0, 1.0), (0.2, 0.3, 0.5)), "edges ascend"),
        (ReferenceSample((1.0, 0.0), (0.2, 0.3, 0.5)), "edges ascend"),
        (ReferenceSample((0.0,), (-0.5, 1.5)), "not negative"),
        (ReferenceSample((0.0,), (0.5, 0.4)), "add up to 1"),
        (ReferenceSample((0.0,), (0.5, 0.5), -1), "a size is not negative"),
    ],
)
def test_what_is_wrong_with_a_reference_is_said(reference, problem):
    assert problem in reference.problem()


# --- the index ---


def test_equal_shares_have_no_distance():
    assert stability_index(EVEN, [7, 7]) == 0.0


def test_nothing_counted_has_no_distance():
    assert stability_index(EVEN, [0, 0]) == 0.0


def test_a_known_distance():
    assert stability_index(EVEN, [90, 10]) == pytest.approx(0.4 * math.log(1.8) - 0.4 * math.log(0.2))


def test_an_empty_bin_is_far_but_not_infinitely():
    assert 4 < stability_index(EVEN, [100, 0]) < 5


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=200))
def test_the_index_is_the_definition(values):
    reference = ReferenceSample((-1.0, 0.0, 1.0), (0.2, 0.3, 0.3, 0.2))
    window = Window(reference, len(values), 1e9)
    for value in values:
        window.add(value)
    assert window.index == pytest.approx(slow_index(reference, values))


@given(st.lists(st.integers(0, 50), min_size=2, max_size=2))
def test_the_index_is_never_negative(counts):
    assert stability_index(EVEN, counts) >= 0


def test_noise_is_what_chance_makes():
    """Over many windows of the reference's own distribution, the mean of the index is near `noise`."""
    random = np.random.default_rng(3)
    reference = ReferenceSample.of(random.normal(size=5000).tolist())
    seen = []
    for _ in range(200):
        counts = np.bincount(np.searchsorted(reference.edges, random.normal(size=500), "right"), minlength=10)
        seen.append(stability_index(reference, counts.tolist()))
    assert np.mean(seen) == pytest.approx(reference.noise(500), rel=0.25)


# --- windows ---


def feed(window, values):
    return [window.add(float(value)) for value in values]


def test_nothing_is_said_before_the_window_is_full():
    window = Window(EVEN, 100, 0.1)
    assert not any(feed(window, [5.0] * 99))
    assert window.index is None
    assert window.add(5.0)


def test_the_same_distribution_never_drifts():
    random = np.random.default_rng(4)
    reference = ReferenceSample.of(random.normal(size=20_000).tolist())
    window = Window(reference, 1000, 0.25)
    assert not any(feed(window, random.normal(size=50_000)))


def test_a_shift_is_found_within_a_window_and_forgotten_after_another():
    random = np.random.default_rng(5)
    reference = ReferenceSample.of(random.normal(size=20_000).tolist())
    window = Window(reference, 1000, 0.25)
    feed(window, random.normal(size=2000))
    assert True in feed(window, random.normal(2, 1, size=1000))
    assert window.drifted
    feed(window, random.normal(size=2000))
    assert not window.drifted


def test_only_the_last_values_count():
    window = Window(EVEN, 20, 0.2)
    feed(window, [-1.0] * 10 + [1.0] * 10)
    assert window.index == 0.0
    feed(window, [1.0] * 20)
    assert window.drifted
    assert sum(window._counts) == len(window._bins) == 20


def test_infinities_have_a_bin_and_nan_has_none():
    window = Window(EVEN, 20, 0.2)
    feed(window, [math.nan] * 1000)
    assert window.index is None
    feed(window, [-math.inf, math.inf] * 10)
    assert window.index == 0.0


def test_a_drift_holds_until_it_is_calculated_again():
    window = Window(EVEN, 100, 0.2)
    feed(window, [1.0] * 100)
    assert feed(window, [-1.0] * 4) == [True] * 4
    assert window.add(math.nan)

"""From probabilities to a variant: every variant as often as it should be, and always the same for a decision."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from crossfade.methods.bandits.draw import draw, number_of

LAST = 2**64 - 1


def test_variants_come_as_often_as_they_should():
    probabilities = [0.1, 0.0, 0.6, 0.3]
    drawn = [draw(probabilities, number_of(f"request-{number}", 5)) for number in range(50_000)]
    counts = np.bincount(drawn, minlength=4)
    assert counts[1] == 0
    kept = [0, 2, 3]
    expected = 50_000 * np.array(probabilities)[kept]
    assert stats.chisquare(counts[kept], expected).pvalue > 1e-3


def test_other_seeds_draw_independently():
    first, second = ([draw([0.5, 0.5], number_of(f"r{n}", seed)) for n in range(20_000)] for seed in (1, 2))
    table = np.histogram2d(first, second, bins=2)[0]
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_the_hash_never_changes():
    assert [number_of("request-1"), number_of("request-1", 1)] == [4002112897250542239, 2571473745569621739]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20).filter(lambda each: sum(each) > 0), st.integers(0, LAST))
def test_only_what_can_happen_happens(weights, number):
    probabilities = [weight / sum(weights) for weight in weights]
    place = draw(probabilities, number)
    assert 0 <= place < len(weights)
    assert probabilities[place] > 0


@pytest.mark.parametrize(("number", "place"), [(0, 1), (2**63 - 1, 1), (2**63, 2), (LAST, 2)])
def test_bounds_belong_to_the_next(number, place):
    assert draw([0.0, 0.5, 0.5, 0.0], number) == place


def test_more_probability_takes_over_only_what_it_gains():
    numbers = [number_of(f"u{number}") for number in range(2_000)]
    before = [draw([0.5, 0.5], number) for number in numbers]
    after = [draw([0.4, 0.6], number) for number in numbers]
    assert {pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]} == {(0, 1)}


def test_text_that_is_no_unicode_has_a_number_too():
    assert number_of("\ud800") != number_of("\ud801")

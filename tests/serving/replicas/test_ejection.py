"""Who is left alone: outliers, never most, never the last one that answers, and nobody for what all suffer from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom

from crossfade.serving.replicas.ejection import (
    FAILURES_IN_A_ROW,
    MOST_SHARE,
    Standing,
    chance,
    ejection_seconds,
    outlier,
)


@st.composite
def sets_of_replicas(draw):
    size = draw(st.integers(1, 8))
    found = []
    for number in range(size):
        ejected = draw(st.booleans())
        batches = draw(st.integers(0, 500))
        found.append(
            Standing(
                number,
                answers=not ejected and draw(st.booleans()),
                ejected=ejected,
                failures=draw(st.integers(0, 10)),
                batches=batches,
                errors=draw(st.integers(0, batches)),
            )
        )
    return found


@given(sets_of_replicas())
def test_somebody_else_always_answers_and_at_most_half_are_left_alone(standings):
    number = outlier(standings)
    if number is None:
        return
    assert any(standing.answers for standing in standings if standing.number != number)
    assert not standings[number].ejected
    assert 1 + sum(standing.ejected for standing in standings) <= MOST_SHARE * len(standings)


@given(sets_of_replicas(), st.integers(0, 500), st.integers(0, 500))
def test_errors_that_all_have_alike_are_nobodys(standings, batches, errors):
    alike = [Standing(each.number, each.answers, each.ejected, 0, batches, min(errors, batches)) for each in standings]
    assert outlier(alike) is None


@given(sets_of_replicas())
def test_it_decides_alike_whatever_the_order(standings):
    assert outlier(standings) == outlier(standings[::-1])


def test_failures_in_a_row_are_enough():
    fine = Standing(1, answers=True)
    assert outlier([Standing(0, True, failures=FAILURES_IN_A_ROW - 1), fine]) is None
    assert outlier([Standing(0, True, failures=FAILURES_IN_A_ROW), fine]) == 0
    assert outlier([Standing(0, False, failures=FAILURES_IN_A_ROW), fine]) == 0, "it need not answer to be an outlier"


def test_a_rate_far_above_that_of_the_others_is_one():
    few, many = Standing(0, True, batches=500, errors=10), Standing(1, True, batches=500, errors=90)
    assert outlier([few, many]) == 1
    assert outlier([few, Standing(1, True, batches=500, errors=40)]) is None, "6 % more are no ten"


def failing(errors, others_batches, others=3):
    """Return a set of which the first replica always fails, and the others never."""
    fine = [Standing(number, True, batches=others_batches) for number in range(1, others + 1)]
    return [Standing(0, True, batches=errors, errors=errors), *fine]


def test_who_always_fails_is_found_after_a_few_requests_however_slowly_they_come():
    assert outlier(failing(6, 6)) is None
    assert outlier(failing(7, 7)) == 0
    assert outlier(failing(11, 11, others=1)) is None
    assert outlier(failing(12, 12, others=1)) == 0
    assert outlier(failing(100, 0)) is None, "nobody to compare it with"


@given(st.integers(1, 300), st.integers(1, 300), st.data())
def test_the_chance_is_that_of_fishers_exact_test(batches, others_batches, data):
    errors, others_errors = (data.draw(st.integers(0, most)) for most in (batches, others_batches))
    exact = hypergeom.sf(errors - 1, batches + others_batches, errors + others_errors, batches)
    assert chance(errors, batches, others_errors, others_batches) == pytest.approx(exact, rel=1e-7, abs=1e-300)


def test_of_two_outliers_the_worse_goes_first_and_then_nobody():
    replicas = [Standing(0, True, failures=5), Standing(1, True, failures=9), Standing(2, True), Standing(3, True)]
    assert outlier(replicas) == 1
    left = [replicas[0], Standing(1, False, True, 9), *replicas[2:]]
    assert outlier(left) == 0
    assert outlier([Standing(0, False, True), Standing(1, False, True), Standing(2, True, failures=9)]) is None


def test_each_time_takes_longer_up_to_five_minutes():
    seconds = [ejection_seconds(times) for times in range(1, 20)]
    assert seconds == sorted(seconds)
    assert (seconds[0], seconds[-1]) == (30.0, 300.0)

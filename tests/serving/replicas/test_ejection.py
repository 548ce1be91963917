"""Who is left alone: outliers, never most, never the last one that answers, and nobody for what all suffer from."""

from hypothesis import given
from hypothesis import strategies as st

from crossfade.serving.replicas.ejection import (
    FAILURES_IN_A_ROW,
    LEAST_REQUESTS,
    MOST_SHARE,
    Standing,
    ejection_seconds,
    outlier,
)


@st.composite
def sets_of_replicas(draw):
    size = draw(st.integers(1, 8))
    found = []
    for number in range(size):
        ejected = draw(st.booleans())
        requests = draw(st.integers(0, 500))
        found.append(
            Standing(
                number,
                answers=not ejected and draw(st.booleans()),
                ejected=ejected,
                failures=draw(st.integers(0, 10)),
                requests=requests,
                errors=draw(st.integers(0, requests)),
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
def test_errors_that_all_have_alike_are_nobodys(standings, requests, errors):
    alike = [
        Standing(each.number, each.answers, each.ejected, 0, requests, min(errors, requests)) for each in standings
    ]
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
    few, many = Standing(0, True, requests=500, errors=10), Standing(1, True, requests=500, errors=90)
    assert outlier([few, many]) == 1
    assert outlier([few, Standing(1, True, requests=500, errors=40)]) is None, "6 % more are no ten"
    assert outlier([few, Standing(1, True, requests=LEAST_REQUESTS - 1, errors=49)]) is None, "too few to say"


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

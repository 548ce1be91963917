"""A breaker stops asking what keeps failing, and finds out by single probes when it is back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.breaker import Breaker, BreakerState
from tests.storage.support import FakeTime

FAILURES, REST = 3, 5.0


@pytest.fixture
def time():
    return FakeTime()


@pytest.fixture
def breaker(time):
    return Breaker(failures=FAILURES, rest_seconds=REST, monotonic=time)


def fail(breaker, times=FAILURES):
    for _ in range(times):
        breaker.fail()


def test_at_first_everything_passes(breaker):
    assert breaker.state is BreakerState.CLOSED
    assert all(breaker.allows() for _ in range(100))


def test_too_many_failures_in_a_row_open_it(breaker):
    fail(breaker, FAILURES - 1)
    assert breaker.allows()
    breaker.fail()
    assert breaker.state is BreakerState.OPEN
    assert not breaker.allows()


def test_a_success_in_between_forgets_the_failures(breaker):
    fail(breaker, FAILURES - 1)
    breaker.succeed()
    fail(breaker, FAILURES - 1)
    assert breaker.allows()


def test_after_a_rest_one_probe_passes(breaker, time):
    fail(breaker)
    time.now += REST - 0.01
    assert not breaker.allows()
    time.now += 0.01
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    assert breaker.state is BreakerState.HALF_OPEN


def test_a_probe_that_succeeds_closes_it(breaker, time):
    fail(breaker)
    time.now += REST
    assert breaker.allows()
    breaker.succeed()
    assert breaker.state is BreakerState.CLOSED
    fail(breaker, FAILURES - 1)
    assert breaker.allows(), "it has forgotten everything"


def test_a_probe_that_fails_opens_it_for_another_rest(breaker, time):
    fail(breaker)
    time.now += REST
    assert breaker.allows()
    breaker.fail()
    assert breaker.state is BreakerState.OPEN
    time.now += REST - 0.01
    assert not breaker.allows()
    time.now += 0.01
    assert breaker.allows()


def test_a_probe_that_never_reports_is_followed_by_another(breaker, time):
    fail(breaker)
    time.now += REST
    assert breaker.allows()
    time.now += REST
    assert [breaker.allows() for _ in range(2)] == [True, False]


@given(st.lists(st.sampled_from(["fail", "succeed", "wait", "ask"]), max_size=60))
def test_it_never_stays_open_longer_than_a_rest_and_never_passes_much_while_it_fails(steps):
    time = FakeTime()
    breaker = Breaker(failures=FAILURES, rest_seconds=REST, monotonic=time)
    in_a_row = 0
    for step in steps:
        if step == "fail":
            breaker.fail()
            in_a_row += 1
        elif step == "succeed":
            breaker.succeed()
            in_a_row = 0
        elif step == "wait":
            time.now += REST
        else:
            passed = breaker.allows()
            assert passed or in_a_row >= FAILURES
            assert not (breaker.allows() and in_a_row >= FAILURES), "at most one at a time"
    time.now += REST
    assert breaker.allows()

"""One process at a time holds a lease, and whoever lost it can write nothing that depends on it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossfade.storage.lease import Lease, LostLeaseError

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """A clock that is moved by hand."""

    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def holds(database, lease):
    """Tell whether a write that depends on the lease goes through."""
    try:
        with database.write() as connection:
            lease.check(connection)
    except LostLeaseError:
        return False
    return True


def test_the_first_one_gets_it_and_keeps_it(database, clock):
    first, second = (Lease(database, "experiments", 30, clock) for _ in range(2))
    assert first.hold()
    assert not second.hold()
    clock.now += timedelta(seconds=29)
    assert first.hold()
    clock.now += timedelta(seconds=29)
    assert not second.hold()
    assert first.epoch == 1
    assert holds(database, first)
    assert not holds(database, second)


def test_whoever_is_silent_loses_it_and_can_write_nothing_any_more(database, clock):
    first, second = (Lease(database, "experiments", 30, clock) for _ in range(2))
    assert first.hold()
    clock.now += timedelta(seconds=30)
    assert second.hold()
    assert second.epoch == 2
    assert not holds(database, first)
    assert holds(database, second)
    assert not first.hold()


def test_its_own_late_holder_may_go_on_while_nobody_took_it(database, clock):
    lease = Lease(database, "experiments", 30, clock)
    assert lease.hold()
    clock.now += timedelta(hours=1)
    assert holds(database, lease)  # nobody else has written anything that it could contradict
    assert lease.hold()
    assert lease.epoch == 1


def test_a_clock_that_jumps_back_takes_it_from_nobody(database, clock):
    first, second = (Lease(database, "experiments", 30, clock) for _ in range(2))
    assert first.hold()
    clock.now -= timedelta(days=1)
    assert not second.hold()
    assert first.hold()
    assert holds(database, first)


def test_one_whose_clock_was_ahead_keeps_it_for_no_longer_than_others(database, clock):
    ahead = Clock()
    ahead.now += timedelta(hours=1)
    first, second = Lease(database, "experiments", 30, ahead), Lease(database, "experiments", 30, clock)
    assert first.hold()
    for _ in range(3):  # it is kept, so nobody takes it
        assert not second.hold()
        clock.now += timedelta(seconds=29)
        ahead.now += timedelta(seconds=29)
        assert first.hold()
    assert not second.hold()
    clock.now += timedelta(seconds=30)
    assert second.hold()
    assert not holds(database, first)


def test_released_it_is_free_at_once(database, clock):
    first, second = (Lease(database, "experiments", 30, clock) for _ in range(2))
    assert first.hold()
    second.release()  # not its own: changes nothing
    assert not second.hold()
    first.release()
    assert second.hold()
    assert not holds(database, first)


def test_leases_of_different_names_have_nothing_to_do_with_each_other(database, clock):
    assert Lease(database, "a", 30, clock).hold()
    assert Lease(database, "b", 30, clock).hold()


def test_what_nobody_ever_held_cannot_be_checked(database, clock):
    assert not holds(database, Lease(database, "experiments", 30, clock))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["hold", "release", "wait", "write"])), max_size=30))
def test_at_most_one_can_write_at_any_time(sqlite, steps):
    clock = Clock()
    name = f"lease-{id(steps)}-{len(steps)}"
    leases = [Lease(sqlite, name, 30, clock) for _ in range(3)]
    newest = 0
    for who, what in steps:
        if what == "wait":
            clock.now += timedelta(seconds=20)
        elif what == "write":
            writers = [lease for lease in leases if holds(sqlite, lease)]
            assert len(writers) <= 1
        elif what == "hold" and leases[who].hold():
            assert leases[who].epoch >= newest
            newest = leases[who].epoch
        elif what == "release":
            leases[who].release()


def test_it_is_kept_when_a_third_has_gone_by(database, clock):
    first, second = (Lease(database, "experiments", 30, clock) for _ in range(2))
    assert not holds(database, first)
    assert first.keep()
    clock.now += timedelta(seconds=11)
    assert first.keep()
    clock.now += timedelta(seconds=20)
    assert not second.keep()
    clock.now += timedelta(seconds=30)
    assert second.keep()
    assert not first.keep()

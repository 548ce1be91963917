"""The bytes of large bodies that a process holds."""

import pytest

from crossfade.errors import BodiesBusyError
from crossfade.settings import HttpSettings
from crossfade.web.budget import SMALL_BODY_BYTES, BodyBudget


@pytest.fixture
def budget():
    return BodyBudget(HttpSettings(max_inflight_body_bytes=1_000_000, max_body_bytes=1000))


def test_small_bodies_are_not_counted(budget):
    budget.grow(0, SMALL_BODY_BYTES)
    assert budget.held_bytes == 0
    budget.release(SMALL_BODY_BYTES)
    assert budget.held_bytes == 0


def test_a_body_counts_whole_once_it_is_large(budget):
    budget.grow(0, SMALL_BODY_BYTES)
    budget.grow(SMALL_BODY_BYTES, SMALL_BODY_BYTES + 1)
    assert budget.held_bytes == SMALL_BODY_BYTES + 1


def test_a_body_that_shrinks_leaves_room(budget):
    budget.grow(0, 900_000)
    budget.grow(900_000, 100)
    assert budget.held_bytes == 0


def test_what_does_not_fit_changes_nothing(budget):
    budget.grow(0, 900_000)
    with pytest.raises(BodiesBusyError, match="1000000 bytes"):
        budget.grow(0, 100_001)
    assert budget.held_bytes == 900_000
    budget.grow(0, 100_000)


def test_one_of_the_largest_bodies_always_fits():
    BodyBudget(HttpSettings(max_inflight_body_bytes=1, max_body_bytes=10**9)).grow(0, 10**9)

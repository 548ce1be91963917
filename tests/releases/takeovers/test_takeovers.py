"""A sample of `make takeovers`: real processes, on both databases."""

import pytest

from tests.releases.takeovers.campaign import Case, postgres, sqlite, strike
from tests.releases.takeovers.children import Strike


@pytest.fixture(scope="module")
def files():
    with sqlite() as home:
        yield home


@pytest.fixture(scope="module")
def server(postgres_server):
    with postgres(postgres_server) as home:
        yield home


@pytest.mark.parametrize(("truth", "place", "fault"), [("bad", 8, "KILL"), ("good", 10, "STOP")])
def test_whoever_takes_over_ends_the_rollout_as_it_should_on_files(files, truth, place, fault):
    outcome = strike(files, Case(truth, Strike(place, fault)))
    assert (outcome.struck, outcome.problem) == (True, "")


def test_whoever_takes_over_ends_the_rollout_as_it_should_on_a_server(server):
    outcome = strike(server, Case("bad", Strike(7, "STOP")))
    assert (outcome.struck, outcome.problem) == (True, "")


def test_a_place_beyond_the_end_strikes_nobody(files):
    outcome = strike(files, Case("bad", Strike(10_000)))
    assert (outcome.struck, outcome.taken_over, outcome.problem) == (False, False, "")

"""A sample of `make simulate`, and the proof that its oracle notices what it should."""

import pytest

from tests.releases.simulation.campaign import caught, live, shrink
from tests.releases.simulation.mutations import MUTATIONS
from tests.releases.simulation.scenario import Happening, Scenario, draw

SEEDS, AT_ONCE = 300, 50


@pytest.mark.parametrize(
    "first", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(AT_ONCE, SEEDS, AT_ONCE))]
)
def test_whatever_happens_no_promise_breaks_and_every_rollout_ends_or_waits_for_a_person(first):
    broken = {}
    for seed in range(first, first + AT_ONCE):
        outcome = live(draw(seed))
        if outcome.problem:
            broken[seed] = outcome.problem
            print("\n".join(shrink(outcome).trace))
    assert broken == {}


CATCHING = {
    "the lease is not checked": 240,
    "`seen` is not compared": 15,
    "nobody is ever behind": 2,
    "who follows models follows configs": 209,
    "everybody is always ready": 3,
    "somebody always lives": 4,
    "readers of a config are not told": 2,
    "units of a config are drawn anew": 2,
    "units that read a config do not count": 29,
    "a bad config stays approved": 14,
}
"""A few of the mistakes, with the first seed that notices each; `make simulate ARGS=--mutations` tries them all."""


@pytest.mark.parametrize("mutation", CATCHING)
def test_the_oracle_notices_a_deliberate_mistake(mutation):
    assert caught(mutation, 1, CATCHING[mutation]) is not None
    assert live(draw(CATCHING[mutation])).problem == ""


def test_the_oracle_notices_that_a_persons_choice_is_overlooked():
    """It takes a pause between two reads and a person in just that moment, which hardly any seed draws."""
    pause, choice = Happening(4, "pause", who=1, place=8, amount=2), Happening(5, "person", what="move 1.0.2")
    scenario = Scenario(0, "model", "blind", "good", 2, (pause, choice))
    with MUTATIONS["the subject is not confirmed"]():
        assert "past the choice of 1.0.2" in live(scenario).problem
    assert live(scenario).problem == ""


def test_a_life_that_goes_wrong_goes_wrong_again_and_with_less(monkeypatch):
    with MUTATIONS["failures pass"]():
        first = caught("failures pass", 100)
        assert first is not None
        assert live(first.scenario) == first
        least = shrink(first)
    assert least.problem == first.problem
    assert len(least.scenario.happenings) <= len(first.scenario.happenings)


def test_a_seed_draws_the_same_life_every_time():
    assert draw(7) == draw(7)
    assert live(draw(7)) == live(draw(7))

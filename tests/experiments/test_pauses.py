"""How long experiments were paused."""

from datetime import timedelta

import pytest

from crossfade.experiments.analysis_spec import DecisionSpec
from crossfade.experiments.judging import Judge
from crossfade.experiments.pauses import paused_seconds
from crossfade.experiments.spec import ExperimentSpec, Variant
from tests.experiments.bandits import START


@pytest.fixture
def late(casino):
    """An experiment of the casino, which has a clock that stands still."""
    spec = ExperimentSpec(
        "late", (Variant("old", 0.5), Variant("new", 0.5)), decision=DecisionSpec(minimum_runtime_seconds=100.0)
    )
    casino.begin(spec)
    return casino


def paused(casino, until=10**6, name="late", begun=0):
    with casino.database.read() as connection:
        return paused_seconds(connection, name, *(START + timedelta(seconds=at) for at in (begun, until)))


def test_what_was_never_paused_ran_all_the_time(late):
    late.wait(50)
    assert paused(late) == 0


def test_all_pauses_count_and_one_that_goes_on_until_now(late):
    for running, standing in ((10, 5), (20, 7)):
        late.wait(running)
        late.store.pause("late")
        late.wait(standing)
        late.store.start("late")
    assert paused(late) == 12
    late.wait(1)
    late.store.pause("late")
    assert paused(late, until=43 + 30) == 12 + 30


def test_a_pause_ends_with_the_experiment(late):
    late.wait(10)
    late.store.pause("late")
    late.wait(5)
    late.store.stop("late", reason="enough")
    assert paused(late) == 5
    assert paused(late, until=12) == 2
    assert paused(late, until=8) == 0


def test_what_was_paused_before_anybody_could_take_part_does_not_count(late):
    late.wait(10)
    late.store.pause("late")
    late.wait(5)
    late.store.start("late")
    assert [paused(late, begun=begun) for begun in (5, 12, 20)] == [5, 3, 0]


def test_pauses_of_others_are_none(late):
    late.begin(ExperimentSpec("other", (Variant("old", 0.5), Variant("new", 0.5))))
    late.store.pause("other")
    late.wait(10)
    assert (paused(late), paused(late, 10, "other")) == (0, 10)


def test_an_analysis_knows_of_them(late):
    judge = Judge(late.store, late.database, None, late.clock)
    late.play("old", 200, 200, name="late")
    late.play("new", 200, 200, name="late")
    late.wait(60)
    late.store.pause("late")
    late.wait(300)
    late.store.start("late")
    late.wait(10)
    decision = judge.analyze("late").decision
    assert (decision.missing_seconds, decision.reason) == (
        30,
        "it has run for 70 seconds, and 100 seconds without pauses are the least",
    )

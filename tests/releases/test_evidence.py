"""What may count for a rollout, and what must not: no comparison, no promotion."""

import pytest

from crossfade.errors import InvalidPlanError, RolloutConflictError
from crossfade.releases.plan import RolloutPlan, Step
from crossfade.releases.requests import RolloutRequest
from crossfade.releases.rollout import RolloutStatus
from crossfade.traffic.health import PINNED, Counts
from tests.releases.life import ERRORS, answered

STEPS = (Step(0.5, hold_seconds=2, minimum_units=5), Step(1.0))
COMPARED = RolloutPlan(STEPS, checks=(ERRORS,), no_traffic_seconds=30)
ROLLING = RolloutPlan(
    (Step(0.25, hold_seconds=2), Step(0.75, hold_seconds=2), Step(1.0)), kind="rolling", no_traffic_seconds=30
)


# --- both versions have to be asked ---


def test_a_version_that_fails_alone_is_not_promoted(stage):
    """Everybody who asks gets the new version, and nobody the old one: there is nothing to compare with."""
    stage.begin(COMPARED)
    stage.reach("progressing", old=0, new=0)
    for _ in range(29):
        rollout = stage.second(old=0, new=100, new_bad=100)
        assert (rollout.status, rollout.weight) == (RolloutStatus.PROGRESSING, 0.5)
    assert "nothing to compare with: 1.0.0 was not asked" in rollout.state.words
    rollout = stage.reach("paused", old=0, new=100, new_bad=100)
    assert "has nothing to go by" in rollout.reason
    assert stage.champion == "1.0.0"


def test_as_soon_as_both_are_asked_it_is_judged(stage):
    stage.begin(COMPARED)
    stage.reach("progressing", old=0, new=0)
    stage.second(old=0, new=100, new_bad=100)
    assert stage.second(old=100, new=1).status is RolloutStatus.ROLLED_BACK


@pytest.mark.parametrize("steps", [(Step(1.0),), (Step(0.0), Step(1.0)), (Step(0.0), Step(0.1), Step(1.0))])
def test_nothing_is_compared_before_both_are_asked(steps):
    with pytest.raises(InvalidPlanError, match="step 1 makes the check `errors`, which compares, before both"):
        RolloutPlan(steps, checks=(ERRORS,)).checked()


@pytest.mark.parametrize("first", [Step(0.0, checks=()), Step(0.0, shadow=True), Step(0.01)])
def test_what_was_compared_once_may_be_checked_to_the_end(first):
    RolloutPlan((first, Step(0.1), Step(1.0)), checks=(ERRORS,)).checked()


def test_requests_that_name_the_version_are_no_evidence(stage):
    """Whoever asks `m:1.0.1` was not drawn: neither their number nor their failures count for the rollout."""
    stage.begin(COMPARED)
    stage.reach("progressing", old=0, new=0)
    for _ in range(20):
        stage.clock.advance(1)
        stage.serve(v0=answered(50), v1=Counts())
        at_us = int(stage.clock().timestamp() * 1e6) + 1
        stage.health.write("a", at_us, {1: {"m": {"1.0.1" + PINNED: Counts(requests=40, refused=40)}}})
        stage.follow()
        stage.controller.turn()
    rollout = stage.store.find("m")
    assert (rollout.status, rollout.state.requests) == (RolloutStatus.PROGRESSING, 0)
    assert stage.health.window(60, model="m", version="1.0.1").refused == 800, "people see them all the same"


# --- process by process ---


def serving(stage, *processes):
    """Let a second pass in which these processes serve; returns the rollout."""
    stage.clock.advance(1)
    for process in processes:
        stage.follow(process)
    stage.controller.turn()
    return stage.store.find("m")


@pytest.mark.parametrize(
    ("processes", "counts"), [("ab", [1, 1]), ("abc", [1, 2]), ("abcd", [1, 3]), ("abcdefgh", [2, 6])]
)
def test_one_process_is_always_left_to_compare_with(stage, processes, counts):
    stage.begin(ROLLING)
    seen = []
    while stage.store.find("m").active:
        rollout = serving(stage, *processes)
        if rollout.active and 0 < rollout.weight < 1:
            seen.append(len(rollout.state.processes))
    assert list(dict.fromkeys(seen)) == list(dict.fromkeys(counts))
    assert stage.champion == "1.0.1"


def test_of_one_process_units_get_their_part(stage):
    stage.begin(ROLLING)
    rollout = serving(stage, "a")
    rollout = serving(stage, "a")
    assert (rollout.weight, rollout.state.processes) == (0.25, ())


def test_a_process_that_is_replaced_leaves_its_part_to_another(stage):
    stage.begin(ROLLING)
    while stage.store.find("m").status is not RolloutStatus.PROGRESSING:
        serving(stage, "a", "b", "c")
    assert stage.store.find("m").state.processes == ("a",)
    stage.fleet.leave("a")
    rollout = serving(stage, "b", "c", "d")
    assert len(rollout.state.processes) == 1
    assert "a" not in rollout.state.processes
    assert rollout.state.step == 0


def test_a_person_who_goes_on_sooner_does_not_change_the_kind(stage):
    stage.begin(ROLLING)
    while stage.store.find("m").status is not RolloutStatus.PROGRESSING:
        serving(stage, "a", "b", "c", "d")
    stage.store.promote("m")
    rollout = serving(stage, "a", "b", "c", "d")
    assert (rollout.state.step, len(rollout.state.processes)) == (1, 3)


# --- time and names ---


def test_after_a_deadline_a_person_lets_it_go_on_to_the_end(stage):
    late = RolloutPlan((Step(0.5, hold_seconds=2), Step(0.8, hold_seconds=2), Step(1.0)), deadline_seconds=60)
    stage.begin(late)
    stage.reach("progressing")
    stage.clock.advance(61)
    assert "takes longer than the 60 seconds" in stage.second(old=9, new=9).reason
    stage.store.resume("m")
    assert stage.reach("completed", seconds=20, old=9, new=9).weight == 1.0


def test_a_promotion_out_of_a_deadline_is_not_paused_again(stage):
    late = RolloutPlan((Step(0.5), Step(0.8, hold_seconds=5), Step(1.0)), deadline_seconds=60)
    stage.begin(late)
    stage.reach("progressing")
    stage.clock.advance(61)
    stage.second(old=9, new=9)
    stage.store.promote("m")
    assert stage.reach("completed", seconds=20, old=9, new=9).weight == 1.0


def test_returning_from_a_return_takes_all_steps(stage):
    stage.begin()
    stage.reach("completed")
    stage.begin(version="1.0.0")
    stage.reach("completed", seconds=5)
    forward = stage.begin(version="1.0.1")
    assert (forward.fast, len(forward.plan.steps)) == (False, 3)


@pytest.mark.parametrize("name", ["", "\0", "m\0", "../m", "M", "m" * 1000, "m-1\n"])
def test_names_that_cannot_be_are_not_found(stage, name):
    from crossfade.errors import RolloutNotFoundError

    stage.begin()
    with pytest.raises(RolloutNotFoundError):
        stage.store.find(name)
    assert stage.store.list(subject=name or "x").items == ()


@pytest.mark.parametrize("version", ["\0", "1.0.1\0", "x" * 5000, "9" * 5000])
def test_versions_that_cannot_be_are_refused_in_words(stage, version):
    with pytest.raises(RolloutConflictError, match="no usable version"):
        stage.store.create(RolloutRequest("m", version, COMPARED))


def test_what_is_held_down_cannot_be_deleted(stage):
    from crossfade.errors import StillReferencedError

    stage.begin()
    stage.reach("completed")
    with pytest.raises(StillReferencedError, match="m-1"):
        stage.registry.delete("m:1.0.0", reason="no")

"""What experiments decide for is rolled out."""

import msgspec
import pytest

from crossfade.errors import ExperimentConflictError, InvalidExperimentError, LatchedError, RolloutConflictError
from crossfade.experiments.analysis_spec import SHIPPING_PLANS, DecisionSpec
from crossfade.experiments.judging import AUTO, Judge
from crossfade.experiments.record import Status
from crossfade.experiments.requests import DecideRequest
from crossfade.releases.plan import PRESETS
from crossfade.releases.shipping import Shipping
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.switch import AliasSwitch
from tests.experiments.life import open_store, plan
from tests.traffic.support import FAST, move

SHIP = DecideRequest("ship", "new", "it is better")


@pytest.fixture
def experiments(stage):
    return open_store(stage.registry, stage.clock)


@pytest.fixture
def judge(stage, experiments):
    switch = AliasSwitch(stage.registry, Fleet(stage.database, FAST, stage.clock), FAST)
    return Judge(experiments, stage.database, switch, stage.clock, Shipping(stage.store))


def run(experiments, name="late", **decision):
    experiments.create(plan(name, decision=DecisionSpec(**decision)))
    return experiments.start(name)


def test_what_is_shipped_by_plan_is_rolled_out_and_ends_the_experiment(stage, experiments, judge):
    run(experiments, plan="fast")
    decided = judge.decide("late", SHIP, principal="ann")
    assert (decided.status, decided.verdict.variant) == (Status.DECIDED, "new")
    rollout = stage.store.find("m")
    assert (rollout.candidate, rollout.active) == ("1.0.1", True)
    assert "experiment late: it is better" in rollout.reason
    assert stage.champion == "1.0.0", "not before it has shown itself"


def test_a_decision_that_was_cut_short_goes_on_at_the_next_try(stage, experiments, judge):
    run(experiments, plan="fast")
    shipping = Shipping(stage.store)
    said = {"experiment": "late", "expected": "1.0.0", "reason": "", "principal": AUTO, "dry_run": False}
    shipping.begin("m", "1.0.1", "fast", **said)  # and then the process ended
    assert judge.decide("late", SHIP, principal=AUTO).status is Status.DECIDED
    assert len(stage.store.list().items) == 1


def test_a_rehearsed_decision_begins_nothing(stage, experiments, judge):
    run(experiments, plan="fast")
    judge.decide("late", SHIP, dry_run=True)
    assert stage.store.list().items == ()
    assert experiments.find("late").status is Status.RUNNING


def test_without_a_plan_a_person_ships_at_once(stage, experiments, judge):
    run(experiments)
    stage.follow()
    stage.fleet.leave("a")
    judge.decide("late", SHIP)
    assert stage.champion == "1.0.1"
    assert stage.store.list().items == ()


def test_what_decides_by_itself_goes_through_the_controller(stage, experiments, judge):
    run(experiments)
    assert judge.decide("late", SHIP, principal=AUTO).status is Status.DECIDED
    rollout = stage.store.find("m")
    assert (rollout.candidate, rollout.status.value, stage.champion) == ("1.0.1", "preparing", "1.0.0")
    stage.follow()
    completed = stage.reach("completed", seconds=5)
    assert (stage.champion, completed.held_until is not None) == ("1.0.1", True), "the old version stays warm"
    assert stage.store.rollback("m", reason="no").status.value == "rolled_back"
    assert stage.champion == "1.0.0"


def test_a_decision_that_was_cut_short_is_kept_even_when_everybody_has_the_version(stage, experiments, judge):
    run(experiments)
    Shipping(stage.store).begin(
        "m", "1.0.1", "immediate", experiment="late", expected="1.0.0", reason="", principal=AUTO, dry_run=False
    )  # and then the process ended
    stage.reach("completed", seconds=5)
    assert judge.decide("late", SHIP, principal=AUTO).status is Status.DECIDED
    assert len(stage.store.list().items) == 1


@pytest.mark.parametrize("decision", [{}, {"plan": "fast"}])
def test_what_decides_by_itself_does_not_overrule_who_has_moved_the_champion(stage, experiments, judge, decision):
    run(experiments, **decision)
    move(stage.registry, "m", "1.0.2")
    with pytest.raises(RolloutConflictError, match=r"everybody 1\.0\.2, not 1\.0\.0 as expected"):
        judge.decide("late", SHIP, principal=AUTO)
    assert experiments.find("late").status is Status.RUNNING
    move(stage.registry, "m", "1.0.1")
    assert judge.decide("late", SHIP, principal=AUTO).status is Status.DECIDED, "everybody gets it already"


@pytest.mark.parametrize("decision", [{}, {"plan": "fast"}])
def test_what_was_rolled_back_does_not_come_again_by_itself(stage, experiments, judge, decision):
    stage.begin()
    stage.reach("rolled_back", old=90, new=10, new_bad=9)
    run(experiments, **decision)
    with pytest.raises(LatchedError) as caught:
        judge.decide("late", SHIP, principal=AUTO)
    assert "`crossfade experiments stop late --reason WHY`, then `crossfade rollouts create" in caught.value.hint
    assert experiments.find("late").status is Status.RUNNING


def test_every_plan_that_has_a_name_can_be_named_and_no_other(experiments):
    assert set(SHIPPING_PLANS) == set(PRESETS)
    with pytest.raises(InvalidExperimentError, match=r"`decision\.plan` is `reckless`, and the plans are careful"):
        run(experiments, plan="reckless")


def test_where_nothing_rolls_out_a_plan_cannot_be_followed(stage, experiments):
    run(experiments, plan="fast")
    judge = Judge(experiments, stage.database, None, stage.clock)
    with pytest.raises(ExperimentConflictError, match="nothing here rolls versions out"):
        judge.decide("late", SHIP)


def test_no_experiment_starts_while_its_model_is_rolled_out(stage, experiments):
    experiments.create(plan())
    stage.begin()
    with pytest.raises(ExperimentConflictError, match="while `m` is rolled out"):
        experiments.start("late")
    experiments.create(plan("flag", model=""))
    assert experiments.start("flag").status is Status.RUNNING


# --- what was rolled back before ---


def roll_back(stage):
    stage.begin()
    stage.reach("rolled_back", old=90, new=10, new_bad=9)
    stage.fleet.leave("a")


def test_who_compares_what_was_rolled_back_is_told_that_it_will_not_be_shipped(stage, experiments, judge):
    roll_back(stage)
    made, _ = experiments.create(plan())
    assert made.latched == {"new": "m-1"}
    started = experiments.start("late")
    assert (started.status, started.latched) == (Status.RUNNING, {"new": "m-1"})
    assert started.caution == "`new` was rolled back by `m-1`, so it is not shipped without a person's word"
    assert [each.latched for each in experiments.list().items] == [{"new": "m-1"}]
    with pytest.raises(LatchedError):
        judge.decide("late", DecideRequest("ship", "new", "it is better after all"), principal=AUTO)
    assert judge.decide("late", DecideRequest("keep")).latched == {}, "nothing will be shipped any more"


def test_a_latch_is_seen_through_an_alias_and_until_a_person_lifts_it(stage, experiments):
    roll_back(stage)
    move(stage.registry, "m", "1.0.1", alias="challenger")
    old, new = plan().variants
    for name, version in (("by-alias", "challenger"), ("with-v", "v1.0.1")):
        spec = msgspec.structs.replace(plan(name), variants=(old, msgspec.structs.replace(new, version=version)))
        made, _ = experiments.create(spec)
        assert made.latched == {"new": "m-1"}, name
    stage.store.retry("m-1", override_latch=True, reason="the sensor was broken")
    assert [each.latched for each in experiments.list().items] == [{}, {}]


def test_a_flag_has_nothing_that_could_be_latched(stage, experiments):
    roll_back(stage)
    made, _ = experiments.create(plan(model=""))
    experiments.create(plan("other"))
    assert made.latched == {}
    assert [each.latched for each in experiments.list().items] == [{"new": "m-1"}, {}]

"""What people do with rollouts."""

import contextlib

import pytest

from crossfade.errors import (
    ExperimentConflictError,
    InvalidPlanError,
    LatchedError,
    ModelNotFoundError,
    ReasonRequiredError,
    RolloutConflictError,
    RolloutNotFoundError,
    StillReferencedError,
)
from crossfade.releases.latch import ChampionLatch
from crossfade.releases.plan import RolloutPlan, Step
from crossfade.releases.requests import RolloutRequest
from crossfade.releases.rollout import RolloutStatus
from crossfade.storage.changes import verify_audit
from crossfade.storage.tables import audit
from crossfade.testing.drafts import publish
from crossfade.traffic.snapshot import SnapshotSource
from crossfade.traffic.switch import AliasSwitch
from tests.experiments.life import open_store, plan
from tests.releases.life import ERRORS, PLAN, SUBJECTS
from tests.traffic.support import FAST, move

SOON = RolloutPlan((Step(0.1, approval=True), Step(0.5), Step(1.0)), checks=(ERRORS,))


def actions(stage):
    with stage.database.read() as connection:
        rows = connection.execute(audit.select().order_by(audit.c.seq)).all()
        verify_audit(connection)
    return [row.action for row in rows if row.action.startswith("rollout.")]


def test_a_new_rollout_moves_nothing_yet(stage):
    rollout = stage.begin(reason="better recall")
    assert (rollout.stable, rollout.candidate, rollout.weight) == ("1.0.0", "1.0.1", 0.0)
    assert (rollout.reason, rollout.created_by) == ("better recall", "ann")
    assert stage.store.find("m-1") == stage.store.find("m") == rollout
    assert actions(stage) == ["rollout.create"]


def test_a_dry_run_changes_nothing(stage):
    revision = stage.database.revision()
    tried = stage.store.create(RolloutRequest("m", "1.0.1", "fast"), dry_run=True)
    assert tried.candidate == "1.0.1"
    assert stage.database.revision() == revision
    with pytest.raises(RolloutNotFoundError):
        stage.store.find("m")


def test_an_alias_means_the_version_that_it_points_to_now(stage):
    move(stage.registry, "m", "1.0.2", "challenger")
    assert stage.begin(version="challenger").candidate == "1.0.2"


@pytest.mark.parametrize(
    ("wanted", "error", "words"),
    [
        (RolloutRequest("m", "1.0.0"), RolloutConflictError, "gives everybody 1.0.0 already"),
        (RolloutRequest("m", "9.9.9"), RolloutConflictError, "no usable version `9.9.9`: there is none"),
        (RolloutRequest("other", "1.0.0"), ModelNotFoundError, "other"),
        (RolloutRequest("m", "1.0.1", "reckless"), InvalidPlanError, "no plan `reckless`"),
        (RolloutRequest("m", "1.0.1", kind="planet"), InvalidPlanError, "`planet` cannot be rolled out"),
        (RolloutRequest("m", "1.0.1", RolloutPlan(())), InvalidPlanError, "0 steps"),
    ],
)
def test_what_cannot_be_rolled_out_is_refused(stage, wanted, error, words):
    with pytest.raises(error, match=words):
        stage.store.create(wanted)


def test_one_rollout_of_a_subject_at_a_time(stage):
    stage.begin()
    with pytest.raises(RolloutConflictError, match="has rollout `m-1` under way"):
        stage.begin(version="1.0.2")


def test_a_model_without_a_champion_has_nothing_to_compare_with(stage):
    stage.registry.move_alias("m", "champion", None)
    with pytest.raises(RolloutConflictError, match="no version that answers now"):
        stage.begin()


def test_experiments_and_rollouts_do_not_share_traffic(stage):
    experiments = open_store(stage.registry, stage.clock)
    experiments.create(plan())
    experiments.start("late")
    with pytest.raises(RolloutConflictError, match="experiment `late` has its traffic") as refused:
        stage.begin()
    assert refused.value.hint == "go on with `crossfade experiments show late`"


def test_a_rejected_version_cannot_be_rolled_out(stage):
    stage.registry.transition("m:1.0.1", "rejected", reason="no")
    with pytest.raises(RolloutConflictError, match=r"no usable version `1.0.1`: it was rejected"):
        stage.begin()


def test_versions_under_way_cannot_be_deleted(stage):
    stage.begin()
    for version in ("1.0.0", "1.0.1"):
        with pytest.raises(StillReferencedError, match="m-1"):
            stage.registry.delete(f"m:{version}", reason="no")


def test_processes_are_told_at_once(stage):
    source = SnapshotSource(stage.registry.backend, stage.database, keep_previous=0)
    before = source.read(stage.database.revision())
    stage.begin()
    after = source.follow(before, stage.database.revision())
    assert [route.name for route in after.traffic.rollouts] == ["m-1"]
    assert {wish.version for wish in after.route("m").aspired} == {"1.0.0", "1.0.1"}
    stage.store.abort("m", reason="no")
    over = source.follow(after, stage.database.revision())
    assert over.traffic.rollouts == ()
    assert {wish.version for wish in over.route("m").aspired} == {"1.0.0"}


def test_the_old_version_stays_loaded_for_a_while(stage):
    source = SnapshotSource(stage.registry.backend, stage.database, keep_previous=0)
    stage.begin(RolloutPlan((Step(1.0),), hold_down_seconds=30))
    stage.reach("completed")
    held = source.read(stage.database.revision())
    assert {wish.version for wish in held.route("m").aspired} == {"1.0.0", "1.0.1"}
    assert held.traffic.rollouts == ()
    stage.clock.advance(31)
    stage.follow()
    stage.controller.turn()
    let_go = source.follow(held, stage.database.revision())
    assert {wish.version for wish in let_go.route("m").aspired} == {"1.0.1"}
    assert stage.store.attended() == ()


def test_pausing_keeps_what_there_is_and_resuming_goes_on(stage):
    stage.begin()
    stage.reach("progressing")
    paused = stage.store.pause("m", reason="lunch", principal="bob")
    assert (paused.status, paused.weight, paused.state.words) == (RolloutStatus.PAUSED, 0.1, "lunch")
    for _ in range(50):
        assert stage.second(old=90, new=10).weight == 0.1
    assert stage.store.resume("m").status is RolloutStatus.PROGRESSING
    assert stage.reach("completed").candidate == stage.champion


def test_a_paused_rollout_is_brought_back_all_the_same(stage):
    stage.begin()
    stage.reach("progressing")
    stage.store.pause("m")
    assert stage.reach("rolled_back", old=90, new=10, new_bad=9).weight == 0.0


def test_an_approval_is_waited_for_and_given_by_promoting(stage):
    stage.begin(SOON)
    waiting = stage.reach("paused")
    assert (waiting.state.waiting_for, waiting.weight) == ("approval", 0.1)
    given = stage.store.promote("m", principal="bob")
    assert (given.status, given.weight, given.state.approved) == (RolloutStatus.PROGRESSING, 0.1, 0)
    stage.reach("completed")
    kinds = [each.kind for each in stage.store.history("m")]
    assert kinds == ["step", "pause", "approve", "step", "step", "complete"]


def test_a_person_may_go_on_sooner(stage):
    stage.begin()
    with pytest.raises(RolloutConflictError, match="still being prepared"):
        stage.store.promote("m")
    stage.reach("progressing")
    assert stage.store.promote("m").weight == 0.5
    assert stage.store.promote("m", to_end=True).weight == 1.0
    assert stage.reach("completed").candidate == stage.champion


def in_last_step(stage):
    """Bring a rollout, whose last step would hold for long, to where every process follows that."""
    stage.begin(RolloutPlan((Step(0.5), Step(1.0, hold_seconds=3600))))
    stage.reach("progressing")
    stage.store.promote("m", to_end=True)
    return stage.second()


@pytest.mark.parametrize("to_end", [False, True])
def test_in_the_last_step_a_person_ends_it(stage, to_end):
    in_last_step(stage)
    done = stage.store.promote("m", to_end=to_end, expected_step=1, reason="seen enough", principal="bob")
    assert (done.status, done.reason, stage.champion) == (RolloutStatus.COMPLETED, "seen enough", "1.0.1")
    assert done.held_until is not None
    assert [each.kind for each in stage.store.history("m")] == ["step", "step", "complete"]
    assert stage.store.rollback("m").status == RolloutStatus.ROLLED_BACK


def test_nobody_ends_what_processes_have_not_followed(stage):
    stage.begin(RolloutPlan((Step(0.5), Step(1.0, hold_seconds=3600))))
    stage.reach("progressing")
    stage.store.promote("m")
    with pytest.raises(RolloutConflictError, match="have not followed"):
        stage.store.promote("m")
    assert stage.champion == "1.0.0"


def test_a_person_ends_nothing_that_was_decided_otherwise_meanwhile(stage):
    in_last_step(stage)
    move(stage.registry, "m", "1.0.2")
    with pytest.raises(RolloutConflictError, match=r"somebody moved m to 1\.0\.2"):
        stage.store.promote("m")
    move(stage.registry, "m", "1.0.0")
    stage.registry.transition("m:1.0.1", "rejected", reason="no")
    with pytest.raises(RolloutConflictError, match="gone or rejected"):
        stage.store.promote("m")
    assert stage.champion == "1.0.0"


def test_aborting_gives_everything_back_and_leaves_no_latch(stage):
    stage.begin()
    stage.reach("progressing")
    aborted = stage.store.abort("m", reason="wrong day")
    assert (aborted.status, aborted.weight, aborted.latched) == (RolloutStatus.ABORTED, 0.0, False)
    assert stage.champion == "1.0.0"
    again = stage.store.retry("m")
    assert (again.name, again.candidate, again.plan) == ("m-2", "1.0.1", PLAN)


def test_a_version_that_was_rolled_back_is_latched_until_a_person_says_otherwise(stage):
    stage.begin()
    stage.reach("rolled_back", old=90, new=10, new_bad=9)
    with pytest.raises(LatchedError, match="was rolled back by `m-1`"):
        stage.store.retry("m")
    with pytest.raises(LatchedError):
        stage.begin()
    with pytest.raises(ReasonRequiredError):
        stage.store.retry("m", override_latch=True)
    assert stage.store.retry("m", override_latch=True, reason="the sensor was broken").status is RolloutStatus.PREPARING


def test_whoever_overrides_a_latch_lifts_it(stage):
    stage.begin()
    stage.reach("rolled_back", old=90, new=10, new_bad=9)
    tried = stage.store.retry("m-1", override_latch=True, reason="the sensor was broken", dry_run=True)
    assert (tried.candidate, stage.store.find("m-1").latched) == ("1.0.1", True), "a rehearsal lifts nothing"
    stage.store.retry("m-1", override_latch=True, reason="the sensor was broken")
    assert not stage.store.find("m-1").latched
    stage.store.abort("m")
    assert stage.begin().status is RolloutStatus.PREPARING


def test_a_champion_is_not_moved_by_hand_to_what_was_rolled_back(stage):
    switch = AliasSwitch(
        stage.registry, stage.fleet, FAST, ChampionLatch(stage.database, SUBJECTS["model"], stage.clock)
    )
    stage.begin()
    stage.reach("completed")
    stage.store.rollback("m", reason="complaints")
    stage.fleet.leave("a")
    with pytest.raises(LatchedError, match="was rolled back by `m-1`: complaints"):
        switch.move("m", "champion", "1.0.1")
    assert switch.move("m", "challenger", "1.0.1").move.target == "1.0.1", "other aliases are free"
    with pytest.raises(ReasonRequiredError):
        switch.move("m", "champion", "1.0.1", override_latch=True)
    switch.move("m", "champion", "1.0.1", override_latch=True, reason="it was the sensor", dry_run=True)
    assert stage.store.find("m-1").latched
    switch.move("m", "champion", "1.0.1", override_latch=True, reason="it was the sensor", principal="ann")
    assert (stage.champion, stage.store.find("m-1").latched) == ("1.0.1", False)
    assert actions(stage)[-1] == "rollout.lift_latch"
    switch.move("m", "champion", "1.0.0")
    assert switch.move("m", "champion", "1.0.1").move.target == "1.0.1", "it may come again like any other version"


def test_what_is_latched_while_it_loads_does_not_become_champion(stage, monkeypatch):
    switch = AliasSwitch(
        stage.registry, stage.fleet, FAST, ChampionLatch(stage.database, SUBJECTS["model"], stage.clock)
    )
    stage.begin()
    stage.reach("completed")
    stage.fleet.leave("a")
    switch.move("m", "champion", "1.0.0")
    stage.begin()

    @contextlib.contextmanager
    def loading(_version, _principal):
        stage.store.rollback("m", reason="complaints")
        yield

    monkeypatch.setattr(switch._readiness, "of", loading)
    with pytest.raises(LatchedError):
        switch.move("m", "champion", "1.0.1")
    assert stage.champion == "1.0.0"


def test_a_rollout_replaces_only_what_is_expected(stage):
    with pytest.raises(RolloutConflictError, match=r"gives everybody 1\.0\.0, not 1\.0\.2 as expected"):
        stage.begin(expected="1.0.2")
    assert stage.begin(expected="1.0.0").stable == "1.0.0"


def test_the_same_word_said_twice_goes_one_step(stage):
    stage.begin()
    stage.reach("progressing")
    assert stage.store.promote("m", expected_step=0).state.step == 1
    with pytest.raises(RolloutConflictError, match="is in step 1, not in step 0"):
        stage.store.promote("m", expected_step=0)
    assert stage.store.find("m").state.step == 1


def test_returning_after_the_end_points_back_and_happens_once(stage):
    stage.begin()
    stage.reach("completed")
    assert stage.champion == "1.0.1"
    back = stage.store.rollback("m", reason="complaints")
    assert (back.status, back.latched, stage.champion) == (RolloutStatus.ROLLED_BACK, True, "1.0.0")
    with pytest.raises(RolloutConflictError, match="is rolled_back, so it is over"):
        stage.store.rollback("m")


def test_returning_does_not_undo_what_somebody_did_since(stage):
    stage.begin()
    stage.reach("completed")
    move(stage.registry, "m", "1.0.2")
    with pytest.raises(RolloutConflictError, match="since"):
        stage.store.rollback("m")
    assert stage.champion == "1.0.2"


def test_a_version_that_was_champion_a_moment_ago_comes_back_in_one_step(stage):
    stage.begin()
    stage.reach("completed")
    back = stage.begin(version="1.0.0")
    assert back.fast
    assert len(back.plan.steps) == 1
    assert stage.reach("completed", seconds=3).candidate == stage.champion == "1.0.0"


def test_after_the_window_it_takes_all_steps(stage):
    stage.begin()
    stage.reach("completed")
    stage.clock.advance(PLAN.fast_rollback_seconds + 1)
    back = stage.begin(version="1.0.0")
    assert (back.fast, len(back.plan.steps)) == (False, 3)


def test_a_champion_that_somebody_moves_ends_the_rollout(stage):
    stage.begin()
    stage.reach("progressing")
    move(stage.registry, "m", "1.0.2")
    ended = stage.reach("aborted")
    assert "somebody moved m to 1.0.2" in ended.reason
    assert stage.champion == "1.0.2"


def test_a_version_that_is_rejected_meanwhile_is_brought_back(stage):
    stage.begin()
    stage.reach("progressing")
    stage.registry.transition("m:1.0.1", "rejected", reason="found something")
    assert "gone or rejected" in stage.reach("rolled_back").reason


def test_every_verb_is_refused_when_it_is_over(stage):
    stage.begin()
    stage.store.abort("m")
    for verb in (stage.store.pause, stage.store.resume, stage.store.promote, stage.store.abort, stage.store.rollback):
        with pytest.raises(RolloutConflictError, match="so it is over"):
            verb("m")


@pytest.mark.parametrize("verb", ["pause", "promote", "abort", "rollback"])
def test_a_rehearsed_verb_changes_nothing(stage, verb):
    stage.begin()
    before = stage.reach("progressing")
    getattr(stage.store, verb)("m", dry_run=True)
    assert stage.store.find("m") == before


def test_rollouts_are_listed_newest_first_page_by_page(stage):
    for number in range(3):
        stage.begin()
        if number < 2:
            stage.store.abort("m")
    page = stage.store.list(limit=2)
    assert [item.name for item in page.items] == ["m-3", "m-2"]
    assert [item.name for item in stage.store.list(cursor=page.next_cursor).items] == ["m-1"]
    assert [item.name for item in stage.store.list(status="aborted").items] == ["m-2", "m-1"]
    assert stage.store.list(subject="other").items == ()


def test_history_of_an_unknown_rollout(stage):
    with pytest.raises(RolloutNotFoundError, match="nothing-1"):
        stage.store.history("nothing-1")


def champions(stage, *names):
    for name in names:
        for version in ("1.0.0", "1.0.1"):
            publish(stage.registry.backend, name, version)
        stage.registry.move_alias(name, "champion", "1.0.0")


def test_a_rollout_is_not_called_like_a_model(stage):
    champions(stage, "m-1", "m-3")
    for name in ("m-2", "m-4", "m-5"):
        assert stage.begin().name == name
        stage.store.abort(name)


def test_experiments_and_rollouts_never_share_a_name(stage):
    """Outcomes name either, and the ledger keeps what is measured of both."""
    experiments = open_store(stage.registry)
    experiments.create(plan(name="m-1"))
    assert stage.begin().name == "m-2"
    with pytest.raises(ExperimentConflictError, match="is a rollout's name"):
        experiments.create(plan(name="m-2"))


def test_a_name_that_may_mean_two_rollouts_moves_none(stage):
    stage.begin()
    champions(stage, "m-1")
    assert stage.store.find("m-1").subject == "m", "the model has no rollout"
    other = stage.store.create(RolloutRequest("m-1", "1.0.1"))
    words = f"is a rollout of `m` and a model; say which rollout: `rollout:m-1` or `{other.name}`"
    for verb in (stage.store.find, stage.store.history, stage.store.abort, stage.store.rollback, stage.store.promote):
        with pytest.raises(RolloutConflictError, match=words):
            verb("m-1")
    assert stage.store.find("m").active
    assert stage.store.abort(other.name).subject == "m-1"
    assert stage.store.abort("rollout:m-1").subject == "m"
    with pytest.raises(RolloutNotFoundError):
        stage.store.find("rollout:m")


def test_the_controller_takes_a_rollout_by_its_own_name(stage):
    stage.begin()
    champions(stage, "m-1")
    stage.store.abort(stage.store.create(RolloutRequest("m-1", "1.0.1")).name)
    for _ in range(3):
        after = stage.second(old=90, new=10)
    assert (after.name, after.status) == ("m-1", RolloutStatus.PROGRESSING)


def test_a_long_name_still_gives_names_that_differ(stage, tmp_path):
    name = "m" * 64
    for version in ("1.0.0", "1.0.1"):
        publish(stage.registry.backend, name, version)
    stage.registry.move_alias(name, "champion", "1.0.0")
    first = stage.store.create(RolloutRequest(name, "1.0.1"))
    stage.store.abort(first.name)
    second = stage.store.create(RolloutRequest(name, "1.0.1"))
    assert len(first.name) <= 64
    assert first.name != second.name

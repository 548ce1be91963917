"""What the simulation has found: who decides by what is no longer true changes nothing, and nothing is left behind."""

import threading

import pytest

from crossfade.releases.checks.questions import Questions
from crossfade.releases.checks.spec import ErrorRateCheck, ThresholdCheck, WebhookCheck
from crossfade.releases.plan import RolloutPlan, Step, preset
from crossfade.releases.rollout import RolloutStatus
from crossfade.traffic.health import Counts
from tests.releases.life import PLAN, answered
from tests.traffic.support import FAST, eventually, move

AT_ONCE = RolloutPlan((Step(0.5), Step(1.0)))


@pytest.fixture
def meanwhile(stage, monkeypatch):
    """Let something happen after the controller has looked around, and before it writes."""

    def happen(act):
        of = stage.controller._surroundings.of

        def look(*args):
            monkeypatch.undo()
            found = of(*args)
            act()
            return found

        monkeypatch.setattr(stage.controller._surroundings, "of", look)

    return happen


def test_without_a_live_process_nothing_goes_on(stage):
    stage.begin(AT_ONCE)
    stage.clock.advance(3 * FAST.heartbeat_seconds)
    stage.controller.turn()
    rollout = stage.store.find("m")
    assert (rollout.status, rollout.state.words) == (RolloutStatus.PREPARING, "no process that serves is heard of")
    stage.second()
    stage.clock.advance(3 * FAST.heartbeat_seconds)
    stage.controller.turn()
    rollout = stage.store.find("m")
    assert (rollout.weight, rollout.state.live_at) == (0.5, None)
    assert rollout.state.words == "no process that serves is heard of"
    for _ in range(4):
        rollout = stage.second()
    assert rollout.status is RolloutStatus.COMPLETED


def test_a_champion_that_somebody_moves_in_the_last_moment_stays_where_it_is(stage, meanwhile):
    stage.begin(AT_ONCE)
    while stage.store.find("m").weight < 1:
        stage.second()
    meanwhile(lambda: move(stage.registry, "m", "1.0.2"))
    rollout = stage.second()
    assert (rollout.status, stage.champion) == (RolloutStatus.PROGRESSING, "1.0.2")
    rollout = stage.second()
    assert (rollout.status, stage.champion) == (RolloutStatus.ABORTED, "1.0.2")
    assert rollout.reason == "somebody moved m to 1.0.2 meanwhile"


def test_a_version_that_is_rejected_in_the_last_moment_gets_no_further_step(stage, meanwhile):
    stage.begin(PLAN)
    meanwhile(lambda: stage.registry.transition("m:1.0.1", "rejected"))
    assert stage.second().weight == 0
    rollout = stage.second()
    assert (rollout.status, rollout.weight) == (RolloutStatus.ROLLED_BACK, 0)


def test_a_rollout_that_cannot_be_attended_to_waits_for_a_person(stage):
    stage.begin()
    stage.reach("progressing")
    for _ in range(5):
        assert stage.store.find("m").status is RolloutStatus.PROGRESSING
        stage.clock.advance(1)
        stage.serve(v0=Counts(requests=1), v1=Counts(requests=5, errors=-1))
        stage.follow()
        stage.controller.turn()
    rollout = stage.store.find("m")
    assert (rollout.status, rollout.state.waiting_for) == (RolloutStatus.PAUSED, "person")
    assert rollout.reason.startswith("it cannot be attended to: ")
    assert stage.store.abort("m").status is RolloutStatus.ABORTED


def test_more_failures_than_requests_are_counted_as_failures(stage):
    stage.begin()
    stage.reach("progressing")
    stage.clock.advance(1)
    stage.serve(v0=answered(50), v1=Counts(requests=50, errors=53))
    stage.follow()
    stage.controller.turn()
    assert stage.store.find("m").status is RolloutStatus.ROLLED_BACK


def test_times_that_a_clock_wrote_that_was_ahead_delay_nothing(stage):
    limit = ThresholdCheck("limit", series="error_rate", maximum=0.5, interval_seconds=5)
    stage.begin(RolloutPlan((Step(0.5, hold_seconds=10), Step(1.0)), checks=(limit,)))
    stage.clock.advance(3600)
    for _ in range(3):
        stage.second(old=10, new=10)
    assert stage.store.find("m").state.live_at is not None
    stage.clock.advance(-3600)
    for _ in range(16):
        rollout = stage.second(old=10, new=10)
    assert rollout.status is RolloutStatus.COMPLETED


def test_a_return_that_is_retried_too_late_takes_all_steps(stage):
    stage.begin(AT_ONCE)
    stage.reach("completed")
    assert stage.begin(AT_ONCE, "1.0.0").fast
    stage.store.abort("m")
    assert stage.store.retry("m").fast
    stage.store.abort("m")
    stage.clock.advance(2 * AT_ONCE.fast_rollback_seconds)
    late = stage.store.retry("m")
    assert (late.fast, late.plan) == (False, preset("careful"))


def test_a_margin_is_shown_until_the_end_of_a_step_and_only_then_decides_nothing(stage):
    shown = ErrorRateCheck("errors", events=("errors",), margin=1.0)
    stage.begin(RolloutPlan((Step(0.5, hold_seconds=20), Step(1.0, checks=())), checks=(shown,)))
    for _ in range(15):
        rollout = stage.second(old=50, new=50, old_bad=1, new_bad=1)
        assert rollout.status in {RolloutStatus.PREPARING, RolloutStatus.PROGRESSING}
    assert "not shown yet" in rollout.check_state(shown).last.reason
    rollout = stage.reach("paused", seconds=10, old=50, new=50, old_bad=1, new_bad=1)
    assert "check `errors` decides nothing: it is not shown yet" in rollout.reason


def test_what_has_been_paused_while_it_was_loaded_is_waited_for_anew(stage):
    stage.slots = {}
    stage.begin(AT_ONCE)
    stage.store.pause("m")
    stage.clock.advance(1000)
    stage.store.resume("m")
    assert stage.second().status is RolloutStatus.PREPARING
    stage.clock.advance(121)
    assert stage.second().status is RolloutStatus.ABORTED


class Hanging:
    """Services that do not answer for as long as a test wants."""

    def __init__(self):
        self.asked, self.answering = [], threading.Event()

    def ask(self, url, event):
        self.asked.append(url)
        self.answering.wait(30)
        return {"result": "pass", "reason": "fine"}


def test_services_that_hang_do_not_cost_the_lease(stage):
    services = Hanging()
    first, second = (stage.new_controller(webhooks=services, questions=Questions(0.01)) for _ in range(2))
    checks = tuple(WebhookCheck(name, f"https://{name}.example.org") for name in ("one", "two", "three"))
    stage.begin(RolloutPlan((Step(0.5), Step(1.0, checks=())), checks=checks))

    def turn(seconds=0):
        stage.clock.advance(seconds)
        for controller in (first, second):
            stage.follow()
            controller.turn()
        return stage.store.find("m").status

    for _ in range(20):
        assert turn(1) in {RolloutStatus.PREPARING, RolloutStatus.PROGRESSING}
    services.answering.set()
    eventually(lambda: turn() is RolloutStatus.COMPLETED)
    assert sorted(services.asked) == sorted(check.url for check in checks)
    assert second._lease.epoch == 0

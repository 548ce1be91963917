"""What happens next, in every situation."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from crossfade.releases.checks.phase import CheckCounts, CheckResult, Measurement
from crossfade.releases.checks.spec import ErrorRateCheck
from crossfade.releases.plan import RolloutPlan, Step
from crossfade.releases.policy import Abort, Complete, Enter, Pause, RollBack, Situation, Wait, next_action
from crossfade.releases.rollout import (
    ACTIVE,
    UNITS,
    CheckState,
    Rollout,
    RolloutEvidence,
    RolloutState,
    RolloutStatus,
)

START = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
PLAN = RolloutPlan(
    (Step(0.1, hold_seconds=60, minimum_units=100), Step(0.5, hold_seconds=60, approval=True), Step(1.0)),
    checks=(ErrorRateCheck("errors"),),
    deadline_seconds=3600,
    no_traffic_seconds=300,
)
PASSED = CheckState(CheckCounts().count(CheckResult.PASS), Measurement(CheckResult.PASS, "fine"), START)


def checked(result, times=1):
    counts = CheckCounts()
    for _ in range(times):
        counts = counts.count(result)
    return {"errors": CheckState(counts, Measurement(result, "because of a test"), START)}


def rollout(status=RolloutStatus.PROGRESSING, plan=PLAN, **state):
    known = {
        "step": 0,
        "revision": 7,
        "entered_at": START,
        "live_at": START,
        "requests": 100,
        "asked_at": START,
        "checks": {"errors": PASSED},
    }
    return Rollout(
        "m-1",
        "model",
        "m",
        status,
        plan,
        RolloutState(**(known | state)),
        "1.0.0",
        "1.0.1",
        "digest",
        0.1,
        False,
        False,
        "",
        RolloutEvidence(),
        0,
        START,
        "ann",
    )


def seen(seconds=60, **facts):
    known = {"processes": ("a", "b"), "stable": "1.0.0"} | facts
    return Situation(START + timedelta(seconds=seconds), **known)


def preparing(**state):
    return rollout(RolloutStatus.PREPARING, step=-1, live_at=None, requests=0, checks={}, asked_at=None, **state)


def test_a_version_that_is_ready_everywhere_gets_its_first_step():
    assert next_action(preparing(), seen()) == Enter(0, "version 1.0.1 is ready")


@pytest.mark.parametrize(
    ("facts", "action"),
    [
        ({"ready": False}, Wait("version 1.0.1 is being loaded by 2 processes")),
        ({"behind": ("b",)}, Wait("version 1.0.1 is being loaded by 2 processes")),
        ({"ready": False, "problem": "it is broken"}, Abort("version 1.0.1 cannot be loaded: it is broken")),
        ({"ready": False, "seconds": 121}, Abort("version 1.0.1 was not ready everywhere within 120 seconds")),
    ],
)
def test_a_version_that_is_not_ready_gets_nothing(facts, action):
    assert next_action(preparing(), seen(**facts)) == action


def test_a_step_that_lacks_nothing_leads_to_the_next():
    assert next_action(rollout(), seen()) == Enter(1, "step 1 passed")


@pytest.mark.parametrize(
    ("state", "facts", "words"),
    [
        ({}, {"seconds": 59}, "holds for another 1 s"),
        ({}, {"seconds": 59.9}, "holds for another 1 s"),
        ({"requests": 99}, {}, "99 of 100 requests"),
        ({}, {"behind": ("b",)}, "1 of 2 processes have not followed"),
        ({"live_at": None}, {}, "have not followed"),
        ({"checks": {}}, {}, "check `errors` has not passed yet: it was not made yet"),
        ({"checks": checked(CheckResult.NO_TRAFFIC)}, {}, "because of a test"),
        ({"checks": checked(CheckResult.ERROR, 4)}, {}, "because of a test"),
    ],
)
def test_what_a_step_lacks_is_waited_for(state, facts, words):
    action = next_action(rollout(**state), seen(**facts))
    assert isinstance(action, Wait)
    assert words in action.reason


@pytest.mark.parametrize("status", [RolloutStatus.PROGRESSING, RolloutStatus.PAUSED])
def test_a_failed_check_brings_it_back_even_from_a_pause(status):
    action = next_action(rollout(status, checks=checked(CheckResult.FAIL)), seen())
    assert action == RollBack("check `errors` failed: because of a test")


@pytest.mark.parametrize(
    ("state", "facts", "words"),
    [
        ({"checks": checked(CheckResult.ERROR, 5)}, {}, "check `errors` decides nothing"),
        ({"checks": checked(CheckResult.INCONCLUSIVE)}, {}, "check `errors` decides nothing"),
        ({}, {"emergency": "flood"}, "emergency mode: flood"),
        ({}, {"seconds": 3601}, "longer than the 3600 seconds"),
        ({"requests": 0}, {"seconds": 301}, "no request for version 1.0.1 came within 301 seconds"),
        ({"requests": 5}, {"seconds": 301}, "no request for version 1.0.1 came"),
    ],
)
def test_what_nobody_can_tell_is_paused(state, facts, words):
    action = next_action(rollout(**state), seen(**facts))
    assert isinstance(action, Pause)
    assert words in action.reason
    assert action.waiting_for == "person"


def test_units_that_have_it_and_are_silent_are_not_taken_for_nobody():
    read = msgspec.structs.replace(rollout(checks={}), evidence=RolloutEvidence(counts={UNITS: (0, 5, 0, 5)}))
    assert next_action(read, seen(301)) == Wait("check `errors` has not passed yet: it was not made yet")
    for facts in ({"processes": ()}, {"behind": ("a",)}):
        assert isinstance(next_action(read, seen(301, **facts)), Pause)


def test_a_pause_lasts_until_a_person_ends_it():
    paused = rollout(RolloutStatus.PAUSED, words="somebody looks")
    assert next_action(paused, seen(seconds=10_000)) == Wait("somebody looks")


def test_a_deadline_is_counted_from_when_a_person_let_it_go_on():
    again = rollout(resumed_at=START + timedelta(seconds=3600), asked_at=START + timedelta(seconds=3600))
    assert isinstance(next_action(again, seen(seconds=3661)), Enter)


def test_an_approval_is_asked_for_once():
    waiting = next_action(rollout(step=1), seen())
    assert waiting == Pause("step 2 needs an approval", "approval")
    assert isinstance(next_action(rollout(step=1, approved=1), seen()), Enter)


def test_a_schedule_is_kept():
    later = RolloutPlan((Step(0.1), Step(1.0, not_before=START + timedelta(hours=1))), checks=PLAN.checks)
    waiting = next_action(rollout(plan=later), seen())
    assert isinstance(waiting, Wait)
    assert "step 2 begins at" in waiting.reason
    assert isinstance(next_action(rollout(plan=later), seen(seconds=3600)), Enter)


def test_after_the_last_step_it_is_complete():
    assert next_action(rollout(step=2), seen()) == Complete("all 3 steps passed")


@pytest.mark.parametrize("status", ACTIVE)
def test_what_ends_it_ends_it_in_every_status(status):
    there = rollout(status)
    assert next_action(there, seen(usable=False)) == RollBack("version 1.0.1 is gone or rejected")
    assert next_action(there, seen(stable="1.0.1")) == Complete("m points to 1.0.1 already")
    assert next_action(there, seen(stable="3.0.0")) == Abort("somebody moved m to 3.0.0 meanwhile")
    assert next_action(there, seen(stable="")) == Abort("somebody moved m to nothing meanwhile")


_results = st.lists(st.sampled_from(CheckResult), max_size=8)


_surroundings = st.fixed_dictionaries(
    {
        "seconds": st.floats(0, 10_000),
        "behind": st.sampled_from([(), ("b",)]),
        "ready": st.booleans(),
        "emergency": st.sampled_from(["", "flood"]),
        "stable": st.sampled_from(["1.0.0", "1.0.1", "9.9.9", ""]),
    }
)


@given(st.sampled_from(ACTIVE), st.integers(-1, 2), _results, st.integers(0, 200), _surroundings)
def test_only_what_has_passed_everything_goes_on(status, step, results, requests, around):
    counts = CheckCounts()
    for result in results:
        counts = counts.count(result)
    state = CheckState(counts, Measurement(CheckResult.PASS, "x"), START)
    assume(step >= 0 or status is not RolloutStatus.PROGRESSING)  # which begins with the first step
    there = rollout(status, step=step, requests=requests, checks={"errors": state})
    action = next_action(there, seen(**around))
    if isinstance(action, Enter) or (isinstance(action, Complete) and around["stable"] == "1.0.0"):
        assert status is not RolloutStatus.PAUSED
        assert not around["behind"]
        assert not around["emergency"]
        assert around["stable"] == "1.0.0"
        if status is not RolloutStatus.PREPARING:
            assert there.plan.steps[step].minimum_units <= requests
            assert around["seconds"] >= there.plan.steps[step].hold_seconds
            assert CheckResult.FAIL not in results
            assert CheckResult.PASS in results
    assert isinstance(action, Wait) or action.reason

"""Rollouts, plans and forecasts as people see them: pure functions of what the server answers."""

from datetime import UTC, datetime

import msgspec
import pytest

from crossfade.cli.rollout_sheets import (
    forecast_sheet,
    history_sheet,
    one_rollout,
    place,
    plan_sheet,
    rollout_sheet,
    share,
)
from crossfade.releases.checks.phase import CheckCounts, CheckResult, Measurement
from crossfade.releases.checks.spec import ErrorRateCheck
from crossfade.releases.plan import PRESETS, RolloutPlan, Step
from crossfade.releases.requests import RolloutForecast, StepForecast
from crossfade.releases.rollout import (
    CheckState,
    Rollout,
    RolloutEvidence,
    RolloutState,
    RolloutStatus,
    RolloutTransition,
)

AT = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
PLAN = RolloutPlan((Step(0.1), Step(0.5), Step(1.0)), checks=(ErrorRateCheck("errors"),))


@pytest.fixture
def rollout():
    state = RolloutState(step=1, requests=1234, words="step 2 holds for another 9 s")
    return Rollout(
        "churn-3",
        "model",
        "churn",
        RolloutStatus.PROGRESSING,
        PLAN,
        state,
        "1.0.0",
        "1.1.0",
        "digest",
        0.5,
        False,
        False,
        "",
        RolloutEvidence(),
        4,
        AT,
        "ann",
    )


def said(sheet):
    return {row[0]: row[1] for row in sheet.rows}


def test_a_rollout_says_where_it_is_and_why(rollout):
    found = said(one_rollout(rollout))
    assert found["status"] == "progressing"
    assert found["why"] == "step 2 holds for another 9 s"
    assert found["versions"] == "1.0.0 -> 1.1.0"
    assert (found["step"], found["weight"]) == ("2 of 3", "0.5")
    assert found["requests"] == "1,234 to version 1.1.0 in this step"
    assert found["check errors"] == "not made in this step yet"


def test_a_check_shows_its_newest_result(rollout):
    measurement = Measurement(CheckResult.FAIL, "5 of 9 requests failed")
    checks = {"errors": CheckState(CheckCounts().count(CheckResult.FAIL), measurement, AT)}
    shown = msgspec.structs.replace(rollout, state=msgspec.structs.replace(rollout.state, checks=checks))
    assert said(one_rollout(shown))["check errors"] == "fail: 5 of 9 requests failed"


def test_what_it_waits_for_and_a_latch_are_said(rollout):
    waiting = msgspec.structs.replace(
        rollout,
        status=RolloutStatus.PAUSED,
        state=msgspec.structs.replace(rollout.state, waiting_for="approval"),
        latched=True,
        finished_at=AT,
    )
    found = said(one_rollout(waiting))
    assert found["status"] == "paused, waits for approval"
    assert "only by a person's word" in found["latched"]
    assert found["finished"].startswith("2026-01-31 09:30")


def test_a_return_has_no_steps_to_count(rollout):
    back = msgspec.structs.replace(rollout, fast=True)
    assert said(one_rollout(back))["plan"] == "canary, at once: a return"
    assert said(one_rollout(rollout))["plan"] == "canary, 3 steps"


def test_a_plan_that_need_not_be_written_has_a_name(rollout):
    careful = msgspec.structs.replace(rollout, plan=PRESETS["careful"])
    assert said(one_rollout(careful))["plan"] == "careful: canary, 5 steps"


@pytest.mark.parametrize(
    ("plan", "weight", "words"),
    [
        ("fast", 0.0, "none of the traffic"),
        ("fast", 0.05, "0.05 of the traffic"),
        ("fast", 1.0, "all of the traffic"),
        ("blue-green", 0.0, "a copy of every request"),
    ],
)
def test_what_it_gets_is_said_in_words(rollout, plan, weight, words):
    state = msgspec.structs.replace(rollout.state, step=0)
    assert share(msgspec.structs.replace(rollout, plan=PRESETS[plan], weight=weight, state=state)) == words


def test_before_the_first_step_it_is_at_none(rollout):
    early = msgspec.structs.replace(rollout, state=RolloutState())
    assert place(early) == "0 of 3"


def test_lists_have_a_row_each(rollout):
    sheet = rollout_sheet([rollout, rollout])
    assert len(sheet.rows) == 2
    assert sheet.rows[0][:5] == ("churn-3", "progressing", "1.0.0 -> 1.1.0", "2 of 3", "0.5")
    assert rollout_sheet([]).empty == "no rollouts yet"


def test_history_has_a_row_for_each_transition():
    entry = RolloutTransition(1, "step", "preparing", "progressing", 0, 0.1, "step 1 of 3", 7, AT, "controller")
    ((at, what, status, step, weight, who, why),) = history_sheet([entry]).rows
    assert (what, status, step, weight, who, why) == ("step", "progressing", "1", "0.1", "controller", "step 1 of 3")
    assert at.startswith("2026-01-31")


def test_plans_show_their_weights_and_how_long_they_hold():
    rows = {row[0]: row for row in plan_sheet(PRESETS).rows}
    assert rows["shadow-first"][2] == "shadow, 0.05, 0.5, 1"
    assert rows["careful"][4] == "45 min"
    assert rows["rolling"][1] == "rolling"


def test_a_forecast_says_what_would_be_seen_and_when():
    steps = (
        StepForecast(0.1, 60.0, 2043, 1021.5),
        StepForecast(0.5, 60.0, 100, None),
        StepForecast(1.0, 0.0, None, None),
    )
    found = said(forecast_sheet(RolloutForecast("churn", "1.0.0", "1.1.0", PLAN, False, 120.0, 0.01, 20.0, steps)))
    assert found["would"] == "roll churn out from 1.0.0 to 1.1.0"
    assert found["now"] == "20 requests/s, of which 1.000% fail"
    assumed = said(forecast_sheet(RolloutForecast("m", "1", "2", PLAN, False, 1.0, 0.01, 20.0, steps, assumed=True)))
    assert assumed["now"] == "20 requests/s, of which none is known to have failed; 0.01 is assumed of what follows"
    assert "after about 2,043 of its requests (about 1022 s)" in found["step 1"]
    assert found["step 2"].endswith("after about 100 of its requests")
    assert found["step 3"] == "all of the traffic for 0 s"

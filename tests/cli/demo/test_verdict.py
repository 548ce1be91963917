from __future__ import annotations

from types import SimpleNamespace

import pytest

from crossfade.cli.demo.verdict import (
    CHAMPIONS,
    ENOUGH,
    BanditVerdict,
    ConfigVerdict,
    RolloutVerdict,
    TrialVerdict,
    Verdict,
)
from crossfade.errors import GoldenMismatchError, NotReadyError, VersionConflictError
from crossfade.experiments.record import Verdict as Decided
from tests.cli.demo.support import a_bandit_report, a_rollout

REFUSAL = NotReadyError(ref="flight_delay:1.1.1", name="flight_delay", alias="champion", problem="other answers")


def verdict(**changes):
    facts = {
        "asked": 100,
        "answered": {"1.0.0": 40, "1.1.0": 60},
        "failures": (),
        "refusal": REFUSAL,
        "champions": CHAMPIONS,
    }
    return list(Verdict(**(facts | changes)).broken_promises())


def test_a_demo_that_went_well_broke_no_promise():
    assert verdict() == []
    assert verdict(refusal=GoldenMismatchError(ref="r", output="o", difference="0.5")) == []


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"asked": 0, "answered": {}}, "no request was sent"),
        ({"asked": 101}, "1 of 101 requests got no answer"),
        ({"asked": 101, "failures": ("503 draining",)}, "the first failure: 503 draining"),
        ({"refusal": None}, "it was made champion"),
        ({"refusal": VersionConflictError(ref="a:1.1.1", proposed="1.1.2")}, "already registered"),
        ({"answered": {"1.0.0": 40, "1.1.0": 59, "1.1.1": 1}}, "1.1.1 answered 1 requests"),
        ({"champions": ("1.0.0", "1.1.0")}, "the champions were 1.0.0, 1.1.0 instead of"),
        ({"champions": (*CHAMPIONS[:2], "1.1.1", *CHAMPIONS[2:])}, "1.1.1"),
        ({"champions": (*CHAMPIONS[:-1], "1.3.0", CHAMPIONS[-1])}, "1.3.0"),
        ({"champions": CHAMPIONS[:-1]}, "the champions were"),
        ({"strays": ("1.0.0",)}, "1.0.0 answered where another version should have"),
        ({"unreported": ("gone", "gone again")}, "2 reports of outcomes were not taken; the first: gone"),
    ],
)
def test_each_promise(changes, complaint):
    assert any(complaint in promise for promise in verdict(**changes))


# --- the experiment ---

MOVE = SimpleNamespace(moved_by="controller", reason="rollout m-1: done; begun for: experiment late_flights: better")


def tried(**changes):
    facts = {
        "name": "late_flights",
        "better": "weather",
        "verdict": Decided("ship", "weather", "it is better", "auto"),
        "newest": MOVE,
    }
    return list(TrialVerdict(**(facts | changes)).broken_promises())


def test_an_experiment_that_went_well_broke_no_promise():
    assert tried() == []


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"verdict": None}, "late_flights was not decided"),
        ({"verdict": Decided("keep", "", "it is worse", "auto")}, "late_flights ended with: keep"),
        ({"verdict": Decided("ship", "schedule", "?", "auto")}, "late_flights ended with: ship schedule"),
        ({"verdict": Decided("ship", "weather", "I like it", "demo")}, "decided by demo and not by the server"),
        ({"newest": None}, "does not name the experiment"),
        ({"newest": SimpleNamespace(moved_by="demo", reason=MOVE.reason)}, "does not name the experiment"),
        ({"newest": SimpleNamespace(moved_by="controller", reason="another one")}, "does not name the experiment"),
    ],
)
def test_each_promise_of_the_experiment(changes, complaint):
    assert [promise for promise in tried(**changes) if promise.endswith(complaint) or complaint in promise]


# --- the bandit ---


def competed(**changes):
    facts = {"report": a_bandit_report(ENOUGH), "floor": 0.05, "lowest": 0.05, "heaviest": "1.1.0", "worst": "1.2.0"}
    return list(BanditVerdict(**(facts | changes)).broken_promises())


def test_a_bandit_that_went_well_broke_no_promise():
    assert competed() == []
    assert competed(lowest=0.05 - 1e-15) == []


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"report": None}, "learned nothing"),
        ({"report": a_bandit_report(0)}, "learned nothing"),
        ({"lowest": 0.04}, "a weight fell to 0.0400, and the floor is 0.05"),
        ({"heaviest": "1.2.0"}, "gave most of the flights to 1.2.0, which told worst"),
    ],
)
def test_each_promise_of_the_bandit(changes, complaint):
    (promise,) = competed(**changes)
    assert complaint in promise


def test_a_bandit_that_has_hardly_learned_is_not_blamed_for_its_luck():
    assert competed(report=a_bandit_report(ENOUGH - 1), heaviest="1.2.0") == []


# --- the rollouts ---


def rolled(**changes):
    facts = {
        "caught": a_rollout("rolled_back"),
        "caught_by": "controller",
        "promoted": a_rollout("completed", "1.3.1"),
    }
    return list(RolloutVerdict(**(facts | changes)).broken_promises())


def test_rollouts_that_went_well_broke_no_promise():
    assert rolled() == []


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"caught": None}, "1.3.0 should have been rolled back, but: it was never rolled out"),
        ({"caught": a_rollout("completed", reason="all steps passed")}, "but: completed: all steps passed"),
        ({"caught": a_rollout("aborted", reason="no flight is left")}, "but: aborted: no flight is left"),
        ({"caught_by": "demo"}, "1.3.0 was rolled back by demo and not by a check"),
        ({"caught_by": ""}, "by nobody"),
        ({"caught": a_rollout("rolled_back", reason="version 1.3.0 is gone")}, "not by a check: version 1.3.0 is gone"),
        ({"caught": a_rollout("rolled_back", latched=False)}, "could be rolled out again"),
        ({"promoted": None}, "1.3.1 should have been promoted, but: it was never rolled out"),
        ({"promoted": a_rollout("rolled_back", "1.3.1")}, "1.3.1 should have been promoted, but: rolled_back"),
    ],
)
def test_each_promise_of_the_rollouts(changes, complaint):
    (promise,) = rolled(**changes)
    assert complaint in promise


# --- the config ---


def configured(**changes):
    facts = {
        "config": SimpleNamespace(name="delay_alerts", active=3),
        "version": SimpleNamespace(number=3, created_by="demo", approved_by="reviewer"),
        "invalid": "60 is too much",
        "refusal": REFUSAL,
        "differed": ("desk-ewr",),
        "behind": "desk-ewr",
        "report": SimpleNamespace(differs=0, current=2),
    }
    return list(ConfigVerdict(**(facts | changes)).broken_promises())


def test_a_config_that_went_well_broke_no_promise():
    assert configured() == []


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"config": None}, "the config was not released"),
        ({"version": None}, "the config was not released"),
        ({"report": None}, "the config was not released"),
        ({"invalid": ""}, "was found to be fit"),
        ({"refusal": None}, "version 3 of delay_alerts was approved by its author"),
        ({"version": SimpleNamespace(number=3, created_by="demo", approved_by="demo")}, "approved by its author"),
        ({"config": SimpleNamespace(name="delay_alerts", active=1)}, "version 1 of delay_alerts is active, and not 3"),
        ({"differed": ()}, "desk-ewr should have been behind, and those were: nobody"),
        ({"differed": ("desk-ewr", "desk-jfk")}, "those were: desk-ewr, desk-jfk"),
        ({"report": SimpleNamespace(differs=1, current=1)}, "1 clients of delay_alerts run something else"),
        ({"report": SimpleNamespace(differs=0, current=0)}, "0 clients of delay_alerts run something else"),
    ],
)
def test_each_promise_of_the_config(changes, complaint):
    (promise,) = configured(**changes)
    assert complaint in promise

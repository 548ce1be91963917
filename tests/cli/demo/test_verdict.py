from __future__ import annotations

from types import SimpleNamespace

import pytest

from crossfade.cli.demo.verdict import CHAMPIONS, ENOUGH, BanditVerdict, TrialVerdict, Verdict
from crossfade.errors import GoldenMismatchError, NotReadyError, VersionConflictError
from crossfade.experiments.record import Verdict as Decided
from tests.cli.demo.support import a_bandit_report

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
        ({"strays": ("1.0.0",)}, "1.0.0 answered where another version should have"),
        ({"unreported": ("gone", "gone again")}, "2 reports of outcomes were not taken; the first: gone"),
    ],
)
def test_each_promise(changes, complaint):
    assert any(complaint in promise for promise in verdict(**changes))


# --- the experiment ---

MOVE = SimpleNamespace(moved_by="auto", reason="experiment late_flights: it is better")


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
        ({"newest": SimpleNamespace(moved_by="auto", reason="another one")}, "does not name the experiment"),
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

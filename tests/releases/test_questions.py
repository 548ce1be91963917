"""Other servers are asked, and whoever does not answer keeps nobody else waiting."""

import threading

import pytest

from crossfade.releases.checks import questions as questions_module
from crossfade.releases.checks.phase import CheckResult, Measurement
from crossfade.releases.checks.questions import Questions
from crossfade.releases.checks.spec import WebhookCheck
from crossfade.releases.plan import RolloutPlan, Step
from crossfade.releases.rollout import RolloutStatus
from tests.traffic.support import eventually

FINE = Measurement(CheckResult.PASS, "fine")


class Hanging:
    """A service that answers when a test lets it."""

    def __init__(self):
        self.asked = 0
        self.answering = threading.Event()

    def __call__(self):
        self.asked += 1
        self.answering.wait(30)
        return FINE

    def ask(self, url, event):
        self()
        return {"result": "fail", "reason": "no"}


@pytest.fixture
def hanging():
    service = Hanging()
    yield service
    service.answering.set()


def test_who_answers_at_once_is_heard_at_once():
    questions = Questions(30)
    assert questions.answers({1: lambda: FINE, 2: lambda: FINE}) == {1: FINE, 2: FINE}
    assert questions.answers({}) == {}


def test_who_hangs_is_asked_once_and_heard_once_whenever_it_answers(hanging):
    questions = Questions(0.01)
    assert questions.answers({"a": hanging}) == {}
    assert questions.answers({"a": hanging, "b": lambda: FINE}).get("a") is None
    hanging.answering.set()
    eventually(lambda: questions.answers({"a": hanging}) == {"a": FINE})
    assert hanging.asked == 1
    eventually(lambda: questions.answers({"a": hanging}) == {"a": FINE})
    assert hanging.asked == 2


def test_what_nobody_asks_for_any_more_is_forgotten(hanging, monkeypatch):
    questions = Questions(0.01)
    questions.answers({"a": hanging})
    later = questions_module.time.monotonic() + 61
    monkeypatch.setattr(questions_module.time, "monotonic", lambda: later)
    assert questions.answers({}) == {}
    questions.answers({"a": hanging})
    assert hanging.asked == 2


def test_a_service_that_hangs_keeps_nobody_from_turning(stage, hanging):
    stage.controller = stage.new_controller(webhooks=hanging, questions=Questions(0.01))
    stage.begin(RolloutPlan((Step(0.5, hold_seconds=5), Step(1.0)), checks=(WebhookCheck("gate", "https://x.y/z"),)))
    stage.reach("progressing")
    for _ in range(10):
        rollout = stage.second(old=90, new=10)
    assert hanging.asked == 1
    assert (rollout.status, rollout.state.step) == (RolloutStatus.PROGRESSING, 0), "nobody knows yet"
    hanging.answering.set()
    eventually(lambda: stage.second(old=90, new=10).status is RolloutStatus.ROLLED_BACK)

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from crossfade.cli.demo import canary as canary_module
from crossfade.cli.demo.canary import CAREFUL, SHORT, SKY, Canary, follow, policy
from crossfade.cli.demo.stage import FOLLOW_SECONDS
from crossfade.errors import ServerUnreachableError
from crossfade.safety.checks import Bench, compile_check
from crossfade.safety.specs import checked
from crossfade.solutions.flights.training import SIGNATURE
from tests.cli.demo.support import FakeStage, a_rollout

ENDS = {"1.3.0": "rolled_back", "1.3.1": "completed"}


class FakeClient:
    """A server on which rollouts end after some looks."""

    def __init__(self, looks=3, ends=ENDS):
        self.calls, self._looks, self._ends, self._left = [], looks, ends, 0
        self._wanted = None

    def put_safety_policy(self, spec, *, reason):
        self.calls.append(("policy", spec.model))

    def register_draft(self, name, draft, *, version):
        self.calls.append(("register", draft, version))

    def create_rollout(self, wanted):
        self.calls.append(("create", wanted.version))
        self._wanted, self._left = wanted, self._looks
        return a_rollout("preparing", wanted.version)

    def rollout(self, name):
        self._left -= 1
        return a_rollout(self._ends[self._wanted.version] if self._left <= 0 else "progressing", self._wanted.version)

    def rollout_history(self, name):
        return (SimpleNamespace(by="demo"), SimpleNamespace(by="controller"))

    def abort_rollout(self, name, *, reason):
        self.calls.append(("abort", name))
        return a_rollout("aborted", self._wanted.version, reason=reason)


@pytest.fixture
def play(monkeypatch):
    monkeypatch.setattr(canary_module, "LOOK_SECONDS", 0.0)

    def played(client, **traffic):
        stage = FakeStage(client)
        vars(stage.traffic).update(traffic)
        canary = Canary(stage, 0.2345)
        canary.run("subtle draft", "repaired draft")
        return canary, stage

    return played


# --- what is declared ---


def alarms(probability, **changes):
    """Tell whether an answer about a flight under a clear sky is unsafe."""
    row = {"hour": 8, "visib": 10.0, "precip": 0.0} | changes
    inputs = {spec.name: np.array([row.get(spec.name, 1)]) for spec in SIGNATURE.inputs}
    outputs = {"predict": np.array([0]), "predict_proba": np.array([[1 - probability, probability]])}
    (check,) = checked(policy(0.2)).checks
    compiled = compile_check(check, Bench(SIGNATURE))
    assert not compiled.problem
    assert bool(compiled.judge.one(inputs, outputs, "")) == bool(np.any(compiled.judge.many(inputs, outputs, "")))
    return bool(compiled.judge.one(inputs, outputs, ""))


def test_an_alarm_under_a_clear_sky_is_unsafe():
    assert alarms(0.31)
    assert not alarms(0.3)


@pytest.mark.parametrize("reason", [{"hour": 15}, {"visib": 9.0}, {"precip": 0.01}])
def test_with_a_reason_it_is_not(reason):
    assert not alarms(0.9, **reason)


@pytest.mark.parametrize("unknown", ["visib", "precip"])
def test_without_the_weather_nobody_says_that_the_sky_is_clear(unknown):
    assert not alarms(0.9, **{unknown: math.nan})


def test_what_is_said_instead_is_a_whole_answer():
    (instead,) = checked(policy(0.23456)).fallback
    assert instead.outputs["predict"] == 0
    assert sum(instead.outputs["predict_proba"]) == pytest.approx(1.0)
    assert instead.outputs["predict_proba"][1] == 0.235


@pytest.mark.parametrize("plan", [CAREFUL, SHORT])
def test_each_plan_is_one_that_looks_at_what_is_unsafe(plan):
    assert plan.checked() == plan
    assert [check.events for check in plan.checks] == [("unsafe",), ("errors",)]
    assert plan.steps[0].weight == 0.1


# --- what is done ---


def test_the_steps_come_in_order(play):
    client = FakeClient()
    play(client)
    assert client.calls == [
        ("policy", "flight_delay"),
        ("register", "subtle draft", "1.3.0"),
        ("create", "1.3.0"),
        ("register", "repaired draft", "1.3.1"),
        ("create", "1.3.1"),
    ]


def test_each_rollout_is_watched_until_it_is_over(play):
    canary, stage = play(FakeClient(looks=3))
    assert stage.watches[0].watched == [0.0, 0.0, 2.0, 0.0, 0.0, 2.0]
    assert (canary.caught.status, canary.promoted.status) == ("rolled_back", "completed")
    assert canary.caught_by == "controller"


def test_how_each_ended_is_told_in_words(play):
    _, stage = play(FakeClient())
    text = "\n".join(stage.screen.of("step", "words", "good", "say"))
    assert "1.3.0 was rolled back, by controller" in text
    assert "check `unsafe` failed: 6 of 50 requests" in text
    assert "1.1.0 answers everybody; 50 flights have seen 1.3.0" in text
    assert "1.3.1 was completed, by controller" in text
    assert "champion is 1.3.1" in text


def test_each_command_is_shown_with_a_file_that_holds_what_it_takes(play):
    _, stage = play(FakeClient())
    assert stage.screen.of("command") == [
        "crossfade safety policy set safety.json",
        "crossfade rollouts create flight_delay 1.3.0 --plan canary.json",
        "crossfade rollouts create flight_delay 1.3.1 --plan repaired.json",
    ]
    assert stage.kept["canary.json"] == CAREFUL
    assert stage.kept["safety.json"].checks[0].name == SKY


def test_only_the_champion_may_answer_after_each_end(play):
    canary, _ = play(FakeClient())
    first, second = canary.reigns
    assert (first.version, second.version) == ("1.1.0", "1.3.1")
    assert first.begins - FOLLOW_SECONDS <= first.ends <= second.begins
    assert second.ends < math.inf


def test_who_is_drawn_in_a_rollout_is_known(play):
    canary, _ = play(FakeClient())
    assert canary.drawn == {
        "flight_delay-1.3.0": {"stable": "1.1.0", "candidate": "1.3.0"},
        "flight_delay-1.3.1": {"stable": "1.1.0", "candidate": "1.3.1"},
    }


def test_a_version_that_is_not_caught_is_not_called_so(play):
    canary, stage = play(FakeClient(ends=ENDS | {"1.3.0": "completed"}))
    assert canary.caught.status == "completed"
    assert "champion is 1.3.0" in "\n".join(stage.screen.of("good"))
    assert canary.reigns[0].version == "1.3.0"


def test_without_a_flight_nothing_is_released(play):
    client = FakeClient()
    canary, stage = play(client, ran_out=True)
    assert (client.calls, canary.caught, canary.promoted) == ([], None, None)
    assert stage.screen.of("bad") == ["no flight is left for it"]


def test_a_server_that_is_gone_ends_the_story(play):
    client = FakeClient()

    def gone(name):
        raise ServerUnreachableError(url="http://127.0.0.1:1", problem="refused")

    client.rollout = gone
    with pytest.raises(ServerUnreachableError):
        play(client)


def test_a_rollout_that_is_not_over_some_time_after_the_last_flight_is_aborted(monkeypatch):
    monkeypatch.setattr(canary_module, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(canary_module, "LAST_SECONDS", 0.0)
    client = FakeClient(looks=10**6)
    client.create_rollout(SimpleNamespace(version="1.3.0"))
    stage = FakeStage(client)
    stage.traffic.ran_out = True
    noted = []
    ended = follow(stage, stage.watch(lambda: None), "flight_delay-1.3.0", noted.append)
    assert ended.status == "aborted"
    assert client.calls[-1] == ("abort", "flight_delay-1.3.0")
    assert {rollout.status.value for rollout in noted} == {"progressing"}


def test_what_was_aborted_is_said(play, monkeypatch):
    _, stage = play(FakeClient(ends=ENDS | {"1.3.1": "aborted"}))
    assert stage.screen.of("bad") == ["nothing was decided about 1.3.1"]

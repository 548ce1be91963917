from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from crossfade.cli.demo import trial as trial_module
from crossfade.cli.demo.stage import FOLLOW_SECONDS, Reign
from crossfade.cli.demo.trial import Trial, specification
from crossfade.errors import ServerUnreachableError
from crossfade.experiments.record import Verdict
from tests.cli.demo.support import FakeStage, a_report, an_answer, an_experiment

SHIPPED = Verdict("ship", "weather", "`weather` is significantly better on `log_loss`", "auto")


class FakeClient:
    """A server on which the experiment is decided after some looks."""

    def __init__(self, looks=3, verdict=SHIPPED, status="decided"):
        self.calls, self._looks, self._verdict, self._status = [], looks, verdict, status

    def create_experiment(self, spec):
        self.calls.append(("create", spec.name))

    def start_experiment(self, name, *, reason):
        self.calls.append(("start", name))

    def analyze_experiment(self, name):
        return a_report()

    def experiment(self, name):
        self._looks -= 1
        if self._looks > 0:
            return an_experiment(specification())
        return an_experiment(specification(), self._status, self._verdict)

    def stop_experiment(self, name, *, reason):
        self.calls.append(("stop", name))

    def rollout(self, name):
        return SimpleNamespace(name="flights-1", active=False, stable="1.0.0", candidate="1.1.0")

    def alias_history(self, name, *, alias, limit):
        reason = "rollout flights-1: it is complete; begun for: experiment late_flights: ..."
        move = SimpleNamespace(source="1.0.0", target="1.1.0", moved_by="controller", reason=reason)
        return SimpleNamespace(items=(move,))


@pytest.fixture
def play(tmp_path, monkeypatch):
    """Play the act; the page of the report comes from nowhere."""
    monkeypatch.setattr(trial_module, "LOOK_SECONDS", 0.0)
    asked = []
    page = lambda url, **_: asked.append(url) or SimpleNamespace(content=b"<p>report")  # noqa: E731
    monkeypatch.setattr(trial_module.httpx, "get", page)

    def played(client, **traffic):
        stage = FakeStage(client, tmp_path)
        vars(stage.traffic).update(traffic)
        trial = Trial(stage)
        trial.run()
        return trial, stage

    played.asked = asked
    return played


# --- what is asked ---


def test_the_specification_is_one():
    spec = specification().checked()
    assert {variant.name: (variant.version, variant.weight) for variant in spec.variants} == {
        "schedule": ("1.0.0", 0.5),
        "weather": ("1.1.0", 0.5),
    }
    assert spec.control == "schedule"
    assert spec.decision.auto


def test_log_loss_decides_and_errors_and_latency_are_guardrails():
    roles = {metric.name: (metric.role, metric.direction) for metric in specification().metrics}
    assert roles == {
        "log_loss": ("primary", "down"),
        "errors": ("guardrail", "down"),
        "latency": ("guardrail", "down"),
    }


# --- what is done ---


def test_it_is_watched_until_the_server_has_decided(play):
    client = FakeClient(looks=3)
    trial, stage = play(client)
    assert client.calls == [("create", "late_flights"), ("start", "late_flights")]
    assert trial.verdict == SHIPPED
    assert stage.watches[0].watched == [0.0, 0.0, 2.0]


def test_the_outcome_is_whether_the_flight_was_late(play):
    _, stage = play(FakeClient())
    name, value = stage.landings._measured["late_flights"]
    assert (name, value(an_answer())) == ("late", 0.0)


def test_what_was_decided_is_told_in_words_with_the_report(play, tmp_path):
    _, stage = play(FakeClient())
    text = "\n".join(stage.screen.of("step", "words", "good", "say"))
    assert "it was decided: ship weather" in text
    assert SHIPPED.reason in text
    assert "champion moved from 1.0.0 to 1.1.0, by rollout flights-1" in text
    assert play.asked == ["http://127.0.0.1:1/api/v1/experiments/late_flights/report"]
    assert (tmp_path / "late_flights.html").read_bytes() == b"<p>report"


def test_each_command_is_shown(play):
    _, stage = play(FakeClient())
    assert stage.screen.of("command") == [
        "crossfade experiments create late_flights.json",
        "crossfade experiments start late_flights",
    ]


def test_the_shipped_version_reigns_after_a_pause_for_followers(play, monkeypatch):
    clock = itertools.count(100.0, 10.0)
    monkeypatch.setattr(trial_module.time, "perf_counter", lambda: next(clock))
    trial, _ = play(FakeClient())  # begins at 100, is decided at 110, shipped at 120, and was watched until 130
    assert trial.reigns == [Reign("1.1.0", 120.0 + FOLLOW_SECONDS, 130.0)]
    assert trial.drawn["flights-1"] == {"stable": "1.0.0", "candidate": "1.1.0"}


def test_without_a_decision_it_ends_some_time_after_the_last_flight(play, monkeypatch):
    monkeypatch.setattr(trial_module, "LAST_SECONDS", 0.0)
    client = FakeClient(looks=10**6)
    trial, stage = play(client, ran_out=True)
    assert trial.verdict is None
    assert trial.reigns == []
    assert client.calls[-1] == ("stop", "late_flights")
    assert any("nothing was decided" in text for text in stage.screen.of("bad"))
    assert "about 700 more units" in stage.screen.of("words")[-1]


def test_an_experiment_that_somebody_else_stopped_was_not_decided(play):
    trial, stage = play(FakeClient(looks=1, verdict=None, status="stopped"))
    assert trial.verdict is None
    assert stage.screen.of("bad")


def test_a_server_that_is_gone_ends_the_story(play):
    client = FakeClient()

    def gone(name):
        raise ServerUnreachableError(url="http://127.0.0.1:1", problem="refused")

    client.analyze_experiment = gone
    with pytest.raises(ServerUnreachableError):
        play(client)


def test_the_table_is_that_of_the_newest_analysis(play):
    trial, _ = play(FakeClient())
    assert "-0.100 (-0.140, -0.060)" in trial.table().line

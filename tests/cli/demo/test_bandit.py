from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from crossfade.cli.demo import bandit as bandit_module
from crossfade.cli.demo.bandit import FLOOR, IN_THE_AIR, Account, Bandit, account, specification
from crossfade.cli.demo.traffic import Decided
from crossfade.solutions.flights.dataset import INPUTS, Flights
from tests.cli.demo.support import FakeStage, a_bandit_report, an_answer, an_experiment, some_questions

USUAL = 0.2


class FakeClient:
    """A server whose bandit learns a hundred flights between two looks."""

    def __init__(self, weights=((1 / 3, 1 / 3, 1 / 3), (0.8, 0.15, 0.05))):
        self.calls, self._weights, self._looks = [], weights, 0

    def register_draft(self, name, draft, *, version):
        self.calls.append(("register", draft, version))

    def create_experiment(self, spec):
        self.calls.append(("create", spec.bandit.maturity_seconds))
        return an_experiment(spec)

    def start_experiment(self, name, *, reason):
        self.calls.append(("start", name))

    def stop_experiment(self, name, *, reason):
        self.calls.append(("stop", name))

    def bandit(self, name):
        self._looks += 1
        return a_bandit_report(100 * self._looks, self._weights[min(self._looks, len(self._weights)) - 1])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(bandit_module, "LOOK_SECONDS", 0.0)


def play(client=None, decisions=300, **traffic):
    stage = FakeStage(client or FakeClient())
    vars(stage.traffic).update(traffic)
    bandit = Bandit(stage, USUAL, decisions)
    bandit.run("draft")
    return bandit, stage


# --- what is asked ---


def test_the_specification_is_one():
    spec = specification(4.0).checked()
    assert [variant.version for variant in spec.variants] == ["1.1.0", "1.0.0", "1.2.0"]
    assert sum(variant.weight for variant in spec.variants) == pytest.approx(1)
    assert spec.control == "weather"
    assert spec.bandit.policy.floor == FLOOR


# --- what is done ---


def test_it_goes_on_until_enough_was_learned():
    client = FakeClient()
    bandit, _ = play(client)
    maturity = IN_THE_AIR / 100 + 1
    assert client.calls == [
        ("register", "draft", "1.2.0"),
        ("create", maturity),
        ("start", "best_teller"),
        ("stop", "best_teller"),
    ]
    assert bandit.report.decisions == 300


def test_flights_take_longer_to_land_where_they_are_asked_about_slowly():
    client = FakeClient()
    play(client, pace=lambda: 20.0)
    assert client.calls[1] == ("create", IN_THE_AIR / 20 + 1)


def test_the_lowest_weight_is_remembered():
    bandit, _ = play(FakeClient(weights=((0.9, 0.07, 0.03), (0.8, 0.1, 0.1))))
    assert bandit.lowest == 0.03


def test_the_heaviest_version_is_the_one_with_the_largest_weight():
    bandit, _ = play(FakeClient(weights=((0.1, 0.2, 0.7),)))
    assert bandit.heaviest == "1.2.0"
    assert Bandit(FakeStage(FakeClient()), USUAL, 1).heaviest == ""


def test_it_ends_some_time_after_the_last_flight(monkeypatch):
    monkeypatch.setattr(bandit_module, "LAST_SECONDS", 0.0)
    client = FakeClient()
    stage = FakeStage(client)
    client.start_experiment = lambda *_, **__: setattr(stage.traffic, "ran_out", True)
    bandit = Bandit(stage, USUAL, 10**9)
    bandit.run("draft")
    assert 0 < bandit.report.decisions < 10**6


def test_without_any_flight_left_it_does_not_begin():
    client = FakeClient()
    bandit, stage = play(client, ran_out=True)
    assert (client.calls, bandit.report) == ([], None)
    assert stage.screen.of("bad") == ["no flight is left for it"]


def test_a_landing_earns_its_skill_and_the_table_shows_it():
    bandit, stage = play()
    answer = an_answer(version="1.1.0", decided=Decided("best_teller", "weather", "d"))
    stage.landings.land([answer])
    name, _ = stage.landings._measured["best_teller"]
    (sent,) = stage.landings._waiting.get()
    assert (name, sent.name) == ("gain", "gain")
    assert sent.value == pytest.approx(USUAL**2 - answer.probability**2)  # it was not late
    assert bandit.table().earned["1.1.0"] == (1, sent.value)
    assert bandit.answers == [answer]


# --- what it came to ---


def test_avoided_regret_is_between_an_even_split_and_always_the_best():
    would = {"1.0.0": 0.0, "1.1.0": 30.0, "1.2.0": -15.0}
    assert Account(10, 30.0, would).avoided == pytest.approx(1)
    assert Account(10, 5.0, would).avoided == pytest.approx(0)
    assert Account(10, -7.5, would).avoided == pytest.approx(-0.5)
    assert (Account(10, 5.0, would).best, Account(10, 5.0, would).worst) == ("1.1.0", "1.2.0")


def test_where_all_versions_are_the_same_there_is_nothing_to_avoid():
    assert Account(10, 3.0, {"1.0.0": 3.0, "1.1.0": 3.0}).avoided == 0.0


class Oracle:
    """Gives every flight the same probability."""

    def __init__(self, version, probability):
        self.version = version
        self.probability = probability

    def probabilities(self, inputs):
        return np.full(len(inputs), self.probability)


def flights(count):
    asked = some_questions(count)
    frame = pd.DataFrame({name: [0] * count for name in INPUTS})
    return Flights(frame.assign(flight=[each.flight for each in asked], late=[each.late for each in asked]))


def test_the_account_asks_every_version_about_the_flights_that_landed():
    answers = [an_answer(number=number) for number in (1, 3)]  # with a probability of 0.25; none was late
    found = account(answers, [Oracle("1.0.0", 0.25), Oracle("1.1.0", 0.1)], flights(5), USUAL)
    assert found.flights == 2
    assert found.earned == pytest.approx(2 * (USUAL**2 - 0.25**2))
    assert found.by_version == pytest.approx({"1.0.0": found.earned, "1.1.0": 2 * (USUAL**2 - 0.1**2)})
    assert found.best == "1.1.0"


def test_an_account_of_nothing():
    assert account([], [Oracle("1.0.0", 0.25)], flights(1), USUAL) == Account(0, 0.0, {"1.0.0": 0.0})


@pytest.mark.parametrize(
    ("earned", "kind", "words"), [(20.0, "good", "60% was avoided"), (-9.0, "say", "nothing was avoided")]
)
def test_the_end_is_told(earned, kind, words):
    bandit, stage = play()
    bandit.tell(Account(40, earned, {"1.0.0": 0.0, "1.1.0": 30.0, "1.2.0": -15.0}))
    assert words in stage.screen.of(kind)[-1]
    text = "\n".join(stage.screen.of("say"))
    assert "1.1.0  weight 0.800  best with a chance of   80.0 %  would gain +0.7500 a flight" in text
    assert f"learned from 300 flights; 40 landed and gained {earned:+.1f}" in text
    assert "an even split would have gained +5.0, and always 1.1.0 +30.0" in text


def test_when_no_flight_has_landed_there_is_nothing_to_tell():
    bandit, stage = play()
    before = len(stage.screen.lines)
    bandit.tell(Account(0, 0.0, dict.fromkeys(("1.0.0", "1.1.0", "1.2.0"), 0.0)))
    assert len(stage.screen.lines) == before


def test_without_any_look_there_is_nothing_to_tell():
    stage = FakeStage(SimpleNamespace())
    Bandit(stage, USUAL, 1).tell(Account(0, 0.0, {}))
    assert stage.screen.lines == []

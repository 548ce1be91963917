from __future__ import annotations

import threading
import time

import pytest

from crossfade.cli.demo.landings import Landings
from crossfade.cli.demo.traffic import Decided
from crossfade.errors import ServerUnreachableError
from tests.cli.demo.support import an_answer


def answer(number, experiment="late_flights"):
    return an_answer(number=number, decided=Decided(experiment, "new", f"d{number}"))


def reported(answers, record=None):
    """Report all of them in one go; returns what was sent."""
    sent = []
    landings = Landings(record or sent.extend)
    landings.measure("late_flights", "late", lambda answer: float(answer.question.late))
    with landings:
        landings.land(answers)
    return landings, sent


def test_an_outcome_names_its_decision_and_has_an_id_of_its_own():
    landings, sent = reported([answer(0), answer(1)])
    assert [(each.name, each.value, each.decision) for each in sent] == [("late", 0.0, "d0"), ("late", 0.0, "d1")]
    assert [each.id for each in sent] == ["2013-12-01 UA0 JFK late", "2013-12-01 UA1 JFK late"]
    assert (landings.reported, landings.failures) == (2, [])


def test_flights_that_no_experiment_decided_have_no_outcome():
    landings, sent = reported([an_answer(), answer(1, "another")])
    assert sent == []
    assert dict(landings.landed) == {}


def test_what_landed_is_kept_by_experiment():
    landings, _ = reported([answer(0), an_answer(), answer(2)])
    assert landings.landed["late_flights"] == [answer(0), answer(2)]


def test_every_experiment_measures_what_it_likes():
    sent = []
    with Landings(sent.extend) as landings:
        landings.measure("a", "late", lambda answer: 1.0)
        landings.measure("b", "gain", lambda answer: answer.probability)
        landings.land([answer(0, "a"), answer(1, "b")])
    assert [(each.name, each.value) for each in sent] == [("late", 1.0), ("gain", 0.25)]


def test_noting_a_landing_does_not_wait_for_the_server():
    go_on, sent = threading.Event(), []

    def record(outcomes):
        go_on.wait(10)
        sent.extend(outcomes)

    landings = Landings(record)
    landings.measure("late_flights", "late", lambda answer: 0.0)
    with landings:
        for number in range(20):
            landings.land([answer(number)])
        assert sent == []
        go_on.set()
    assert [each.decision for each in sent] == [f"d{number}" for number in range(20)]  # leaving waited for the last


def test_a_report_that_failed_is_kept_in_mind_and_the_others_go_on():
    sent = []

    def record(outcomes):
        if outcomes[0].decision == "d0":
            raise ServerUnreachableError(url="http://127.0.0.1:1", problem="refused")
        sent.extend(outcomes)

    landings = Landings(record)
    landings.measure("late_flights", "late", lambda answer: 0.0)
    with landings:
        landings.land([answer(0)])
        landings.land([answer(1)])
    assert [each.decision for each in sent] == ["d1"]
    assert (landings.reported, len(landings.failures)) == (1, 1)
    assert "127.0.0.1:1" in landings.failures[0]


def test_leaving_because_of_an_error_ends_the_thread():
    landings = Landings(lambda outcomes: time.sleep(0))
    with pytest.raises(RuntimeError), landings:
        raise RuntimeError("boom")
    assert not landings._thread.is_alive()

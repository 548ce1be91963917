from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import msgspec
import pytest

from crossfade.core.conversion import to_tensors
from crossfade.core.tensors import Signature
from crossfade.solutions.flights.dataset import INPUTS, Flights, input_specs
from crossfade.solutions.flights.replay import Logbook, Question, questions

NOON = datetime(2013, 12, 1, 12, tzinfo=UTC)


def question(minutes=60, *, late=False, lands=True):
    return Question("UA1", {}, NOON, NOON + timedelta(minutes=minutes) if lands else None, late)


def answer(question, version, probability):
    return SimpleNamespace(question=question, version=version, probability=probability)


# --- questions ---


def test_questions_come_in_time_order_and_hold_exactly_the_inputs(split):
    asked = questions(split.replay, 500)
    assert len(asked) == 500
    assert [item.asked_at for item in asked] == sorted(item.asked_at for item in asked)
    assert all(tuple(item.row) == INPUTS for item in asked)


def test_a_question_is_a_valid_json_row(split):
    rows = [item.row for item in questions(split.replay, 200)]
    assert msgspec.json.decode(msgspec.json.encode(rows)) == rows
    Signature(input_specs(), ()).check(to_tensors(rows, input_specs()))


def test_missing_weather_becomes_null(split):
    frame = split.replay.frame
    dark = Flights(frame[frame["temp"].isna()])
    assert questions(dark, 1)[0].row["temp"] is None


def test_cancelled_flights_are_asked_about_too(split):
    asked = questions(split.replay, len(split.replay))
    assert sum(item.landed_at is None for item in asked) == 1_115
    assert all(item.landed_at > item.asked_at - timedelta(hours=1) for item in asked if item.landed_at)


def test_times_are_aware(split):
    item = questions(split.replay, 1)[0]
    assert item.asked_at.utcoffset() == item.landed_at.utcoffset() == timedelta(0)
    assert type(item.late) is bool


def test_more_questions_than_flights_are_all_flights(sample):
    assert len(questions(sample.replay, 10**6)) == len(sample.replay)


def test_every_question_is_about_another_flight(split):
    asked = questions(split.replay, len(split.replay))
    assert len({item.flight for item in asked}) == len(asked)
    assert re.fullmatch(r"2013-12-01 [A-Z0-9]{2}\d+ (EWR|JFK|LGA)", asked[0].flight)


# --- the logbook ---


def test_nothing_is_judged_before_it_has_landed():
    log = Logbook()
    log.record(answer(question(60, late=True), "1.0.0", 0.4))
    log.land(NOON + timedelta(minutes=59))
    assert log.quality("1.0.0") is None
    assert log.in_the_air == 1
    log.land(NOON + timedelta(minutes=60))
    assert log.quality("1.0.0").log_loss == pytest.approx(-math.log(0.4))
    assert log.in_the_air == 0


def test_flights_land_in_the_order_of_landing_not_of_asking():
    log = Logbook()
    log.record(answer(question(120, late=True), "1.0.0", 0.9))
    log.record(answer(question(30, late=False), "1.0.0", 0.2))
    log.land(NOON + timedelta(minutes=60))
    assert (log.quality("1.0.0").flights, log.quality("1.0.0").base_rate) == (1, 0.0)


def test_every_version_is_judged_on_its_own_flights():
    log = Logbook()
    log.record(answer(question(10, late=True), "1.0.0", 0.5))
    log.record(answer(question(20, late=True), "1.1.0", 0.8))
    log.land(NOON + timedelta(hours=1))
    assert log.quality("1.0.0").brier == pytest.approx(0.25)
    assert log.quality("1.1.0").brier == pytest.approx(0.04)
    assert log.quality("1.1.1") is None
    assert log.answered == {"1.0.0": 1, "1.1.0": 1}


def test_a_flight_that_never_lands_is_counted_and_never_judged():
    log = Logbook()
    log.record(answer(question(lands=False, late=False), "1.0.0", 0.5))
    log.land(NOON + timedelta(days=99))
    assert (log.answered["1.0.0"], log.never_landing, log.in_the_air) == (1, 1, 0)
    assert log.quality("1.0.0") is None


def test_flights_that_land_together_need_no_order_of_their_own():
    log = Logbook()
    for _ in range(5):
        log.record(answer(question(10), "1.0.0", 0.1))
    log.land(NOON + timedelta(hours=1))
    assert log.quality("1.0.0").flights == 5


def test_landing_tells_which_answers_it_is_about_each_once():
    log = Logbook()
    late, soon, never = (answer(question(120), "1.0.0", 0.9), answer(question(30), "1.1.0", 0.2), question(lands=False))
    for each in (late, soon, answer(never, "1.0.0", 0.5)):
        log.record(each)
    assert log.land(NOON) == []
    assert log.land(NOON + timedelta(minutes=60)) == [soon]
    assert log.land(NOON + timedelta(days=1)) == [late]
    assert log.land(NOON + timedelta(days=9)) == []

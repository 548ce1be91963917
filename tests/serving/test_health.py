"""What a process says about its versions, second by second."""

import pytest

from crossfade.errors import DatabaseUnavailableError, LoadFailedError, PredictionError, SignatureMismatchError
from crossfade.serving.health import HealthReporter
from crossfade.serving.slots import SlotTable
from crossfade.traffic.health import HealthLog
from tests.serving.fakes import Constant, Openings, ask, ready_slot
from tests.traffic.support import Clock, FragileDatabase, eventually, move, publish_all


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def away(database):
    return FragileDatabase(database)


@pytest.fixture
def log(away, clock):
    return HealthLog(away, clock)


@pytest.fixture
def slot():
    slot = ready_slot("m", "1.0.0", Constant(0))
    yield slot
    slot.batcher.close()


@pytest.fixture
def reporter(slot, log, clock):
    slots = SlotTable()
    slots.put(slot)
    return HealthReporter(slots, {}, log, "a", clock)


def test_inputs_that_fit_and_make_the_model_raise_are_failures_of_the_version(reporter, slot, log):
    for error in (
        PredictionError(ref="m:1.0.0", problem="no"),
        SignatureMismatchError(field="x", expected="numbers", given="text"),
    ):
        slot.counters.count_error(error.http_status)
    reporter.turn()
    health = log.window(60, model="m", version="1.0.0")
    assert (health.error_rate, health.refused_rate) == (0.5, 0.5), "what does not fit is refused, which is no failure"


def test_only_what_is_new_is_reported(reporter, slot, log, clock):
    reporter.turn()
    assert log.models(60) == []
    slot.counters.count_answer(1, 0.004, 1.0)
    slot.counters.count_error(500)
    slot.counters.count_error(422)
    slot.counters.unsafe += 1
    slot.shadows.count_answer(1, 0.004, 1.0)
    reporter.turn()
    clock.advance(1)
    slot.counters.count_answer(1, 0.004, 2.0)
    reporter.turn()
    clock.advance(1)
    reporter.turn()
    health = log.window(60, model="m", version="1.0.0")
    assert (health.requests, health.errors, health.refused, health.unsafe, health.answered) == (4, 1, 1, 1, 2)
    assert 0.004 <= health.p50_seconds <= 0.0045
    assert log.window(60, model="m", version="1.0.0/shadow").requests == 1


def test_what_happens_while_the_database_is_away_is_reported_when_it_is_back(reporter, slot, log, clock, away):
    away.away = True
    for _ in range(3):
        slot.counters.count_answer(1, 0.004, 1.0)
        clock.advance(1)
        with pytest.raises(DatabaseUnavailableError):
            reporter.turn()
    away.away = False
    clock.advance(1)
    reporter.turn()
    assert log.window(60, model="m", version="1.0.0").requests == 3


def test_minutes_and_hours_are_reported_too(reporter, slot, log, clock):
    for _ in range(4000):
        slot.counters.count_answer(1, 0.004, 1.0)
        clock.advance(5)
        reporter.turn()
    log.prune()
    assert log.window(590, model="m").requests == 118
    assert 720 <= log.window(3600, model="m").requests <= 735, "up to a minute before the window counts"
    assert log.window(86_400, model="m").requests == 4000


def test_a_clock_that_jumps_back_loses_nothing(reporter, slot, log, clock):
    for seconds in (1, -5, 1):
        slot.counters.count_answer(1, 0.004, 1.0)
        clock.advance(seconds)
        reporter.turn()
    assert log.window(60, model="m").requests == 3


async def test_a_request_that_another_version_answered_counts_for_the_one_it_was_meant_for(start, registry, clock):
    publish_all(registry, "m", "1.0.0", "1.0.1")
    move(registry, "m", "1.0.0")
    openings = Openings(registry.backend)
    openings.plans["1.0.1"] = LoadFailedError(ref="m:1.0.1", problem="a test wants it")
    runtime = start(openings)
    eventually(lambda: runtime.slots.is_ready("m", "1.0.0"))
    move(registry, "m", "1.0.1")
    eventually(lambda: runtime.follower.snapshot.route("m").champion == "1.0.1")
    assert (await ask(runtime, "m")).fallback
    assert runtime.predictions.missed == {("m", "1.0.1"): 1}
    runtime.close()
    assert HealthLog(registry.backend.database).window(60, model="m", version="1.0.1").fallback_rate == 1.0


async def test_requests_that_name_a_version_are_reported_apart_and_seen_together(trial, registry):
    from crossfade.core.identity import ModelRef
    from crossfade.traffic.health import PINNED

    trial = trial()
    for ref in ("m", "m", "m:1.0.0"):
        await trial.ask(ref=ModelRef.parse(ref))
    trial.runtime.close()
    log = HealthLog(registry.backend.database)
    (report, *_) = log.since({}, 0, model="m")
    assert report.versions["1.0.0"].requests + report.versions["1.0.0" + PINNED].requests == 3
    assert report.versions["1.0.0" + PINNED].requests == 1
    assert log.window(60, model="m", version="1.0.0").requests == 3

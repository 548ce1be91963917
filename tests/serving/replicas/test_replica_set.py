"""Replicas answer together, come back, are left alone when they fail, and never all at once."""

import asyncio
import math

import msgspec
import numpy as np
import pytest

from crossfade.errors import InsufficientResourcesError, ModelCrashedError, NotServedError, PredictionError
from crossfade.serving.replicas import ejection, replica_set, scaling
from crossfade.serving.replicas.lane import LaneState
from crossfade.traffic.deployed import Probe, ReplicaCounts, ReplicaRange
from tests.serving.replicas.runners import MEGABYTE, FakeReplica, terms
from tests.traffic.support import eventually

CRASH = ModelCrashedError(ref="m:1.0.0", problem="its process was ended by SIGSEGV")
SLOW = Probe(interval_seconds=3600.0)
FAST = Probe(interval_seconds=0.02, timeout_seconds=0.05, failure_threshold=2)


async def soon(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never happened")


async def test_requests_go_to_whoever_is_idle(bench):
    bench = bench(terms(3), rows=1)
    one, two, three = bench.template.made
    for replica in (one, two, three):
        replica.gate.clear()
    asked = [bench.ask(value) for value in (1.0, 2.0, 3.0)]
    await soon(lambda: one.calls + two.calls + three.calls >= 3 + 2)  # two of them have answered a question each
    three.gate.set()
    more = [bench.ask(value) for value in (4.0, 5.0)]
    answers = [(await future)["predict"].tolist() for future in more]
    assert answers == [[8.0], [10.0]], "the idle one answers while the others are busy"
    one.gate.set()
    two.gate.set()
    assert [(await future)["predict"].tolist() for future in asked] == [[2.0], [4.0], [6.0]]


async def test_what_waits_is_shared_among_them(bench):
    bench = bench(terms(2))
    for replica in bench.template.made:
        replica.gate.clear()
    held = [bench.ask(), bench.ask()]
    await soon(lambda: bench.batcher.waiting == 0)
    waiting = [bench.ask(float(value)) for value in range(10)]
    before = bench.counters.batch_rows.count
    for replica in bench.template.made:
        replica.gate.set()
    await asyncio.gather(*held, *waiting)
    assert bench.counters.batch_rows.count - before >= 2 + 2, "neither took all ten"


async def test_one_that_ends_while_it_is_idle_fails_nobody(bench):
    bench = bench(terms(2, probe=SLOW))
    for replica in bench.template.made:
        replica.alive = False
    answers = await asyncio.gather(*(bench.ask(float(value)) for value in range(20)))
    assert [answer["predict"].tolist() for answer in answers] == [[2.0 * value] for value in range(20)]
    await soon(lambda: bench.set.report().restarts == 2)
    await soon(lambda: bench.set.report().problem.endswith("SIGKILL"))


async def test_one_that_ends_fails_what_it_was_asked_and_comes_back(bench):
    bench = bench(terms(1, probe=SLOW))
    bench.template.made[0].fails = CRASH
    with pytest.raises(ModelCrashedError, match="SIGSEGV"):
        await bench.ask()
    bench.template.made[0].fails = None
    assert (await bench.ask(3.0))["predict"].tolist() == [6.0]
    report = bench.set.report()
    assert (report.restarts, report.replicas) == (1, ReplicaCounts(1, 1))
    assert "SIGSEGV" in report.problem


async def test_what_ended_under_former_terms_is_no_fault_of_the_new_ones(bench):
    bench = bench(terms(1, probe=SLOW))
    bench.template.made[0].alive = False
    await soon(lambda: bench.set.report().restarts == 1 and bench.set.report().complete)
    bench.set.adjust(terms(1, probe=FAST))
    assert bench.set.report().restarts == 1, "it is the same generation"
    bench.set.adjust(msgspec.structs.replace(terms(1), generation=terms(1).generation + 1))
    assert bench.set.report().restarts == 0


async def test_an_idle_one_that_hangs_is_ended_by_a_probe(bench):
    bench = bench(terms(2, probe=FAST))
    hanging, _ = bench.template.made
    hanging.gate.clear()
    await soon(lambda: hanging.starts == 2 or not hanging.alive)
    hanging.gate.set()
    await soon(lambda: bench.set.report().replicas.ready == 2)
    assert hanging.starts == 2
    assert bench.set.report().restarts == 1


async def test_one_that_answers_probes_wrongly_is_started_anew(bench):
    bench = bench(terms(2, probe=FAST))
    wrong, _ = bench.template.made
    wrong.wrong = True
    await soon(lambda: not wrong.alive or wrong.starts == 2)
    wrong.wrong = False
    await soon(lambda: wrong.starts >= 2 and bench.set.width == 2)


async def test_a_busy_one_is_not_probed(bench):
    bench = bench(terms(1, probe=FAST))
    (replica,) = bench.template.made
    replica.gate.clear()
    asked = bench.ask()
    await asyncio.sleep(0.2)
    assert replica.alive
    replica.gate.set()
    await asked


async def test_an_outlier_is_left_alone_and_taken_back(bench, monkeypatch):
    monkeypatch.setattr(replica_set, "ejection_seconds", lambda _times: 0.2)
    bench = bench(terms(2, probe=SLOW))
    bad, _ = bench.template.made
    lane = bench.lane_of(bad)
    lane._failures = ejection.FAILURES_IN_A_ROW
    await soon(lambda: lane.ejected)
    calls = bad.calls
    await asyncio.gather(*(bench.ask() for _ in range(20)))
    assert bad.calls == calls
    assert bench.set.report().replicas == ReplicaCounts(2, 1, ejected=1)
    await soon(lambda: not lane.ejected)
    assert bench.set.report().ejections == 1
    assert bench.set.report().problem == "replica 0: it is left alone for 0 s: it failed 5 times in a row"


async def test_the_last_one_that_answers_is_never_left_alone(bench):
    bench = bench(terms(2, probe=SLOW))
    for lane in bench.set.lanes:
        lane._failures = 10 * ejection.FAILURES_IN_A_ROW
    await soon(lambda: bench.set.ejections == 1 and bench.set.width == 1)
    assert (await bench.ask())["predict"].tolist() == [2.0]


async def test_one_that_was_left_alone_answers_when_nobody_else_does(bench):
    bench = bench(terms(2, probe=SLOW))
    bad, good = bench.template.made
    bench.lane_of(bad)._failures = ejection.FAILURES_IN_A_ROW
    await soon(lambda: bench.lane_of(bad).ejected)
    good.broken, good.alive = True, False
    assert (await bench.ask())["predict"].tolist() == [2.0]
    assert bench.set.report().replicas.restarting == 1


async def test_errors_of_one_alone_make_it_an_outlier(bench):
    bench = bench(terms(2, probe=SLOW), rows=1)
    bad, _ = bench.template.made
    bad.fails, bad.fails_on = PredictionError(ref="m:1.0.0", problem="MemoryError"), 13.0
    lane = bench.lane_of(bad)
    async with asyncio.timeout(60):
        while not lane.ejected:  # how many requests each of them gets is up to the threads
            await asyncio.gather(*(bench.ask(13.0) for _ in range(20)), return_exceptions=True)


async def test_one_that_always_fails_is_found_however_seldom_somebody_asks(bench, monkeypatch):
    monkeypatch.setattr(replica_set, "WINDOW_SECONDS", 0.0)
    monkeypatch.setattr(replica_set, "TICK_SECONDS", 0.01)
    bench = bench(terms(3, probe=SLOW), rows=1)
    bad = bench.template.made[0]
    bad.fails, bad.fails_on = PredictionError(ref="m:1.0.0", problem="it lost a file"), 13.0
    lane, failed = bench.lane_of(bad), 0
    async with asyncio.timeout(60):
        while not lane.ejected:
            (answer,) = await asyncio.gather(bench.ask(13.0), return_exceptions=True)
            failed += isinstance(answer, PredictionError)
            await asyncio.sleep(0.03)  # nobody else asks, and the supervisor looks many times meanwhile
    assert failed <= 3 * 7


async def test_bad_requests_that_one_gets_because_the_others_are_busy_are_not_its_fault(bench, monkeypatch):
    monkeypatch.setattr(replica_set, "TICK_SECONDS", 0.01)
    bench = bench(terms(2, probe=SLOW), rows=1)
    busy, healthy = bench.template.made
    await asyncio.gather(*(bench.ask() for _ in range(40)))
    busy.gate.clear()
    held = [bench.ask()]
    await soon(lambda: bench.batcher.waiting == 0)
    held.append(bench.ask())  # whoever took the first, the second goes to the one that is free, or waits
    for replica in (busy, healthy):
        replica.fails, replica.fails_on = PredictionError(ref="m:1.0.0", problem="nobody can answer this"), 13.0
    for _ in range(60):
        await asyncio.gather(bench.ask(13.0), return_exceptions=True)
    assert bench.set.ejections == 0
    assert bench.lane_of(healthy).standing().errors <= 1, "a run is one piece of evidence"
    busy.gate.set()
    await asyncio.gather(*held, return_exceptions=True)


async def test_one_that_fails_everything_is_asked_what_it_has_to_know_and_ended(bench):
    bench = bench(terms(1, probe=msgspec.structs.replace(SLOW, failure_threshold=2)), rows=1)
    (replica,) = bench.template.made
    replica.fails = PredictionError(ref="m:1.0.0", problem="it lost its files")
    async with asyncio.timeout(60):
        while replica.alive and replica.starts == 1:
            await asyncio.gather(bench.ask(), return_exceptions=True)
    replica.fails = None
    assert (await bench.ask(3.0))["predict"].tolist() == [6.0]
    assert "failed 2 probes" in bench.set.report().problem or bench.set.report().restarts == 1


async def test_requests_that_share_a_batch_are_one_piece_of_evidence(bench):
    bench = bench(terms(1, probe=SLOW))
    (replica,) = bench.template.made
    replica.gate.clear()
    asked = [bench.ask()]
    await soon(lambda: bench.batcher.waiting == 0)
    asked += [bench.ask() for _ in range(10)]
    replica.fails = PredictionError(ref="m:1.0.0", problem="ten bad requests of one client")
    replica.gate.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(answer, PredictionError) for answer in answers) >= 10
    standing = bench.set.lanes[0].standing()
    assert standing.errors <= standing.batches <= 2


async def test_when_all_are_given_up_whoever_waits_hears_so(bench):
    bench = bench(terms(2, probe=SLOW))
    for replica in bench.template.made:
        replica.given_up, replica.alive = "it is quarantined", False
    with pytest.raises(NotServedError, match="quarantined"):
        await bench.ask()
    await soon(lambda: bench.given_up == ["it is quarantined"])
    with pytest.raises(NotServedError, match="quarantined"):
        await bench.ask()
    assert bench.set.report().failed


async def test_one_that_was_given_up_is_replaced(bench, monkeypatch):
    monkeypatch.setattr(replica_set, "REPLACE_SECONDS", 0.05)
    bench = bench(terms(2, probe=SLOW))
    bad, _ = bench.template.made
    bad.given_up, bad.alive = "it is quarantined", False
    await soon(lambda: len(bench.template.made) == 3 and bench.set.width == 2 and bad.closed)
    assert not bench.given_up


async def test_load_starts_more_and_quiet_ends_them(bench):
    bench = bench(terms(1, 3, probe=SLOW))
    bench.set._scaler = scaling.Scaler(0.05, 3600.0)
    for _ in range(3):
        await soon(lambda: bench.set.width == bench.set.wanted)
        for replica in bench.template.made:
            replica.gate.clear()
        asked = [bench.ask() for _ in range(6)]
        wanted = bench.set.wanted
        if wanted < 3:
            await soon(lambda wanted=wanted: bench.set.wanted > wanted)
        for replica in bench.template.made:
            replica.gate.set()
        await asyncio.gather(*asked)
    assert bench.set.wanted == 3
    bench.set._scaler = scaling.Scaler(0.05, 0.05)
    await soon(lambda: bench.set.wanted == 1 and len(bench.set.lanes) == 1)
    assert sum(replica.closed for replica in bench.template.made) == len(bench.template.made) - 1
    assert (await bench.ask())["predict"].tolist() == [2.0]


def test_there_are_no_more_than_fit(bench):
    bench = bench(terms(4), most=2)
    assert (bench.set.wanted, bench.set.width) == (2, 2)


def test_without_memory_no_more_are_started(bench):
    bench = bench(terms(1))
    bench.set.has_room = lambda more: more < MEGABYTE
    bench.set.adjust(terms(3))
    eventually(lambda: "no memory" in bench.set.report().problem)
    assert len(bench.set.lanes) == 1
    bench.set.has_room = lambda more: True
    eventually(lambda: bench.set.width == 3)
    assert bench.set.size_bytes == 10 + 3 * MEGABYTE


def test_other_terms_count_at_once(bench):
    bench = bench(terms(1))
    bench.set.adjust(terms(3, probe=FAST))
    eventually(lambda: bench.set.width == 3)
    bench.set.adjust(terms(2))
    eventually(lambda: len(bench.set.lanes) == 2)
    assert bench.set.report().replicas == ReplicaCounts(2, 2)


def test_terms_that_the_machine_cannot_keep_change_nothing(bench):
    bench = bench(terms(2))

    def refuse(_terms):
        raise InsufficientResourcesError(name="d", what="processors", wanted=99, available=2)

    bench.set._fitting = refuse
    with pytest.raises(InsufficientResourcesError):
        bench.set.adjust(terms(5))
    assert bench.set.terms.replicas == ReplicaRange(2)


def test_a_replica_that_cannot_be_made_is_told(bench):
    bench = bench(terms(1))

    def refuse(_number):
        raise InsufficientResourcesError(name="d", what="GPUs", wanted=1, available=0)

    bench.template.replica = refuse
    bench.set.adjust(terms(2))
    eventually(lambda: "cannot have its GPUs" in bench.set.report().problem)
    assert bench.set.width == 1


def test_a_replica_that_cannot_start_is_tried_again(bench):
    def make(number):
        replica = FakeReplica(number)
        replica.broken = number == 1
        return replica

    bench = bench(terms(1), make=make)
    bench.set.adjust(terms(2))
    eventually(lambda: "cannot be started again" in bench.set.report().problem)
    bench.template.made[1].broken = False
    eventually(lambda: bench.set.width == 2)
    assert bench.set.report().restarts == 0, "it has been started once"


def test_a_lane_whose_thread_ends_has_failed(bench):
    bench = bench(terms(2, probe=SLOW))
    lane = bench.set.lanes[0]
    lane.replica.lost = lambda: 1 / 0
    eventually(lambda: lane.state is LaneState.FAILED and bench.set.width == 1)


def test_closing_closes_everything(bench):
    bench = bench(terms(3))
    bench.batcher.close()
    bench.set.close()
    assert all(replica.closed for replica in bench.template.made)
    assert bench.template.closed
    assert np.isfinite(bench.set.report().utilisation)
    assert math.isfinite(bench.set.cpu_seconds)

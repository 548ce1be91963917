"""Processes report themselves, are waited for, and are cleaned up after."""

import logging
import os
import re
import subprocess
import threading
from datetime import timedelta

import pytest
from sqlalchemy import select

from crossfade.core.identity import new_id
from crossfade.errors import LoadFailedError, ModelNotFoundError
from crossfade.registry.requests import ProcessStatus
from crossfade.storage.changes import verify_audit
from crossfade.storage.tables import audit, candidates, processes
from crossfade.traffic import fleet as fleet_module
from crossfade.traffic import machine
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.heartbeat import Heartbeat
from crossfade.traffic.machine import new_process_id
from crossfade.traffic.unloading import set_unloaded
from tests.traffic.support import FAST, Clock, eventually, publish_all

REF = "churn:1.0.0"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def fleet(registry, clock):
    publish_all(registry, "churn", "1.0.0", "1.1.0")
    return Fleet(registry.backend.database, FAST, clock)


def status(clock, process="a", revision=99, state="ready", problem="", *, pid=1):
    return ProcessStatus(process, "host", pid, clock(), clock(), revision, {REF: (state, problem)})


def rows(database, table):
    with database.read() as connection:
        return connection.execute(select(table)).all()


# --- reports ---


def test_a_report_comes_back_as_it_was(any_registry, clock):
    fleet = Fleet(any_registry.backend.database, FAST, clock)
    first = status(clock, "a", 7, "failed", "no `luck`, ünd {quotes}")
    fleet.report(first)
    assert fleet.live() == (first,)
    second = status(clock, "a", 8)
    fleet.report(second)
    assert fleet.live() == (second,), "a process has one row"
    fleet.report(status(clock, "b"))
    assert [process.process for process in fleet.live()] == ["a", "b"]
    fleet.leave("a")
    fleet.leave("a")
    assert [process.process for process in fleet.live()] == ["b"]


def test_after_three_missed_heartbeats_a_process_is_silent_and_after_thirty_it_counts_as_gone(fleet, clock):
    fleet.report(status(clock))
    clock.advance(3 * FAST.heartbeat_seconds - 0.001)
    assert len(fleet.live()) == 1
    clock.advance(0.001)
    assert fleet.live() == ()
    assert len(fleet.members()) == 1, "it may still answer"
    clock.advance(27 * FAST.heartbeat_seconds)
    assert len(fleet.members()) == 1
    clock.advance(0.001)
    assert fleet.members() == (), "whether or not somebody has swept"


def test_a_process_of_this_machine_that_has_ended_is_forgotten_sooner(fleet, clock, database):
    ended = subprocess.Popen(["true"])
    ended.wait()
    elsewhere = f"{new_id()}.0123456789abcdef"
    fleet.report(status(clock, new_process_id(), pid=ended.pid))
    fleet.report(status(clock, new_process_id(), pid=os.getpid()))
    fleet.report(status(clock, elsewhere, pid=ended.pid))
    clock.advance(6 * FAST.heartbeat_seconds)
    assert len(fleet.members()) == 3, "whoever waits for it has to see that it fell silent"
    clock.advance(0.001)
    fleet.sweep()
    assert {row.pid for row in rows(database, processes) if row.process != elsewhere} == {os.getpid()}
    assert elsewhere in {row.process for row in rows(database, processes)}, "its pid says nothing here"


def test_where_the_system_does_not_name_the_machine_no_process_is_known_to_have_ended(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_BOOT", tmp_path / "missing")
    machine.this_machine.cache_clear()
    try:
        assert not machine.has_ended(machine.new_process_id(), 2**22)
    finally:
        machine.this_machine.cache_clear()


def test_the_dead_are_swept(fleet, clock, database):
    fleet.report(status(clock))
    candidate = fleet.add_candidate("churn", "1.0.0", principal="ann")
    clock.advance(30 * FAST.heartbeat_seconds)
    fleet.report(status(clock, "b"))
    fleet.sweep()
    assert len(rows(database, processes)) == 2, "not yet"
    clock.advance(0.001)
    fleet.sweep()
    assert [row.process for row in rows(database, processes)] == ["b"]
    assert len(rows(database, candidates)) == 1
    clock.advance(2 * FAST.ready_timeout_seconds)
    fleet.sweep()
    assert rows(database, candidates) == []
    with database.read() as connection:
        last = connection.execute(select(audit).order_by(audit.c.seq.desc())).first()
        verify_audit(connection)
    assert (last.principal, last.action, last.subject) == ("sweep", "candidate.remove", candidate.ref)


def test_a_sweep_with_nothing_to_do_writes_nothing(fleet, clock, database, monkeypatch):
    fleet.report(status(clock))
    monkeypatch.setattr(type(database), "write", None)
    fleet.sweep()


# --- candidates ---


def test_candidates_come_and_go_with_a_revision_each(any_registry, clock):
    database = any_registry.backend.database
    publish_all(any_registry, "churn", "1.0.0")
    fleet = Fleet(database, FAST, clock)
    candidate = fleet.add_candidate("churn", "1.0.0", principal="ann")
    assert candidate.revision == fleet.revision()
    assert (candidate.ref, candidate.requested_at) == (REF, rows(database, candidates)[0].requested_at)
    fleet.remove_candidate(candidate, principal="ann")
    assert fleet.revision() == candidate.revision + 1
    fleet.remove_candidate(candidate, principal="ann")
    assert fleet.revision() == candidate.revision + 1, "there was nothing left to remove"


def test_a_candidate_of_somebody_else_is_left_alone(fleet, clock, database):
    first = fleet.add_candidate("churn", "1.0.0", principal="ann")
    clock.advance(1)
    second = fleet.add_candidate("churn", "1.0.0", principal="bob")
    fleet.remove_candidate(first, principal="ann")
    assert [row.requested_at for row in rows(database, candidates)] == [second.requested_at]
    fleet.remove_candidate(second, principal="bob")
    assert rows(database, candidates) == []


# --- waiting ---


@pytest.fixture
def candidate(fleet):
    return fleet.add_candidate("churn", "1.0.0", principal="ann")


@pytest.fixture
def meanwhile(monkeypatch):
    """Let something happen at each look instead of waiting."""

    def plan(*steps):
        remaining = list(steps)
        monkeypatch.setattr(fleet_module.time, "sleep", lambda seconds: remaining and remaining.pop(0)())

    return plan


def test_without_processes_there_is_nobody_to_wait_for(fleet, candidate):
    assert fleet.wait_ready(candidate, 1) == ()
    assert fleet.wait_revision(10_000, 1) == ()


def test_every_process_must_be_ready(fleet, candidate, clock, meanwhile):
    fleet.report(status(clock, "a"))
    fleet.report(status(clock, "b", state="loading"))
    meanwhile(
        lambda: fleet.report(status(clock, "b", state="warming")),
        lambda: fleet.report(status(clock, "c", state="loading")),
        lambda: fleet.report(status(clock, "b")),
        lambda: fleet.report(status(clock, "c")),
    )
    assert [process.process for process in fleet.wait_ready(candidate, 5)] == ["a", "b", "c"]


def test_the_first_failure_ends_the_waiting(fleet, candidate, clock):
    fleet.report(status(clock, "a", state="loading"))
    fleet.report(status(clock, "b", state="failed", problem="wrong answers"))
    with pytest.raises(LoadFailedError, match=r"`churn:1.0.0` cannot be loaded: wrong answers"):
        fleet.wait_ready(candidate, 5)


def test_a_failure_from_before_the_request_does_not_count(fleet, candidate, clock, meanwhile):
    fleet.report(status(clock, "a", candidate.revision - 1, "failed", "long ago"))
    meanwhile(lambda: fleet.report(status(clock, "a", candidate.revision)))
    assert len(fleet.wait_ready(candidate, 5)) == 1


def test_waiting_ends(fleet, candidate, clock):
    fleet.report(status(clock, "a"))
    fleet.report(status(clock, "b", state="loading", pid=77))
    with pytest.raises(LoadFailedError, match="host/77 did not have it ready within 0 seconds"):
        fleet.wait_ready(candidate, 0)


def test_a_process_that_falls_silent_while_loading_is_a_failure(fleet, candidate, clock, meanwhile):
    fleet.report(status(clock, "a", state="loading", pid=77))

    def die():
        clock.advance(3 * FAST.heartbeat_seconds)

    meanwhile(die)
    with pytest.raises(LoadFailedError, match="host/77 fell silent while it loaded"):
        fleet.wait_ready(candidate, 5)


def test_a_silent_process_is_waited_for_and_then_named(fleet, candidate, clock, meanwhile):
    fleet.report(status(clock, "a", state="loading", pid=77))
    clock.advance(3 * FAST.heartbeat_seconds)
    fleet.report(status(clock, "b"))

    def listen():
        clock.advance(6 * FAST.heartbeat_seconds)
        fleet.report(status(clock, "b"))

    meanwhile(lambda: None, listen)
    problem = (
        "process host/77 has been silent since 2026-01-31 09:30:00 UTC and may still answer; "
        "end it if it hangs, or try again after 09:30:15, when it counts as gone"
    )
    with pytest.raises(LoadFailedError, match=re.escape(problem)):
        fleet.wait_ready(candidate, 5)


def test_a_silent_process_that_comes_back_counts_again(fleet, candidate, clock, meanwhile):
    fleet.report(status(clock, "a", state="loading"))
    clock.advance(3 * FAST.heartbeat_seconds)
    meanwhile(lambda: None, lambda: fleet.report(status(clock, "a")))
    assert [process.process for process in fleet.wait_ready(candidate, 5)] == ["a"]


def test_a_silent_process_that_is_gone_at_last_is_not_waited_for(fleet, candidate, clock, meanwhile):
    fleet.report(status(clock, "a", state="loading"))
    clock.advance(28 * FAST.heartbeat_seconds)
    fleet.report(status(clock, "b"))
    meanwhile(lambda: None, lambda: clock.advance(2 * FAST.heartbeat_seconds + 0.001))
    assert [process.process for process in fleet.wait_ready(candidate, 5)] == ["b"]


def test_the_last_report_of_a_silent_process_proves_the_version_it_is_about(fleet, candidate, clock):
    registered_at = clock()
    clock.advance(1)
    fleet.report(status(clock, "a", revision=candidate.revision - 1))
    clock.advance(3 * FAST.heartbeat_seconds)
    assert [process.process for process in fleet.wait_ready(candidate, 5, registered_at=registered_at)] == ["a"]
    with pytest.raises(LoadFailedError, match="host/1 did not have it ready"):
        fleet.wait_ready(candidate, 0, registered_at=clock())


def test_when_every_process_leaves_while_it_is_waited_for_nothing_is_proven(fleet, candidate, clock, meanwhile):
    fleet.report(status(clock, "a", state="loading"))
    meanwhile(lambda: fleet.leave("a"))
    with pytest.raises(LoadFailedError, match="every process ended before it had the version ready"):
        fleet.wait_ready(candidate, 5)


def test_a_process_that_leaves_in_good_order_is_not_waited_for(fleet, candidate, clock, meanwhile):
    fleet.report(status(clock, "a"))
    fleet.report(status(clock, "b", state="loading"))
    meanwhile(lambda: fleet.leave("b"))
    assert [process.process for process in fleet.wait_ready(candidate, 5)] == ["a"]


def test_waiting_for_a_revision_tells_who_is_late(fleet, clock, meanwhile):
    fleet.report(status(clock, "a", revision=10))
    fleet.report(status(clock, "b", revision=9))
    assert [process.process for process in fleet.wait_revision(10, 0)] == ["b"]
    meanwhile(lambda: fleet.report(status(clock, "b", revision=11)))
    assert fleet.wait_revision(10, 5) == ()


# --- heartbeat ---


@pytest.fixture
def beating(fleet):
    """A heartbeat whose report a test can change, over a database that it can take away."""

    class Beating:
        def __init__(self, fleet):
            self.says = (1, {REF: ("loading", "")})
            settings = FAST.model_copy(update={"heartbeat_seconds": 0.01})
            self.heartbeat = Heartbeat(fleet, settings, lambda: self.says)

    fleet = Fleet(fleet._database, FAST)
    beating = Beating(fleet)
    beating.fleet = fleet
    yield beating
    beating.heartbeat.close()


def test_a_process_reports_itself(beating):
    beating.heartbeat.start()
    (seen,) = beating.fleet.live()
    assert seen.process == beating.heartbeat.process
    assert (seen.revision, seen.slots) == (1, {REF: ("loading", "")})
    eventually(lambda: beating.fleet.live()[0].seen_at > seen.seen_at)
    assert beating.fleet.live()[0].started_at == seen.started_at
    beating.heartbeat.close()
    assert beating.fleet.live() == ()


def test_a_change_is_reported_without_waiting_for_the_next_beat(registry, fleet):
    says = [(1, {})]
    heartbeat = Heartbeat(fleet, FAST.model_copy(update={"heartbeat_seconds": 3600}), lambda: says[-1], Clock())
    heartbeat.start()
    says.append((2, {REF: ("ready", "")}))
    heartbeat.report_soon()
    eventually(lambda: fleet.live()[0].revision == 2)
    heartbeat.close()


def test_an_outage_interrupts_reports_and_nothing_else(beating, database, caplog):
    caplog.set_level(logging.WARNING)
    beating.heartbeat.start()
    database.away = True
    eventually(lambda: "cannot report itself" in caplog.text)
    beating.says = (2, {})
    database.away = False
    eventually(lambda: beating.fleet.live()[0].revision == 2)
    assert caplog.text.count("cannot report itself") == 1


def test_leaving_without_a_database_is_quiet(beating, database, caplog):
    beating.heartbeat.start()
    database.away = True
    beating.heartbeat.close()
    assert "was not told that this process ends" in caplog.text
    assert not [thread for thread in threading.enumerate() if thread.name == "crossfade-heartbeat"]


def test_a_heartbeat_that_starts_without_a_database_reports_when_it_is_back(beating, database):
    database.away = True
    beating.heartbeat.start()
    database.away = False
    eventually(lambda: len(beating.fleet.live()) == 1)


def test_sweeping_is_part_of_the_beat(beating, database, clock):
    Fleet(database, FAST, lambda: clock() - timedelta(days=1)).report(status(clock, "old"))
    old = ProcessStatus("old", "host", 1, clock() - timedelta(days=9), clock() - timedelta(days=9), 1)
    beating.fleet.report(old)
    beating.heartbeat.start()
    eventually(lambda: [row.process for row in rows(database, processes)] == [beating.heartbeat.process])


# --- unloading ---


def test_the_wish_to_unload_is_a_change(any_registry):
    database = any_registry.backend.database
    publish_all(any_registry, "churn", "1.0.0")
    before = database.revision()
    assert set_unloaded(database, "churn", unloaded=True, principal="ann") == before + 1
    assert any_registry.model("churn").unloaded
    assert set_unloaded(database, "churn", unloaded=True, principal="ann") == before + 1
    assert set_unloaded(database, "churn", unloaded=False, principal="ann") == before + 2
    assert not any_registry.model("churn").unloaded
    with database.read() as connection:
        actions = connection.scalars(select(audit.c.action).order_by(audit.c.seq)).all()
        verify_audit(connection)
    assert actions[-2:] == ["model.unload", "model.load"]


def test_an_unknown_model_cannot_be_unloaded(database):
    with pytest.raises(ModelNotFoundError):
        set_unloaded(database, "churn", unloaded=True, principal="ann")

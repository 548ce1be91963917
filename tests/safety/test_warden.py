"""A process keeps its rules: from snapshots, from the files of its machine, and from what its own answers were."""

import logging
from datetime import timedelta

import pytest

from crossfade.errors import DatabaseUnavailableError, ModelNotFoundError
from crossfade.safety.inspection import Finding, Findings
from crossfade.safety.latch import Latch
from crossfade.safety.levels import Level
from crossfade.safety.rules import Emergency, Override, Rules, SafetyPolicy
from crossfade.safety.specs import Constant, RangeCheck, SafetyPolicySpec
from crossfade.safety.violations import ViolationLog, list_violations
from crossfade.safety.warden import PRINCIPAL, Warden
from crossfade.settings import SafetySettings
from crossfade.storage.filesystem import LocalFileSystem
from tests.traffic.support import eventually

HIGH = RangeCheck(name="high", output="predict", maximum=10)
CRITICAL = Findings(Level.CRITICAL, (Finding("high", Level.CRITICAL, 1, "predict=1e9"),))
UNSAFE = Findings(Level.UNSAFE, (Finding("high", Level.UNSAFE, 1, "predict=11.0"),))


class Fleet:
    """Whoever else is told, as the database would tell them."""

    def __init__(self):
        self.told = []
        self.revision = 100
        self.error = None

    def __call__(self, model, mode, reason):
        if self.error is not None:
            raise self.error
        known = any(item[:2] == (model, mode) for item in self.told)
        self.told.append((model, mode, reason))
        if known:
            return 0
        self.revision += 1
        return self.revision


@pytest.fixture
def fleet():
    return Fleet()


@pytest.fixture
def warden(database, tmp_path, clock, fleet):
    made = Warden(tmp_path / "home", ViolationLog(database, SafetySettings(), clock), fleet, 0.01, clock)
    yield made
    made.close()


@pytest.fixture
def latch(tmp_path):
    return Latch(tmp_path / "home")


def rules(clock, latch="", overrides=(), emergencies=()):
    fallback = (Constant(outputs={"predict": 1}),)
    spec = SafetyPolicySpec(model="m", checks=(HIGH,), latch=latch, fallback=fallback)
    return Rules((SafetyPolicy(spec, 1, clock.now, "ann"),), tuple(overrides), tuple(emergencies))


def mode(warden, model="m"):
    guard = warden.guard(model)
    return None if guard is None or guard.emergency is None else guard.emergency.mode


# --- following ---


def test_without_rules_there_is_one_attribute_and_it_is_none(warden):
    assert warden.guards is None
    warden.follow(Rules(), 1)
    assert warden.guards is None
    assert warden.guard("m") is None


def test_rules_of_a_snapshot_are_used_and_given_up(warden, clock):
    warden.follow(rules(clock), 1)
    assert warden.guard("m").spec.checks == (HIGH,)
    before = warden.guards
    warden.follow(rules(clock), 2)
    assert warden.guards is before, "nothing is compiled again when nothing changed"
    warden.follow(Rules(), 3)
    assert warden.guards is None


def test_an_override_expires_without_a_new_snapshot(warden, clock):
    off = Override("id", "m", "high", "", "why", clock.now + timedelta(seconds=60), clock.now, "ann")
    warden.follow(rules(clock, overrides=[off]), 1)
    before = warden.guards
    clock.advance(59)
    warden.turn()
    assert warden.guards is before
    clock.advance(1)
    warden.turn()
    assert warden.guards is not before
    assert warden.guards.due_at is None


# --- this machine ---


def test_a_file_stops_everything_and_its_end_lets_go(warden, latch):
    latch.put("", "block", "why", "ann")
    warden.turn()
    assert mode(warden) == "block"
    latch.remove("", "over", "ann")
    warden.turn()
    assert warden.guards is None


def test_a_process_that_starts_in_an_emergency_begins_stopped(latch, database, tmp_path, clock, fleet):
    latch.put("m", "block", "why", "ann")
    warden = Warden(tmp_path / "home", ViolationLog(database, SafetySettings(), clock), fleet, 0.01, clock)
    assert mode(warden) == "block", "before anything was started or followed"
    warden.follow(Rules(), 1)
    assert mode(warden) == "block"


def test_files_and_snapshots_add_up(warden, latch, clock):
    everything = Emergency("", "fall_back", "why", clock.now, "ann")
    warden.follow(rules(clock, emergencies=[everything]), 1)
    assert mode(warden) == "fall_back"
    latch.put("m", "block", "why", "ann")
    warden.turn()
    assert mode(warden) == "block"
    warden.follow(rules(clock), 2)
    assert mode(warden) == "block", "a snapshot ends nothing that is only about this machine"
    latch.remove("m", "over", "ann")
    warden.turn()
    assert mode(warden) is None


def test_the_thread_sees_files_by_itself(warden, latch):
    warden.start()
    latch.put("", "block", "why", "ann")
    eventually(lambda: mode(warden) == "block")
    latch.remove("", "over", "ann")
    eventually(lambda: warden.guards is None)


def test_a_machine_without_a_database_is_stopped_all_the_same(warden, latch, database):
    database.away = True
    warden.start()
    latch.put("m", "block", "why", "ann")
    eventually(lambda: mode(warden) == "block")


def test_a_beginning_and_an_end_are_logged(warden, latch, caplog):
    with caplog.at_level(logging.WARNING):
        latch.put("m", "block", "it burns", "ann")
        warden.turn()
        latch.remove("m", "over", "ann")
        warden.turn()
    assert "m=block: it burns" in caplog.text
    assert "has ended: m" in caplog.text


# --- critical answers ---


def test_a_violation_is_counted_and_stops_nothing(warden, clock, database):
    warden.follow(rules(clock, latch="block"), 1)
    warden.found(warden.guard("m"), "1.0.0", UNSAFE, "constant")
    assert mode(warden) is None
    warden.close()
    (seen,) = list_violations(database).items
    assert (seen.check, seen.instead) == ("high", "constant")


def test_a_critical_answer_is_told_but_stops_nothing_unless_the_policy_says_so(warden, clock, caplog):
    warden.follow(rules(clock), 1)
    for _ in range(1000):
        warden.found(warden.guard("m"), "1.0.0", CRITICAL)
    assert mode(warden) is None
    assert caplog.text.count("a critical answer of m:1.0.0: high (predict=1e9)") == 1, "not once for each of a flood"


@pytest.mark.parametrize("latching", ["block", "fall_back"])
def test_a_critical_answer_stops_the_model_here_and_then_everywhere(warden, clock, fleet, latching):
    warden.follow(rules(clock, latch=latching), 1)
    warden.found(warden.guard("m"), "1.0.0", CRITICAL)
    assert mode(warden) == latching, "at once, before anybody is told"
    warden.found(warden.guard("m"), "1.0.0", CRITICAL)
    warden.tell()
    ((model, told, reason),) = fleet.told
    assert (model, told) == ("m", latching)
    assert "1.0.0: high (predict=1e9)" in reason
    warden.tell()
    assert len(fleet.told) == 1


def test_the_database_decides_when_it_ends(warden, clock, fleet):
    warden.follow(rules(clock, latch="block"), 1)
    warden.found(warden.guard("m"), "1.0.0", CRITICAL)
    warden.tell()
    warden.follow(rules(clock, latch="block"), 2)
    assert mode(warden) == "block", "a snapshot from before the emergency ends nothing"
    stopped = Emergency("m", "block", "why", clock.now, PRINCIPAL)
    warden.follow(rules(clock, latch="block", emergencies=[stopped]), fleet.revision)
    assert mode(warden) == "block"
    warden.follow(rules(clock, latch="block"), fleet.revision + 1)
    assert mode(warden) is None, "a person has ended it"
    warden.found(warden.guard("m"), "1.0.0", CRITICAL)
    assert mode(warden) == "block", "and the next critical answer begins another one"


def test_what_another_process_told_already_is_not_told_twice(warden, clock, fleet):
    fleet("m", "block", "of somebody else")
    warden.follow(rules(clock, latch="block"), 1)
    warden.found(warden.guard("m"), "1.0.0", CRITICAL)
    warden.tell()
    assert mode(warden) == "block", "until the rules say it"
    stopped = Emergency("m", "block", "why", clock.now, PRINCIPAL)
    warden.follow(rules(clock, latch="block", emergencies=[stopped]), 101)
    assert mode(warden) == "block"
    warden.follow(rules(clock, latch="block"), 102)
    assert mode(warden) is None


def test_what_was_followed_already_when_it_is_told(warden, clock, fleet):
    warden.follow(rules(clock, latch="block"), 500)
    warden.found(warden.guard("m"), "1.0.0", CRITICAL)
    warden.tell()
    assert warden._latched == {}, "the rules at 500 are newer than the emergency at 101"


def test_without_a_database_the_machine_is_told(warden, clock, fleet, latch):
    fleet.error = DatabaseUnavailableError(problem="it is away")
    warden.follow(rules(clock, latch="block"), 1)
    warden.found(warden.guard("m"), "1.0.0", CRITICAL)
    warden.tell()
    warden.tell()
    (told,) = latch.read()
    assert (told.model, told.mode, told.started_by) == ("m", "block", PRINCIPAL)
    fleet.error = None
    warden.turn()
    warden.tell()
    assert [item[0] for item in fleet.told] == ["m"], "the others are told as soon as that is possible"


def test_a_person_can_end_on_the_machine_what_nobody_else_was_told(warden, clock, fleet, latch):
    fleet.error = DatabaseUnavailableError(problem="it is away")
    warden.follow(rules(clock, latch="block"), 1)
    warden.found(warden.guard("m"), "1.0.0", CRITICAL)
    warden.tell()
    warden.turn()
    latch.remove("m", "it was a test", "ann")
    warden.turn()
    assert mode(warden) is None
    warden.tell()
    assert latch.read() == ()


def test_a_model_that_was_deleted_meanwhile_is_no_trouble(warden, clock, fleet, latch):
    fleet.error = ModelNotFoundError(name="m")
    warden.follow(rules(clock, latch="block"), 1)
    warden.found(warden.guard("m"), "1.0.0", CRITICAL)
    warden.tell()
    assert mode(warden) == "block"


def test_a_disk_that_is_full_stops_the_process_all_the_same(warden, clock, fleet, monkeypatch, caplog):
    fleet.error = DatabaseUnavailableError(problem="it is away")
    monkeypatch.setattr(LocalFileSystem, "open_new", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    warden.follow(rules(clock, latch="block"), 1)
    warden.found(warden.guard("m"), "1.0.0", CRITICAL)
    warden.tell()
    assert mode(warden) == "block"
    assert "cannot be written to this machine's disk" in caplog.text


# --- the history ---


def test_the_thread_writes_the_history_while_nothing_ends(warden, clock, database, monkeypatch):
    monkeypatch.setattr("crossfade.safety.warden._FLUSH_SECONDS", 0.01)
    warden.start()
    warden.follow(rules(clock), 1)
    warden.found(warden.guard("m"), "1.0.0", UNSAFE)
    eventually(lambda: len(list_violations(database).items) == 1)


def test_a_history_that_cannot_be_written_is_logged_once_and_written_later(warden, clock, database, caplog):
    warden.follow(rules(clock), 1)
    database.away = True
    for _ in range(3):
        warden.found(warden.guard("m"), "1.0.0", UNSAFE)
        warden._write()
    assert caplog.text.count("waits for the database") == 1
    database.away = False
    warden._write()
    assert [item.answers for item in list_violations(database).items] == [3]


def test_what_acts_by_itself_softens_nothing_that_a_person_has_begun_on_this_machine(warden, latch, fleet):
    fleet.error = DatabaseUnavailableError(problem="it is away")
    latch.put("m", "block", "a person said so", "ann")
    warden.turn()
    warden._stop("m", "fall_back", "a critical answer")
    warden.tell()
    (kept,) = latch.read()
    assert (kept.mode, kept.reason) == ("block", "a person said so")


def test_whatever_goes_wrong_the_files_of_the_machine_are_looked_at(warden, latch, fleet):
    fleet.error = ValueError("a bug")
    warden._stop("m", "fall_back", "a critical answer")
    warden.start()
    latch.put("", "block", "it burns", "ann")
    eventually(lambda: warden.guards is not None and warden.guards.everything is not None)

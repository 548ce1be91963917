"""The history: counted by the minute, one example each, bounded in memory and on disk."""

from datetime import timedelta

import pytest

from crossfade.errors import DatabaseUnavailableError, InvalidPageError
from crossfade.safety import violations
from crossfade.safety.inspection import Finding, Findings
from crossfade.safety.levels import Level
from crossfade.safety.reports import Role
from crossfade.safety.violations import ViolationLog, list_violations
from crossfade.settings import SafetySettings


def findings(*names, level=Level.UNSAFE, example="predict=11.0", rows=1):
    return Findings(level, tuple(Finding(name, level, rows, example) for name in names))


@pytest.fixture
def log(database, clock):
    return ViolationLog(database, SafetySettings(), clock)


def listed(database, **options):
    return list_violations(database, **options).items


def test_a_flood_is_one_row(log, database, clock):
    for number in range(5000):
        log.add("m", "1.0.0", findings("high", example=f"predict={number}"), "constant")
    log.flush()
    (found,) = listed(database)
    assert (found.model, found.version, found.check, found.level) == ("m", "1.0.0", "high", Level.UNSAFE)
    assert (found.answers, found.rows, found.instead) == (5000, 5000, "constant")
    assert found.example == "predict=0", "the first one"
    assert found.at == clock.now.replace(second=0, microsecond=0)
    assert log.counts == {("high", "m", "unsafe", "answer"): 5000}


def test_batches_and_processes_add_up(log, database, clock):
    other = ViolationLog(database, SafetySettings(), clock)
    for part in (log, other, log):
        part.add("m", "1.0.0", findings("high", rows=3), "refuse")
        part.flush()
    (found,) = listed(database)
    assert (found.answers, found.rows) == (3, 9)


def test_each_minute_version_check_and_level_has_its_own(log, database, clock):
    log.add("m", "1.0.0", findings("a", "b"))
    log.add("m", "1.0.1", findings("a"))
    log.add("m", "1.0.0", findings("a", level=Level.CRITICAL))
    clock.advance(60)
    log.add("m", "1.0.0", findings("a"))
    log.flush()
    assert len(listed(database)) == 5
    assert len(listed(database, check="a")) == 4
    assert len(listed(database, level="critical")) == 1
    assert len(listed(database, model="other")) == 0
    minutes = sorted(item.at for item in listed(database))
    assert minutes == [clock.now - timedelta(minutes=1)] * 4 + [clock.now]


def test_nothing_seen_writes_nothing(log, database):
    revision = database.revision()
    log.flush()
    assert listed(database) == ()
    assert database.revision() == revision


def test_pages(log, database):
    log.add("m", "1.0.0", findings(*(f"c{number}" for number in range(5))))
    log.flush()
    first = list_violations(database, limit=2)
    second = list_violations(database, limit=2, cursor=first.next_cursor)
    third = list_violations(database, limit=2, cursor=second.next_cursor)
    names = [item.check for page in (first, second, third) for item in page.items]
    assert sorted(names) == [f"c{number}" for number in range(5)]
    assert third.next_cursor == ""
    with pytest.raises(InvalidPageError):
        list_violations(database, cursor="x")


def test_what_cannot_be_written_waits(log, database, clock):
    database.away = True
    log.add("m", "1.0.0", findings("high"))
    with pytest.raises(DatabaseUnavailableError):
        log.flush()
    log.add("m", "1.0.0", findings("high", example="later"))
    clock.advance(60)
    log.add("m", "1.0.0", findings("high"))
    database.away = False
    log.flush()
    assert sorted(item.answers for item in listed(database)) == [1, 2]
    assert log.lost == 0


def test_memory_is_bounded_while_the_database_is_away(log, database, clock, monkeypatch):
    monkeypatch.setattr(violations, "MAX_WAITING", 10)
    database.away = True
    for number in range(30):
        log.add("m", "1.0.0", findings(f"c{number}"))
    with pytest.raises(DatabaseUnavailableError):
        log.flush()
    assert log.lost == 20
    clock.advance(60)
    for number in range(5):
        log.add("m", "1.0.0", findings(f"c{number}"))
    with pytest.raises(DatabaseUnavailableError):
        log.flush()
    assert len(log._waiting) == 10
    assert sum(log.counts.values()) == 35, "the metric has all of them"
    database.away = False
    log.flush()
    assert sum(item.answers for item in listed(database)) + log.lost == 35


def test_old_rows_are_deleted(database, clock):
    log = ViolationLog(database, SafetySettings(retention_days=30), clock)
    log.add("m", "1.0.0", findings("old"))
    log.flush()
    clock.advance(29 * 86_400)
    log.add("m", "1.0.0", findings("new"))
    log.flush()
    log.trim()
    assert len(listed(database)) == 2
    clock.advance(2 * 86_400)
    log.trim()
    assert [item.check for item in listed(database)] == ["new"]


def test_the_oldest_of_too_many_are_deleted(database, clock):
    log = ViolationLog(database, SafetySettings(max_violations=100), clock)
    for _ in range(130):
        log.add("m", "1.0.0", findings("high"))
        clock.advance(60)
    log.flush()
    log.trim()
    kept = list_violations(database, limit=1000).items
    assert len(kept) == 100
    assert max(item.at for item in kept) == clock.now - timedelta(minutes=1)
    assert min(item.at for item in kept) == clock.now - timedelta(minutes=100)


def test_a_newcomer_trims_for_all(database, clock):
    log = ViolationLog(database, SafetySettings(), clock)
    log.add("m", "1.0.0", findings("old"))
    log.flush()
    clock.advance(31 * 86_400)
    ViolationLog(database, SafetySettings(), clock).flush()
    assert listed(database) == ()


def test_what_nobody_asked_for_is_counted_apart(log, database):
    for role in Role:
        log.add("m", "1.0.0", findings("high"), role=role)
        log.add("m", "1.0.0", findings("high"), role=role)
    log.flush()
    assert {item.role: item.answers for item in list_violations(database).items} == dict.fromkeys(Role, 2)
    assert list(log.counts.values()) == [2, 2, 2]

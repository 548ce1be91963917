import time

import pytest

from crossfade.errors import DatabaseUnavailableError
from crossfade.ledger import upkeep as upkeep_module
from crossfade.ledger.gaps import EVERY, Gap, close_gap, find_gaps, incomplete, note_gaps
from crossfade.ledger.store import Place, find_place, move_place
from crossfade.ledger.upkeep import Upkeep
from crossfade.settings import LedgerSettings
from tests.ledger.durability.streams import known_journals, stored_gaps

HOUR_US = 3_600_000_000


def note(database, journal, *gaps, first=0, last=100):
    with database.write() as connection:
        note_gaps(connection, journal, gaps, first, last)


def said(database, experiment, *times):
    with database.read() as connection:
        return incomplete(connection, experiment, *times)


def test_without_gaps_nothing_is_missing(database):
    assert said(database, "late") == ()


def test_gaps_of_journals_add_up_and_are_said(database):
    note(database, "a", Gap("late", "crash", 3), Gap("late", "dropped", 1), Gap("other", "crash", 9))
    note(database, "b", Gap("late", "crash", 4))
    assert said(database, "late") == (
        "7 exposures were lost when a process ended without warning",
        "1 exposures could not be written: the disk was too slow or full, or they held what cannot be kept",
    )


def test_what_nobody_knows_is_said_so(database):
    note(database, "a", Gap("late", "crash", 3))
    note(database, "b", Gap("late", "crash", None))
    note(database, "c", Gap("late", "crash", 3))
    assert said(database, "late") == ("an unknown number of events were lost when a process ended without warning",)


def test_noting_again_replaces(database):
    note(database, "a", Gap("late", "dropped", 3), first=5, last=10)
    note(database, "a", Gap("late", "dropped", 4), first=7, last=20)
    with database.read() as connection:
        assert find_gaps(connection, "late") == [Gap("late", "dropped", 4)]
        row = connection.exec_driver_sql("SELECT first_us, last_us FROM ledger_gaps").one()
    assert tuple(row) == (5, 20)


@pytest.mark.parametrize(
    ("times", "concerned"), [((0,), True), ((100,), True), ((101,), False), ((0, 49), False), ((0, 50), True)]
)
def test_a_gap_of_every_experiment_concerns_those_that_ran_then(database, times, concerned):
    note(database, "a", Gap(EVERY, "damage", None), first=50, last=100)
    assert bool(said(database, "late", *times)) is concerned
    if concerned:
        assert "of any experiment at that time" in said(database, "late", *times)[0]


def test_a_reason_that_was_not_true_is_taken_back(database):
    note(database, "a", Gap(EVERY, "unreachable", None), Gap("late", "crash", 1))
    note(database, "b", Gap(EVERY, "unreachable", None))
    with database.write() as connection:
        close_gap(connection, "a", "unreachable")
        close_gap(connection, "b", "unreachable")
    assert stored_gaps(database) == {("late", "crash"): 1}


# --- upkeep ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def upkeep(database, monkeypatch):
    monkeypatch.setattr(upkeep_module, "_CONTACT_SECONDS", 0.0)
    return Upkeep(database, LedgerSettings())


def seen(database, journal, ago_us, **place):
    with database.write() as connection:
        move_place(connection, journal, Place(**place), time.time_ns() // 1000 - ago_us)


def test_a_journal_that_nobody_reads_any_more_makes_every_experiment_of_its_time_incomplete(database, upkeep):
    seen(database, "mine", 0)
    seen(database, "here", 2 * HOUR_US)
    seen(database, "gone", 2 * HOUR_US)
    seen(database, "done", 2 * HOUR_US, finished=True)
    upkeep.work(Place(1, 2, 3), "mine", {"mine", "here"})
    assert stored_gaps(database) == {(EVERY, "unreachable"): None}
    with database.read() as connection:
        assert {gap.experiment for gap in find_gaps(connection, "late")} == {EVERY}
        assert find_place(connection, "mine") == Place(1, 2, 3)
    upkeep.miss_others({"mine", "here"})  # it is noted once
    assert known_journals(database).keys() == {"mine", "here", "gone", "done"}


def test_one_that_is_heard_of_again_is_complete(database, upkeep):
    seen(database, "slow", 2 * HOUR_US)
    upkeep.miss_others(set())
    assert stored_gaps(database)
    Upkeep(database, LedgerSettings()).work(Place(1, 2, 3), "slow", {"slow"})
    assert stored_gaps(database) == {}


def test_finished_ones_are_forgotten_after_a_day(database, upkeep):
    seen(database, "old", 25 * HOUR_US, finished=True)
    seen(database, "new", 2 * HOUR_US, finished=True)
    upkeep.miss_others(set())
    assert known_journals(database).keys() == {"new"}
    assert stored_gaps(database) == {}


def test_after_the_database_was_away_everybody_has_time_to_be_seen(database):
    upkeep = Upkeep(database, LedgerSettings())
    seen(database, "gone", 2 * HOUR_US)
    upkeep.lost_contact()
    upkeep.work(None, "mine", set())
    assert stored_gaps(database) == {}


def test_pruning_begins_again_after_a_failure(database, upkeep, monkeypatch):
    attempts = []

    def fails_once(*_):
        attempts.append(1)
        if len(attempts) == 1:
            raise DatabaseUnavailableError(problem="away")
        yield 1

    monkeypatch.setattr(upkeep_module, "prune", fails_once)
    upkeep._prune_at = 0.0
    with pytest.raises(DatabaseUnavailableError):
        upkeep.work(None, "mine", set())
    upkeep.work(None, "mine", set())
    assert len(attempts) == 2


def test_old_events_are_pruned_when_it_is_time(database, upkeep, monkeypatch):
    cutoffs, pages = [], []

    def pruned(_, before_us):
        cutoffs.append(before_us)
        for page in range(3):
            pages.append(page)
            yield 7

    monkeypatch.setattr(upkeep_module, "prune", pruned)
    upkeep.work(None, "mine", set())
    assert cutoffs == []
    upkeep._prune_at = 0.0
    for done in (1, 2, 3, 3, 3, 3):  # a page at a time, so that shipping goes on in between
        upkeep.work(None, "mine", set())
        assert len(pages) == done
    (cutoff,) = cutoffs
    assert abs(time.time_ns() // 1000 - cutoff - 400 * 24 * HOUR_US) < HOUR_US

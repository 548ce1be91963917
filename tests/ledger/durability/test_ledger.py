"""A ledger and its database: what it promises in ordinary life, and while something is away or full."""

import asyncio
import os
import resource
import subprocess
import sys
import threading
import time

import msgspec
import pytest

from crossfade.errors import InvalidOutcomesError, LedgerUnavailableError, TooManyOutcomesError
from crossfade.ledger import feed as feed_module
from crossfade.ledger.event_counts import EXPOSURE, OUTCOME
from crossfade.ledger.events import ShadowAnswer
from crossfade.ledger.ledger import Ledger, now_us
from crossfade.settings import LedgerSettings
from crossfade.storage.database import open_database
from crossfade.storage.migrate import migrate
from tests.faults import Fault, FaultProxy
from tests.ledger.durability.streams import (
    PATIENCE,
    Folded,
    an_exposure,
    an_outcome,
    eventually,
    known_journals,
    stored_exposures,
    stored_gaps,
    stored_outcomes,
)

DAY_US = 86_400_000_000


def test_events_reach_the_database_once(database, open_ledger):
    folded = Folded()
    ledger = open_ledger(database, fold=folded)
    events = [an_exposure(number) for number in range(300)]
    for event in events:
        ledger.expose(event)
    assert ledger.record([an_outcome(number) for number in range(100)]) == 100
    assert ledger.record([an_outcome(number) for number in range(50, 150)]) == 100
    ledger.flush(PATIENCE)
    assert stored_exposures(database) == sorted(each.id for each in events)
    assert stored_outcomes(database) == sorted(f"outcome-{number}" for number in range(150))
    assert folded.exposures == [each.id for each in events]
    assert folded.outcomes == [f"outcome-{number}" for number in range(150)]
    assert ledger.counts.shipped == {EXPOSURE: 300, OUTCOME: 150}
    assert ledger.counts.acked == {EXPOSURE: 300, OUTCOME: 200}
    assert stored_gaps(database) == {}


def test_everything_of_an_event_is_kept(database, open_ledger):
    from sqlalchemy import select

    from crossfade.storage.tables import exposures

    ledger = open_ledger(database)
    event = an_exposure(
        propensity=0.25,
        model="m",
        version="1.2.0",
        score=float("inf"),
        latency_seconds=0.125,
        error=True,
        fallback=True,
        unit="Zoë \U0001f600",
        dimensions={"country": "DE\t\n\0"},
        context={"age": 31.5},
        shadows=(ShadowAnswer("treatment", "2.0.0", 0.5),),
    )
    ledger.expose(event)
    ledger.flush(PATIENCE)
    with database.read() as connection:
        row = connection.execute(select(exposures)).one()
    assert row.score is None
    assert (row.propensity, row.latency_seconds, row.error, row.fallback) == (0.25, 0.125, True, True)
    assert (row.unit, row.model, row.version, row.revision) == (event.unit, "m", "1.2.0", 3)
    assert row.dimensions == '{"country":"DE\\t\\n\\u0000"}'
    assert row.context == '{"age":31.5}'
    assert row.shadows == '[["treatment","2.0.0",0.5,0.0,false]]'


def test_nothing_is_touched_before_the_first_event(sqlite, folder, open_ledger):
    ledger = open_ledger(sqlite)
    assert not folder.exists()
    ledger.close()
    ledger.close()
    assert not folder.exists()


def test_an_orderly_end_leaves_nothing_behind(sqlite, folder, open_ledger):
    ledger = open_ledger(sqlite, poll_seconds=60.0)
    ledger.expose(an_exposure())
    ledger.record([an_outcome()])
    ledger.close()
    assert list(folder.iterdir()) == []
    assert len(stored_exposures(sqlite)) == len(stored_outcomes(sqlite)) == 1
    assert stored_gaps(sqlite) == known_journals(sqlite) == {}


def test_after_its_end_outcomes_are_refused_and_exposures_counted(sqlite, open_ledger):
    ledger = open_ledger(sqlite)
    ledger.record([an_outcome(1)])
    ledger.close()
    with pytest.raises(LedgerUnavailableError, match="shutting down"):
        ledger.record([an_outcome(2)])
    ledger.expose(an_exposure())
    assert ledger.counts.dropped[EXPOSURE] == 1
    unused = open_ledger(sqlite)
    unused.close()
    with pytest.raises(LedgerUnavailableError, match="shutting down"):
        unused.record([an_outcome(3)])


def test_an_empty_batch_is_nothing(sqlite, folder, open_ledger):
    assert open_ledger(sqlite).record([]) == 0
    assert asyncio.run(open_ledger(sqlite).record_async([])) == 0
    assert not folder.exists()


def test_a_bad_batch_records_nothing(sqlite, open_ledger):
    ledger = open_ledger(sqlite)
    with pytest.raises(InvalidOutcomesError, match="outcome 1 of the batch"):
        ledger.record([an_outcome(1), an_outcome(2, value=float("nan"))])
    with pytest.raises(TooManyOutcomesError):
        asyncio.run(ledger.record_async([an_outcome()] * 10_001))
    ledger.record([an_outcome(3)])
    ledger.flush(PATIENCE)
    assert stored_outcomes(sqlite) == ["outcome-3"]


def test_times_are_judged_by_the_clock_of_that_moment(sqlite, open_ledger):
    moment = [now_us()]
    ledger = open_ledger(sqlite, clock=lambda: moment[0], retention_days=30)
    ledger.record([an_outcome(1, at_us=moment[0])])
    moment[0] -= 3 * DAY_US  # somebody set the clock
    with pytest.raises(InvalidOutcomesError, match="a day from now"):
        ledger.record([an_outcome(2, at_us=moment[0] + 3 * DAY_US)])
    ledger.record([an_outcome(3, at_us=moment[0])])
    with pytest.raises(InvalidOutcomesError, match="30 days ago"):
        ledger.record([an_outcome(4, at_us=moment[0] - 31 * DAY_US)])
    ledger.flush(PATIENCE)
    assert stored_outcomes(sqlite) == ["outcome-1", "outcome-3"]


async def test_many_at_once_on_an_event_loop(sqlite, open_ledger):
    ledger = open_ledger(sqlite)
    done = await asyncio.gather(*(ledger.record_async([an_outcome(number)]) for number in range(500)))
    assert done == [1] * 500
    await asyncio.to_thread(ledger.flush, PATIENCE)
    assert len(stored_outcomes(sqlite)) == 500


def test_exposures_are_written_within_200_milliseconds_without_anybody_asking(sqlite, folder, open_ledger):
    ledger = open_ledger(sqlite, poll_seconds=60.0)
    ledger.expose(an_exposure())
    eventually(lambda: ledger.counts.spooled[EXPOSURE] == 1)
    assert any(path.stat().st_size for path in folder.glob("*.log"))


def test_exposures_from_many_threads_are_all_counted(sqlite, open_ledger):
    ledger = open_ledger(sqlite)

    def work(thread):
        for number in range(2_000):
            ledger.expose(an_exposure(number, experiment=f"e{thread % 2}"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger._feed.tally().offered == {"e0": 4_000, "e1": 4_000}
    ledger.flush(PATIENCE)
    assert len(stored_exposures(sqlite)) == 8_000


# --- no room ---------------------------------------------------------------------------------------------------------


def test_exposures_without_room_are_dropped_and_make_their_experiment_incomplete(sqlite, open_ledger, monkeypatch):
    ledger = open_ledger(sqlite)
    ledger._feed._max_waiting = 10
    monkeypatch.setattr(feed_module.ExposureFeed, "take", lambda self: None)  # the thread that writes hangs
    for number in range(25):
        ledger.expose(an_exposure(number, experiment="full" if number < 20 else "late"))
    assert ledger.counts.dropped[EXPOSURE] == 15
    eventually(lambda: stored_gaps(sqlite) == {("full", "dropped"): 10, ("late", "dropped"): 5})
    ledger.expose(an_exposure(experiment="late"))
    eventually(lambda: stored_gaps(sqlite) == {("full", "dropped"): 10, ("late", "dropped"): 6})
    monkeypatch.undo()
    ledger.flush(PATIENCE)
    assert len(stored_exposures(sqlite)) == 10


def test_exposures_that_cannot_be_written_cost_no_others(sqlite, open_ledger):
    ledger = open_ledger(sqlite)
    for event in (an_exposure(1), an_exposure(2, experiment="odd", score=object()), an_exposure(3, context={"x": 1j})):
        ledger.expose(event)
    ledger.flush(PATIENCE)
    eventually(lambda: stored_gaps(sqlite) == {("odd", "dropped"): 1, ("late", "dropped"): 1})
    assert len(stored_exposures(sqlite)) == 1


@pytest.mark.parametrize(
    "sent",
    [
        {"unit": "a\0b"},
        {"unit": "x" * 100_000},
        {"unit": "\ud800"},
        {"unit": "\n\t\x1b[31m"},
        {"dimensions": {"\ud800": "\udfff"}},
        {"dimensions": {"k\0": "v" * 10_000}},
        {"context": {"x": float("nan"), "y": float("inf"), "z": 1.0}},
        {"score": float("nan")},
        {"shadows": (ShadowAnswer("t", "1.0.0", float("inf"), float("nan")),)},
    ],
)
def test_nothing_that_a_client_sends_makes_an_experiment_incomplete(database, open_ledger, sent):
    folded = Folded()
    ledger = open_ledger(database, fold=folded)
    event = an_exposure(**sent)
    ledger.expose(event)
    ledger.flush(PATIENCE)
    assert folded.exposures == stored_exposures(database) == [event.id]
    assert stored_gaps(database) == {}
    with database.read() as connection:  # whoever reads it finds numbers where numbers should be
        row = connection.exec_driver_sql("SELECT context, shadows FROM exposures").one()
    msgspec.json.decode(row.context, type=dict[str, float])
    msgspec.json.decode(row.shadows, type=tuple[ShadowAnswer, ...])


@pytest.mark.parametrize(
    "odd",
    [
        {"propensity": float("nan")},
        {"latency_seconds": float("inf")},
        {"at_us": 2**63},
        {"revision": 2**63},
        {"variant": "x" * 65},
        {"id": "a\0b"},
        {"id": ""},
    ],
)
def test_exposures_that_no_database_can_keep_hold_up_nothing(database, open_ledger, odd):
    ledger = open_ledger(database)
    good = an_exposure(1)
    for event in (an_exposure(2, experiment="odd", **odd), good):
        ledger.expose(event)
    ledger.flush(PATIENCE)
    assert stored_exposures(database) == [good.id]
    assert stored_gaps(database) == {("odd", "unusable"): None}


def test_a_full_spool_refuses_outcomes_until_the_database_is_back(sqlite, open_ledger):
    folded = Folded()
    folded.error = RuntimeError("the database is away")
    ledger = open_ledger(sqlite, max_spool_bytes=2**20, fold=folded)
    recorded = 0

    def record_on():
        nonlocal recorded
        for number in range(10_000):
            recorded += ledger.record([an_outcome(f"{number}-{each}", unit="u" * 500) for each in range(50)])

    with pytest.raises(LedgerUnavailableError, match="spool is full"):
        record_on()
    assert 0 < recorded < 5_000
    for number in range(3_000):
        ledger.expose(an_exposure(number, unit="u" * 500))
    eventually(lambda: ledger.counts.dropped[EXPOSURE] > 0 and not ledger._feed.waits())
    assert ledger.counts.spool_bytes <= 2**20
    assert ledger.counts.oldest_unshipped_seconds() > 0
    folded.error = None
    ledger.flush(PATIENCE)
    ledger.record([an_outcome(-1)])
    ledger.flush(PATIENCE)
    assert len(stored_outcomes(sqlite)) == recorded + 1
    dropped = ledger.counts.dropped[EXPOSURE]
    eventually(lambda: stored_gaps(sqlite) == {("late", "dropped"): dropped})
    assert len(stored_exposures(sqlite)) == 3_000 - dropped
    assert ledger.counts.oldest_unshipped_seconds() == 0


FULL_DISK = """
import resource, sys
from pathlib import Path
from crossfade.errors import LedgerUnavailableError
from crossfade.ledger.events import ShadowAnswer
from crossfade.ledger.ledger import Ledger
from crossfade.settings import LedgerSettings
from crossfade.storage.database import open_database
from tests.ledger.durability.streams import an_outcome

ledger = Ledger(open_database(sys.argv[1]), LedgerSettings(poll_seconds=60), Path(sys.argv[2]))
ledger.record([an_outcome("first")])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
done = 1
try:
    while True:
        done += ledger.record([an_outcome(f"{done}-{number}") for number in range(100)])
except LedgerUnavailableError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
done += ledger.record([an_outcome("last")])
ledger.close()
print(done)
"""


def test_a_disk_that_takes_no_more_refuses_and_loses_nothing(sqlite, sqlite_url, folder):
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, sqlite_url, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    said, recorded = done.stdout.splitlines()
    assert "File too large" in said
    assert len(stored_outcomes(sqlite)) == int(recorded)
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made_refuses(sqlite, tmp_path, open_ledger):
    (tmp_path / "file").touch()
    ledger = open_ledger(sqlite, where=tmp_path / "file" / "ledger")
    with pytest.raises(LedgerUnavailableError, match=r"Not a directory|exists"):
        ledger.record([an_outcome()])
    ledger.expose(an_exposure())
    eventually(lambda: stored_gaps(sqlite) == {("late", "dropped"): 1})


# --- the database is away --------------------------------------------------------------------------------------------


def test_while_the_database_is_away_events_wait(postgres_url, open_ledger):
    with FaultProxy(postgres_url) as proxy:
        database = open_database(proxy.url)
        migrate(database)
        folded = Folded()
        ledger = open_ledger(database, fold=folded)
        ledger.record([an_outcome(0)])
        ledger.flush(PATIENCE)
        proxy.set(Fault(refuse=True))
        for number in range(1, 40):
            ledger.record([an_outcome(number)])
            ledger.expose(an_exposure(number))
        with pytest.raises(LedgerUnavailableError, match="has not taken"):
            ledger.flush(0.2)
        assert ledger.counts.oldest_unshipped_seconds() > 0
        proxy.set(Fault(reset=True))
        ledger.record([an_outcome(40)])
        proxy.set(Fault())
        ledger.flush(PATIENCE)
        assert len(stored_outcomes(database)) == 41
        assert len(stored_exposures(database)) == 39
        assert sorted(folded.outcomes) == stored_outcomes(database)
        ledger.close()
        database.close()


def test_a_bug_in_what_follows_from_events_keeps_them(sqlite, open_ledger, caplog):
    folded = Folded()
    folded.error = ZeroDivisionError("bug")
    ledger = open_ledger(sqlite, fold=folded)
    ledger.record([an_outcome()])
    eventually(lambda: folded.calls > 1)
    assert stored_outcomes(sqlite) == []
    assert "ZeroDivisionError" in caplog.text
    folded.error = None
    ledger.flush(PATIENCE)
    assert folded.outcomes == ["outcome-0"]


def test_expose_needs_little_time_and_never_waits_for_the_disk(sqlite, open_ledger, monkeypatch):
    ledger = open_ledger(sqlite)
    hangs = threading.Event()
    monkeypatch.setattr(os, "fdatasync", lambda handle: hangs.wait(PATIENCE))
    waiting = threading.Thread(target=ledger.record, args=([an_outcome()],))
    waiting.start()
    started = time.monotonic()
    for number in range(1_000):
        ledger.expose(an_exposure(number))
    assert time.monotonic() - started < PATIENCE / 2
    hangs.set()
    waiting.join()
    assert ledger.counts.dropped[EXPOSURE] == 0


def test_settings_give_the_folder(tmp_path):
    from crossfade.settings import Settings

    assert Settings(home=tmp_path).ledger_folder == tmp_path / "ledger"
    assert Settings(ledger=LedgerSettings(folder=str(tmp_path / "x"))).ledger_folder == tmp_path / "x"


def test_a_ledger_of_a_platform_ships_when_it_closes(tmp_path):
    from crossfade.platform import open_platform
    from crossfade.settings import Settings

    with open_platform(Settings(home=tmp_path)) as platform:
        assert isinstance(platform.ledger, Ledger)
        platform.ledger.record([an_outcome()])
    with open_platform(Settings(home=tmp_path)) as platform:
        assert stored_outcomes(platform.database) == ["outcome-0"]

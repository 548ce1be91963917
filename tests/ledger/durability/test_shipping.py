"""Journals of processes that have ended: taken over, shipped once, and honest about what is missing."""

import shutil
import threading

import msgspec
import pytest

from crossfade.core.identity import new_id
from crossfade.errors import DatabaseUnavailableError
from crossfade.ledger import shipment as shipment_module
from crossfade.ledger import shipping as shipping_module
from crossfade.ledger import store as store_module
from crossfade.ledger.feed import ExposureFeed, lock_path, tally_path
from crossfade.ledger.gaps import EVERY
from crossfade.ledger.records import Began, Ended, Exposures, Outcomes, encode_record
from crossfade.ledger.tally import Tally
from crossfade.storage.filesystem import LocalFileSystem
from crossfade.storage.frames import marker_of, pack_frame
from crossfade.storage.segments import SegmentWriter, segment_name
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


class Remains:
    """The journal of a process that was killed, record by record."""

    def __init__(self, folder, segment_bytes=2**20):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.journal = new_id()
        self.written: dict[str, int] = {}
        self.tally = Tally()
        self.tally.keep(tally_path(folder, self.journal))
        lock_path(folder, self.journal).touch()
        opening = lambda: encode_record(Began(dict(self.written)))  # noqa: E731
        self.segments = SegmentWriter(LocalFileSystem(), folder, self.journal, segment_bytes, opening)

    def expose(self, *events, written=True):
        for event in events:
            self.tally.offered[self.tally.slot(event.experiment)] += 1
        if written:
            self.segments.append([encode_record(Exposures(list(events)))])
            for event in events:
                self.written[event.experiment] = self.written.get(event.experiment, 0) + 1

    def record(self, *events):
        self.segments.append([encode_record(Outcomes(list(events)))])
        self.tally.synced(self.segments.frames)

    def end(self):
        self.segments.append([encode_record(Ended())])

    def path(self, number=None):
        return self.folder / segment_name(self.journal, number or self.segments.segment)

    def append(self, data):
        with self.path().open("ab") as file:
            file.write(data)


@pytest.fixture
def remains(folder):
    return Remains(folder)


@pytest.fixture
def shipped(open_ledger, folder):
    """Start a ledger, and return it when it has taken over everything in the folder."""

    def run(database, **options):
        ledger = open_ledger(database, **options)
        ledger.start()
        own = ledger._journal.id
        eventually(lambda: all(path.name.startswith(own) for path in folder.iterdir()))
        return ledger

    return run


def test_what_a_killed_process_wrote_is_shipped_and_deleted(database, remains, shipped):
    folded = Folded()
    events = [an_exposure(number) for number in range(3)]
    remains.expose(*events)
    remains.record(an_outcome(1), an_outcome(2))
    ledger = shipped(database, fold=folded)
    assert stored_exposures(database) == sorted(each.id for each in events)
    assert stored_outcomes(database) == folded.outcomes == ["outcome-1", "outcome-2"]
    assert stored_gaps(database) == {}
    eventually(lambda: known_journals(database) == {})
    assert ledger.counts.shipped["outcome"] == 2


def test_what_it_had_taken_and_not_written_is_known_exactly(database, remains, shipped):
    remains.expose(an_exposure(1), an_exposure(2))
    remains.expose(an_exposure(3), an_exposure(4, experiment="other"), written=False)
    remains.tally.dropped[remains.tally.slot("other")] += 1
    remains.tally.offered[remains.tally.slot("other")] += 1
    shipped(database)
    assert len(stored_exposures(database)) == 2
    assert stored_gaps(database) == {
        ("late", "crash"): 1,
        ("other", "crash"): 1,
        ("other", "dropped"): 1,
    }


def test_so_is_what_it_had_written_to_segments_that_are_long_gone(sqlite, folder, shipped):
    remains = Remains(folder, segment_bytes=400)
    for number in range(10):
        remains.expose(an_exposure(number))
    remains.expose(an_exposure(11), written=False)
    assert remains.segments.segment > 3
    shipped(sqlite)
    assert len(stored_exposures(sqlite)) == 10
    assert stored_gaps(sqlite) == {("late", "crash"): 1}


def test_a_process_that_was_killed_before_its_first_record(sqlite, remains, shipped):
    remains.expose(an_exposure(1), written=False)
    shipped(sqlite)
    assert stored_gaps(sqlite) == {("late", "crash"): 1}


def test_one_that_did_nothing_has_lost_nothing(sqlite, remains, shipped):
    shipped(sqlite)
    assert stored_gaps(sqlite) == {}


def test_experiments_that_share_a_place_in_the_tally_are_counted_together(sqlite, remains, shipped):
    long = "x" * 70  # no name for a tally, and none for the database either
    remains.expose(an_exposure(1, experiment=long), an_exposure(2, experiment=long), an_exposure(3))
    shipped(sqlite)
    assert stored_gaps(sqlite) == {(EVERY, "unusable"): None}


def test_an_orderly_end_has_lost_nothing(sqlite, remains, shipped):
    remains.record(an_outcome(1))
    remains.end()
    tally_path(remains.folder, remains.journal).unlink()
    shipped(sqlite)
    assert stored_outcomes(sqlite) == ["outcome-1"]
    assert stored_gaps(sqlite) == {}


def test_after_a_crash_of_the_machine_nobody_knows_how_much(sqlite, remains, shipped, monkeypatch):
    remains.expose(an_exposure(1))
    monkeypatch.setattr(shipment_module, "this_boot", lambda: "another start")
    shipped(sqlite)
    assert stored_gaps(sqlite) == {("late", "crash"): None}


@pytest.mark.parametrize("content", [None, b"", b"garbage"])
def test_without_its_tally_nobody_knows_either(sqlite, remains, shipped, content):
    remains.expose(an_exposure(1))
    path = tally_path(remains.folder, remains.journal)
    path.unlink() if content is None else path.write_bytes(content)
    shipped(sqlite)
    assert stored_gaps(sqlite) == {("late", "crash"): None}


def test_without_its_tally_outcomes_alone_make_every_experiment_incomplete(sqlite, remains, shipped):
    remains.record(an_outcome(1))
    tally_path(remains.folder, remains.journal).unlink()
    shipped(sqlite)
    assert stored_gaps(sqlite) == {(EVERY, "crash"): None}


# --- damage ----------------------------------------------------------------------------------------------------------


def torn_ends(path):
    frame = pack_frame(marker_of(path.name), 3, encode_record(Outcomes([an_outcome("torn")])))
    return (frame[:-1], frame[:30], frame[:5], bytes(4096), b"\xff" * 77)


@pytest.mark.parametrize("kind", range(5))
def test_a_torn_end_is_counted_and_is_no_gap(sqlite, remains, shipped, kind):
    remains.record(an_outcome(1))
    torn = torn_ends(remains.path())[kind]
    remains.append(torn)
    ledger = shipped(sqlite)
    assert stored_outcomes(sqlite) == ["outcome-1"]
    assert ledger.counts.truncated_bytes == len(torn)
    assert stored_gaps(sqlite) == {}


def test_an_acknowledged_end_that_is_missing_is_damage(sqlite, remains, shipped):
    """The tally knows how many frames were durable: an end below that is no torn one."""
    remains.record(an_outcome(1))
    size = remains.path().stat().st_size
    remains.record(an_outcome(2))
    with remains.path().open("r+b") as file:
        file.truncate(size + 10)
    shipped(sqlite)
    assert stored_outcomes(sqlite) == ["outcome-1"]
    assert stored_gaps(sqlite) == {(EVERY, "damage"): None}


def test_a_flipped_bit_in_the_middle_is_damage_and_costs_one_record(database, remains, shipped):
    for number in range(3):
        remains.record(an_outcome(number))
    content = bytearray(remains.path().read_bytes())
    content[content.index(b"outcome-1")] ^= 1
    remains.path().write_bytes(content)
    ledger = shipped(database)
    assert stored_outcomes(database) == ["outcome-0", "outcome-2"]
    assert stored_gaps(database) == {(EVERY, "damage"): None}
    assert ledger.counts.truncated_bytes > 0


def test_a_segment_that_somebody_deleted_is_damage(sqlite, folder, shipped):
    remains = Remains(folder, segment_bytes=100)
    for number in range(6):
        remains.record(an_outcome(number))
    remains.path(3).unlink()
    shipped(sqlite)
    assert 0 < len(stored_outcomes(sqlite)) < 6
    assert stored_gaps(sqlite) == {(EVERY, "damage"): None}


def test_garbage_between_records_is_skipped(sqlite, remains, shipped):
    remains.record(an_outcome(1))
    remains.append(b"garbage" * 100)
    remains.record(an_outcome(2))
    shipped(sqlite)
    assert stored_outcomes(sqlite) == ["outcome-1", "outcome-2"]
    assert stored_gaps(sqlite) == {}


@pytest.mark.parametrize(
    "payload",
    [
        b"garbage",
        b"",
        encode_record(Outcomes([an_outcome("nan", value=float("nan"))])),
        encode_record(Outcomes([an_outcome("key", decision="x")]))[:-1] + b"\xc1",
        msgspec.msgpack.encode([2, [["only an id"]]]),
        msgspec.msgpack.encode([9, []]),
    ],
    ids=["garbage", "nothing", "nan", "no text", "only an id", "unknown"],
)
def test_intact_records_with_hostile_content_hold_up_nothing(database, remains, shipped, payload):
    remains.record(an_outcome(1))
    remains.segments.append([payload])
    remains.record(an_outcome(2))
    shipped(database)
    assert stored_outcomes(database) == ["outcome-1", "outcome-2"]
    assert stored_gaps(database) == {(EVERY, "unusable"): None}


def test_foreign_files_are_left_alone(sqlite, folder, open_ledger):
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "0193-00000001.log").write_text("mine, too")
    ledger = open_ledger(sqlite)
    ledger.record([an_outcome()])
    ledger.close()
    assert sorted(path.name for path in folder.iterdir()) == ["0193-00000001.log", "notes.txt"]


def test_a_journal_that_cannot_be_read_disturbs_no_other(sqlite, folder, shipped, open_ledger, caplog, monkeypatch):
    bad, good = Remains(folder), Remains(folder)
    bad.record(an_outcome("bad"))
    good.record(an_outcome("good"))
    real = LocalFileSystem.open_read

    def refuses(self, path):
        if path.name.startswith(bad.journal):
            raise PermissionError(13, "Permission denied", str(path))
        return real(self, path)

    monkeypatch.setattr(LocalFileSystem, "open_read", refuses)
    ledger = open_ledger(sqlite)
    ledger.start()
    eventually(lambda: stored_outcomes(sqlite) == ["outcome-good"])
    eventually(lambda: "cannot be shipped" in caplog.text)
    eventually(lambda: ledger.counts.spool_bytes > 0)
    monkeypatch.undo()
    eventually(lambda: stored_outcomes(sqlite) == ["outcome-bad", "outcome-good"])


# --- at least once, and the effect of once ---------------------------------------------------------------------------


def test_a_living_process_keeps_its_journal(sqlite, folder, open_ledger):
    living = open_ledger(sqlite, poll_seconds=60.0)
    living.record([an_outcome(1)])
    other = open_ledger(sqlite)
    other.record([an_outcome(2)])
    other.flush(PATIENCE)
    for _ in range(5):
        other._shipper._pass()
    assert any(path.name.startswith(living._journal.id) for path in folder.glob("*.log"))
    assert "outcome-2" in stored_outcomes(sqlite)
    assert other._shipper.spooled_bytes() > 0


def test_the_same_journal_again_changes_nothing(database, remains, shipped, folder, tmp_path):
    """As after a restore of the folder from a backup: its place in the database is forgotten, its ids are not."""
    folded = Folded()
    remains.expose(an_exposure(1))
    remains.record(an_outcome(1))
    shutil.copytree(folder, tmp_path / "backup")
    shipped(database, fold=folded).close()
    shutil.copytree(tmp_path / "backup", folder, dirs_exist_ok=True)
    ledger = shipped(database, fold=folded)
    assert len(folded.exposures) == len(folded.outcomes) == 1
    assert ledger.counts.shipped == {"exposure": 0, "outcome": 0}
    assert stored_gaps(database) == {}


class Committed(Folded):
    """Forgets what was folded in a transaction that failed, as a table would."""

    def __call__(self, connection, new_exposures, new_outcomes):
        self.exposures = [each for each in self.exposures if each not in {event.id for event in new_exposures}]
        super().__call__(connection, new_exposures, new_outcomes)


STEPS = ("add_exposures", "add_outcomes", "move_place", "forget_journals")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_any_step_of_shipping_changes_nothing(database, remains, folder, shipped, monkeypatch, step, when):
    """The transaction fails before or after each of its steps, once; the next attempt brings what is missing."""
    remains.expose(an_exposure(1), an_exposure(2))
    remains.record(an_outcome(1))
    remains.expose(an_exposure(3), written=False)
    folded, failures = Committed(), []
    real = getattr(store_module, step)

    def failing(*arguments, **more):
        result = real(*arguments, **more) if when == "after" else None
        if not failures:
            failures.append(step)
            raise DatabaseUnavailableError(problem="the connection broke")
        return real(*arguments, **more) if when == "before" else result

    monkeypatch.setattr(shipping_module, step, failing)
    shipped(database, fold=folded)
    eventually(lambda: failures)
    assert len(stored_exposures(database)) == 2
    assert stored_outcomes(database) == ["outcome-1"]
    assert stored_gaps(database) == {("late", "crash"): 1}
    if step != "forget_journals":
        eventually(lambda: known_journals(database) == {})
    assert all(row.finished for row in known_journals(database).values())
    assert sorted(folded.exposures) == stored_exposures(database)


def test_a_commit_that_seemed_to_fail_is_not_repeated(sqlite, remains, shipped, monkeypatch):
    """The connection breaks when the commit is done: what happened has to be looked up."""
    folded, failures = Folded(), []
    remains.record(an_outcome(1))
    real = sqlite.write

    class Breaking:
        def __init__(self):
            self.inner = real()

        def __enter__(self):
            return self.inner.__enter__()

        def __exit__(self, *error):
            result = self.inner.__exit__(*error)
            if not failures and error[0] is None:
                failures.append(1)
                raise DatabaseUnavailableError(problem="the connection broke")
            return result

    monkeypatch.setattr(sqlite, "write", Breaking)
    shipped(sqlite, fold=folded)
    assert failures
    assert folded.outcomes == ["outcome-1"]
    assert stored_outcomes(sqlite) == ["outcome-1"]
    assert stored_gaps(sqlite) == {}


def test_a_database_that_is_restored_from_an_older_copy_is_found_incomplete(sqlite, open_ledger):
    """What was shipped since, and deleted here, is gone with it; nobody may take the rest for everything."""
    ledger = open_ledger(sqlite)
    ledger.record([an_outcome(1)])
    ledger.flush(PATIENCE)
    with sqlite.write() as connection:
        connection.exec_driver_sql("DELETE FROM outcomes")
        connection.exec_driver_sql("DELETE FROM ledger_journals")
    ledger.record([an_outcome(2)])
    ledger.flush(PATIENCE)
    # the segment is still here, so nothing is lost
    eventually(lambda: stored_outcomes(sqlite) == ["outcome-1", "outcome-2"])
    assert stored_gaps(sqlite) == {}


def test_so_is_one_that_is_older_than_files_deleted_since(sqlite, folder, open_ledger):
    ledger = open_ledger(sqlite, max_spool_bytes=2**20)
    for number in range(20):
        ledger.record([an_outcome(f"{number}-{each}", unit="u" * 400) for each in range(40)])
    ledger.flush(PATIENCE)
    eventually(lambda: ledger._journal.written[0] > 1 and len(list(folder.glob("*.log"))) == 1)
    with sqlite.write() as connection:
        connection.exec_driver_sql("DELETE FROM outcomes")
        connection.exec_driver_sql("DELETE FROM ledger_journals")
    ledger.record([an_outcome("last")])
    eventually(lambda: stored_gaps(sqlite) == {(EVERY, "damage"): None})
    eventually(lambda: "outcome-last" in stored_outcomes(sqlite))
    assert 1 < len(stored_outcomes(sqlite)) < 801


def test_two_shippers_at_once_bring_everything_once(database, folder, open_ledger):
    folded = [Folded(), Folded()]
    ledgers = [open_ledger(database, fold=each) for each in folded]

    def work(ledger, start):
        for number in range(start, start + 200):  # half of them are reported to both
            ledger.record([an_outcome(number)])
            ledger.expose(an_exposure(number))

    threads = [threading.Thread(target=work, args=(ledger, 100 * at)) for at, ledger in enumerate(ledgers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ledger in ledgers:
        ledger.flush(PATIENCE)
    brought = folded[0].outcomes + folded[1].outcomes
    assert sorted(brought) == stored_outcomes(database)
    assert len(brought) == 300
    assert len(stored_exposures(database)) == 400


def test_several_adopters_share_what_is_left(sqlite, folder, open_ledger):
    folded = Folded()
    for number in range(6):
        Remains(folder).record(an_outcome(number))
    ledgers = [open_ledger(sqlite, fold=folded) for _ in range(3)]
    for ledger in ledgers:
        ledger.start()
    eventually(lambda: len(stored_outcomes(sqlite)) == 6 and not list(folder.glob("*.log")))
    assert sorted(folded.outcomes) == stored_outcomes(sqlite)


def test_more_than_one_cargo(sqlite, remains, shipped, monkeypatch):
    monkeypatch.setattr(shipment_module, "CARGO_EVENTS", 10)
    folded = Folded()
    for number in range(7):
        remains.record(*(an_outcome(f"{number}-{each}") for each in range(7)))
    shipped(sqlite, fold=folded)
    assert len(stored_outcomes(sqlite)) == len(folded.outcomes) == 49
    assert folded.calls == 4


def test_segments_are_deleted_once_they_are_shipped(sqlite, folder, open_ledger):
    ledger = open_ledger(sqlite, max_spool_bytes=2**20)
    for number in range(40):
        ledger.record([an_outcome(f"{number}-{each}", unit="u" * 400) for each in range(40)])
    ledger.flush(PATIENCE)
    eventually(lambda: len(list(folder.glob("*.log"))) == 1)
    assert ledger._journal.written[0] > 2
    assert len(stored_outcomes(sqlite)) == 1_600
    eventually(lambda: ledger.counts.spool_bytes == 0)


def test_a_feed_whose_folder_vanished_ends_quietly(tmp_path):
    from crossfade.ledger.event_counts import EventCounts

    feed = ExposureFeed(tmp_path / "x", EventCounts())
    feed.open(new_id())
    shutil.rmtree(tmp_path / "x")
    feed.close(delete=True)
    feed.close(delete=True)

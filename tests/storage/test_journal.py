"""The journal: acknowledgements after one synchronisation for many, and nobody left waiting whatever happens."""

import asyncio
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from crossfade.core.identity import new_id
from crossfade.errors import LedgerUnavailableError
from crossfade.storage import journal as module
from crossfade.storage.filesystem import LocalFileSystem
from crossfade.storage.frames import Frame, marker_of, read_frames
from crossfade.storage.journal import Journal
from crossfade.storage.segments import list_segments, segment_name

PATIENCE = 20.0


class Disk(LocalFileSystem):
    """A disk that counts, and that can hang in a synchronisation or fail."""

    def __init__(self):
        self.syncs = 0
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.syncing = threading.Event()
        self.write_error = None
        self.sync_error = None

    def sync_data(self, handle):
        self.syncs += 1
        self.syncing.set()
        self.goes_on.wait(PATIENCE)
        if self.sync_error is not None:
            error, self.sync_error = self.sync_error, None
            raise error
        super().sync_data(handle)

    def write(self, handle, data):
        if self.write_error is not None:
            raise self.write_error
        super().write(handle, data)


class Feed:
    """Records that nobody waits for."""

    def __init__(self):
        self.waiting = []
        self.settled = []
        self.frames = 0
        self.opened = []
        self.open_error = None

    def open(self, journal):
        if self.open_error is not None:
            raise self.open_error
        self.opened.append(journal)

    def opening(self):
        return b"opening"

    def closing(self):
        return b"closing"

    def waits(self):
        return bool(self.waiting)

    def take(self):
        return self.waiting.pop(0) if self.waiting else None

    def settle(self, *, written):
        self.settled.append(written)

    def synced(self, frames):
        self.frames = frames


class Setting:
    def __init__(self, folder, room=2**40, segment_bytes=2**20):
        self.folder, self.room = folder, room
        self.disk, self.feed = Disk(), Feed()
        self.journal = Journal(self.disk, folder, new_id(), self.feed, lambda: self.room, segment_bytes)

    def records(self):
        found = []
        for number in list_segments(self.disk, self.folder).get(self.journal.id, []):
            path = self.folder / segment_name(self.journal.id, number)
            with path.open("rb") as stream:
                parts = list(read_frames(stream, marker_of(path.name), 0, path.stat().st_size))
            assert all(isinstance(part, Frame) for part in parts)
            found += [part.payload for part in parts]
        return found


@pytest.fixture
def setting(tmp_path):
    made = Setting(tmp_path)
    made.journal.start()
    yield made
    made.disk.goes_on.set()
    made.journal.close(PATIENCE)


def eventually(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_what_is_acknowledged_is_there(setting):
    setting.journal.append(b"one").result(PATIENCE)
    assert setting.disk.syncs >= 1
    assert setting.records() == [b"opening", b"one"]
    assert setting.feed.frames == 2
    assert setting.journal.written == (1, setting.journal.segments()[1])


def test_nothing_is_acknowledged_before_it_is_synchronised(setting):
    setting.journal.append(b"first").result(PATIENCE)
    setting.disk.goes_on.clear()
    setting.disk.syncing.clear()
    waiter = setting.journal.append(b"one")
    assert setting.disk.syncing.wait(PATIENCE)
    assert not waiter.done()
    setting.disk.goes_on.set()
    waiter.result(PATIENCE)


def test_what_gathers_during_a_synchronisation_shares_the_next(setting):
    setting.journal.append(b"first").result(PATIENCE)
    setting.disk.goes_on.clear()
    setting.disk.syncing.clear()
    first = setting.journal.append(b"a")
    assert setting.disk.syncing.wait(PATIENCE)
    before = setting.disk.syncs
    others = [setting.journal.append(b"%d" % number) for number in range(500)]
    setting.disk.goes_on.set()
    for waiter in (first, *others):
        waiter.result(PATIENCE)
    assert setting.disk.syncs == before + 1
    assert setting.records()[3:] == [b"%d" % number for number in range(500)]


def test_many_threads_at_once(setting):
    def work(thread):
        for number in range(50):
            setting.journal.append(f"{thread}.{number}".encode()).result(PATIENCE)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    found = setting.records()[1:]
    for thread in range(8):  # in the order of each producer
        own = [record for record in found if record.startswith(b"%d." % thread)]
        assert own == [f"{thread}.{number}".encode() for number in range(50)]
    assert len(found) == 400


async def test_an_event_loop_is_told_of_a_batch_at_once(setting, monkeypatch):
    await setting.journal.append_async(b"first")
    setting.disk.goes_on.clear()
    setting.disk.syncing.clear()
    calls = itertools.count()
    loop = asyncio.get_running_loop()
    real = loop.call_soon_threadsafe

    def counted(*arguments, **more):
        next(calls)
        return real(*arguments, **more)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    first = setting.journal.append_async(b"a")
    await asyncio.to_thread(setting.disk.syncing.wait, PATIENCE)
    before = next(calls)
    waiters = [setting.journal.append_async(b"x") for _ in range(100)]
    setting.disk.goes_on.set()
    await asyncio.wait_for(asyncio.gather(first, *waiters), PATIENCE)
    assert next(calls) - before - 1 == 2


async def test_whoever_gave_up_is_not_told(setting):
    setting.disk.goes_on.clear()
    waiter = setting.journal.append_async(b"a")
    waiter.cancel()
    setting.disk.goes_on.set()
    await setting.journal.append_async(b"b")
    assert setting.records() == [b"opening", b"a", b"b"]


def test_a_loop_that_has_ended_disturbs_nobody(setting):
    async def leave():
        setting.disk.goes_on.clear()
        setting.journal.append_async(b"a")

    asyncio.run(leave())
    setting.disk.goes_on.set()
    setting.journal.append(b"b").result(PATIENCE)


def test_a_full_disk_refuses_and_recovers(setting):
    setting.journal.append(b"one").result(PATIENCE)
    setting.disk.write_error = OSError(28, "No space left on device")
    with pytest.raises(LedgerUnavailableError, match="No space left"):
        setting.journal.append(b"two").result(PATIENCE)
    setting.disk.write_error = None
    setting.journal.append(b"three").result(PATIENCE)
    assert setting.records() == [b"opening", b"one", b"three"]


def test_a_disk_that_cannot_synchronise_acknowledges_nothing_of_the_batch(setting):
    setting.journal.append(b"one").result(PATIENCE)
    setting.disk.sync_error = OSError(5, "Input/output error")
    with pytest.raises(LedgerUnavailableError, match="Input/output"):
        setting.journal.append(b"two").result(PATIENCE)
    setting.journal.append(b"three").result(PATIENCE)
    assert setting.journal.written[0] == 2


def test_a_full_spool_refuses_before_it_writes(setting):
    setting.room = 3
    with pytest.raises(LedgerUnavailableError, match="spool is full"):
        setting.journal.append(b"four").result(PATIENCE)
    setting.room = 4
    setting.journal.append(b"four").result(PATIENCE)
    assert setting.records() == [b"opening", b"four"]


def test_a_group_that_does_not_fit_costs_no_other(setting, monkeypatch):
    monkeypatch.setattr(module, "GROUP_BYTES", 10)
    setting.room = 8
    setting.disk.goes_on.clear()
    waiters = [setting.journal.append(payload) for payload in (b"12345678", b"123456789", b"123")]
    setting.disk.goes_on.set()
    results = [waiter.exception(PATIENCE) for waiter in waiters]
    assert [type(result) for result in results] == [type(None), LedgerUnavailableError, type(None)]


def test_records_of_the_feed_are_written_and_synchronised_without_anybody_waiting(setting):
    setting.feed.waiting += [b"f1", b"f2"]
    setting.journal.nudge()
    eventually(lambda: setting.feed.frames == 3)
    assert setting.records() == [b"opening", b"f1", b"f2"]
    assert setting.feed.settled == [True, True]


def test_a_record_of_the_feed_that_cannot_be_written_is_told(setting):
    setting.disk.write_error = OSError(28, "No space left on device")
    setting.feed.waiting.append(b"f1")
    setting.journal.nudge()
    eventually(lambda: setting.feed.settled == [False])
    setting.disk.write_error = None
    setting.feed.waiting.append(b"f2")
    setting.journal.nudge()
    eventually(lambda: setting.feed.settled == [False, True])


def test_a_nudge_is_never_missed(setting):
    for number in range(200):
        setting.feed.waiting.append(b"x")
        setting.journal.nudge()
        if number % 20 == 0:
            eventually(lambda: not setting.feed.waiting)
    eventually(lambda: not setting.feed.waiting)


def test_a_feed_that_cannot_open_is_asked_again(tmp_path):
    setting = Setting(tmp_path)
    setting.feed.open_error = OSError(28, "No space left on device")
    setting.journal.start()
    with pytest.raises(LedgerUnavailableError, match="No space"):
        setting.journal.append(b"one").result(PATIENCE)
    setting.feed.open_error = None
    setting.journal.append(b"two").result(PATIENCE)
    assert setting.feed.opened == [setting.journal.id]
    setting.journal.close(PATIENCE)


def test_a_bug_leaves_nobody_waiting(setting, caplog):
    setting.feed.take = None
    with pytest.raises(LedgerUnavailableError, match="fault of the server"):
        setting.journal.append(b"one").result(PATIENCE)
    assert "met a bug" in caplog.text
    del setting.feed.take
    setting.journal.append(b"two").result(PATIENCE)


def test_the_end_is_written_and_later_records_are_refused(setting):
    setting.journal.append(b"one").result(PATIENCE)
    setting.feed.waiting.append(b"last")
    assert setting.journal.close(PATIENCE)
    assert setting.records() == [b"opening", b"one", b"last", b"closing"]
    with pytest.raises(LedgerUnavailableError, match="shutting down"):
        setting.journal.append(b"late").result(PATIENCE)
    assert setting.journal.close(PATIENCE)


def test_a_journal_that_got_nothing_leaves_nothing(setting):
    assert setting.journal.close(PATIENCE)
    assert setting.records() == []


def test_one_that_was_never_started_can_be_closed(tmp_path):
    setting = Setting(tmp_path)
    assert setting.journal.close(PATIENCE)
    with pytest.raises(LedgerUnavailableError, match="shutting down"):
        setting.journal.append(b"late").result(PATIENCE)


def test_an_end_that_cannot_be_written_ends_all_the_same(setting, caplog):
    setting.journal.append(b"one").result(PATIENCE)
    setting.disk.write_error = OSError(28, "No space left on device")
    assert setting.journal.close(PATIENCE)
    assert "look as if this process had crashed" in caplog.text
    assert setting.records() == [b"opening", b"one"]


def test_nobody_is_left_waiting_while_it_closes(tmp_path):
    for _ in range(20):
        setting = Setting(tmp_path)
        setting.journal.start()
        refused = []

        def work(journal=setting.journal, refused=refused):
            while True:
                error = journal.append(b"x").exception(PATIENCE)
                if error is not None:
                    refused.append(error)
                    return

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        setting.journal.close(PATIENCE)
        for thread in threads:
            thread.join(PATIENCE)
        assert len(refused) == 4


def test_segments_follow_each_other(tmp_path):
    setting = Setting(tmp_path, segment_bytes=300)
    setting.journal.start()
    for number in range(20):
        setting.journal.append(b"%03d" % number * 20).result(PATIENCE)
    assert setting.journal.written[0] > 3
    setting.journal.forget(1)
    assert 1 not in setting.journal.segments()
    setting.journal.close(PATIENCE)

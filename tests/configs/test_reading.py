"""Readers: what a unit reads, waiting for news without threads, and a board that is away or was restored."""

import asyncio
import threading
from datetime import timedelta

import msgspec
import pytest

from crossfade.configs.active import ActiveConfig, Published, PublishedVersion
from crossfade.configs.database import DatabaseBoard
from crossfade.configs.following import ConfigFollower
from crossfade.configs.port import News
from crossfade.configs.reading import ANY, ConfigReaders
from crossfade.core.hashing import sha256
from crossfade.errors import ConfigBoardUnavailableError, ConfigNotFoundError, NoActiveConfigError
from crossfade.traffic.allocation.segments import Segment
from crossfade.traffic.allocation.specs import RampStep
from tests.configs.support import halves, make_active, make_approved
from tests.traffic.support import Clock, eventually, soon

UNITS = [f"u-{number}" for number in range(200)]


def published(*documents, active=1, revision=1, routing=None, name="limits"):
    versions = tuple(
        PublishedVersion(number, sha256(document.encode()), document) for number, document in enumerate(documents, 1)
    )
    return Published(name, revision, active, versions, routing)


class FakeBoard:
    """A board in memory that tests change."""

    def __init__(self):
        self.states, self.position, self.away = {}, 1, False
        self._changed = threading.Condition()

    def put(self, state):
        with self._changed:
            self.position += 1
            self.states[state.name] = self.position, state
            self._changed.notify_all()

    def _check(self):
        if self.away:
            raise ConfigBoardUnavailableError(problem="it is away")

    def find(self, name):
        self._check()
        return self.states.get(name, (0, None))[1]

    def since(self, position):
        self._check()
        return News(self.position, tuple(state for at, state in self.states.values() if at > position))

    def wait(self, position, seconds):
        self._check()
        with self._changed:
            return self._changed.wait_for(lambda: self.position > position, min(seconds, 0.01))

    def close(self):
        pass


@pytest.fixture
def board():
    return FakeBoard()


@pytest.fixture
def follower(board):
    follower = ConfigFollower(board)
    yield follower
    follower.close()


@pytest.fixture
def readers(board, follower):
    follower.start()
    return ConfigReaders(board, follower, max_waiting=100)


# --- what a unit reads ---


def test_everybody_reads_the_active_version():
    config = ActiveConfig(published('{"max":1}'))
    found = config.read()
    assert (found.number, found.value, found.variant, found.why) == (1, {"max": 1}, "", "")
    assert found.etag == f'"1-{sha256(b"{" + chr(34).encode() + b"max" + chr(34).encode() + b":1}")}"'
    assert config.read("u-1") is found, "reading makes nothing new"
    assert config.due_at is None


def test_nothing_is_read_where_nothing_is_active():
    with pytest.raises(NoActiveConfigError):
        ActiveConfig(published(active=None)).read()


def test_a_rollout_gives_units_their_version_and_keeps_it():
    config = ActiveConfig(published('{"max":1}', '{"max":2}', routing=halves(1, 2, weight=0.3)))
    first = {unit: config.read(unit) for unit in UNITS}
    share = sum(found.number == 2 for found in first.values()) / len(UNITS)
    assert 0.2 < share < 0.4
    assert {found.variant for found in first.values()} == {"old", "new"}
    assert all(found.variant in found.why for found in first.values())
    assert {unit: config.read(unit) for unit in UNITS} == first
    more = ActiveConfig(published('{"max":1}', '{"max":2}', routing=halves(1, 2, weight=0.6)))
    assert all(more.read(unit).number == 2 for unit in UNITS if first[unit].number == 2), "nobody goes back"


def test_whoever_does_not_say_who_reads_gets_the_active_version():
    config = ActiveConfig(published('{"max":1}', '{"max":2}', routing=halves(1, 2, weight=0.99)))
    found = config.read()
    assert (found.number, found.variant) == (1, "")
    assert found.why


def test_a_rollout_can_be_about_a_segment():
    routing = halves(1, 2, weight=1.0, segment=Segment({"country": "AT"}))
    config = ActiveConfig(published('{"max":1}', '{"max":2}', routing=routing))
    assert config.read("u-1", {"country": "AT"}).number == 2
    for context in (None, {}, {"country": "DE"}, {"country": {"AT": 1}}, {"country": float("nan")}):
        assert config.read("u-1", context).number == 1


def test_people_can_try_a_version_out():
    config = ActiveConfig(
        published('{"max":1}', '{"max":2}', routing=halves(1, 2, weight=0.0, overrides={"me": "new"}))
    )
    assert (config.read("me").number, config.read("me").variant) == (2, "new")
    assert config.read("you").number == 1


# --- following ---


def test_a_follower_has_every_state_and_keeps_it_while_the_board_is_away(board, follower, caplog):
    board.put(published('{"max":1}'))
    follower.start()
    assert follower.active["limits"].read().number == 1
    board.put(published('{"max":1}', '{"max":2}', active=2, revision=2))
    eventually(lambda: follower.active["limits"].read().number == 2)
    board.away = True
    eventually(lambda: "cannot be followed" in caplog.text)
    assert follower.active["limits"].read().number == 2
    board.away = False
    board.put(published('{"max":1}', active=1, revision=3))
    eventually(lambda: follower.active["limits"].read().number == 1)
    assert caplog.text.count("cannot be followed") == 1


def test_a_follower_that_starts_alone_waits_for_the_board(board, follower):
    board.away = True
    follower.start()
    assert not follower.ready
    readers = ConfigReaders(board, follower, max_waiting=1)
    with pytest.raises(ConfigBoardUnavailableError):
        readers.read("limits")
    board.put(published('{"max":1}'))
    board.away = False
    eventually(lambda: follower.ready)
    assert readers.read("limits").number == 1


def test_a_board_that_was_restored_is_read_anew(board, follower):
    for revision in range(1, 6):
        board.put(published('{"max":1}', revision=revision))
    follower.refresh()
    board.states.clear()
    board.position = 1
    board.put(published('{"max":9}', revision=1))
    follower.refresh()
    assert follower.active["limits"].read().value == {"max": 9}


def test_a_ramp_goes_on_while_the_board_is_away(board):
    clock = Clock()
    ramp = (RampStep(clock.now + timedelta(minutes=5), 1.0),)
    board.put(published('{"max":1}', '{"max":2}', routing=halves(1, 2, weight=1.0, coverage=0.0, ramp=ramp)))
    follower = ConfigFollower(board, clock)
    told = []
    follower.subscribe(lambda names: told.append(list(names)))
    follower.refresh()
    board.away = True
    follower.turn()
    assert follower.active["limits"].read("u-1").number == 1
    clock.advance(300)
    follower.turn()
    assert follower.active["limits"].read("u-1").number == 2
    assert told == [["limits"], ["limits"]]


def test_upkeep_that_fails_does_not_stop_following(board, caplog):
    ran = threading.Event()

    def upkeep():
        ran.set()
        raise ValueError("broken")

    follower = ConfigFollower(board, upkeep=upkeep)
    follower.start()
    assert ran.wait(10)
    board.put(published('{"max":1}'))
    eventually(lambda: "limits" in follower.active)
    follower.close()
    assert "broken" in caplog.text


# --- waiting ---


def test_news_that_cannot_be_read_yet_are_said_and_nobody_waits_for_them(board, follower, readers):
    board.put(published('{"max":1}'))
    assert readers.refresh() == ""
    board.away = True
    assert "it is away" in readers.refresh()
    eventually(lambda: follower.away)
    board.since = None  # it is not asked again
    assert "it is away" in readers.refresh()
    del board.since
    board.away = False
    eventually(lambda: not follower.away)
    assert readers.refresh() == ""
    assert ConfigReaders(board, None, max_waiting=1).refresh() == ""


async def test_whoever_has_anything_has_it(board, readers):
    board.put(published('{"max":1}'))
    readers.refresh()
    assert await readers.wait("limits", (ANY,)) == (None, False)
    assert await ConfigReaders(board, None, max_waiting=1).wait("limits", (ANY,)) == (None, False)


async def test_what_a_reader_does_not_have_is_answered_at_once(board, readers):
    board.put(published('{"max":1}'))
    readers.refresh()
    found, refused = await readers.wait("limits", (), seconds=0)
    assert (found.number, refused) == (1, False)
    assert await readers.wait("limits", ("other", found.etag)) == (None, False)
    assert await readers.wait("limits", (found.etag,), seconds=0.01) == (None, False)
    with pytest.raises(ConfigNotFoundError):
        await readers.wait("nothing", (), seconds=5)


async def test_many_wait_without_a_thread_for_each(board, readers):
    board.put(published('{"max":1}'))
    readers.refresh()
    etag = readers.read("limits").etag
    threads = threading.active_count()
    waiting = [asyncio.create_task(readers.wait("limits", (etag,), seconds=30)) for _ in range(100)]
    await soon(lambda: readers.waiting == 100)
    assert threading.active_count() == threads
    board.put(published('{"other":1}', name="other"))
    board.put(published('{"max":1}', '{"max":2}', active=2, revision=2))
    answers = await asyncio.gather(*waiting)
    assert {found.number for found, _ in answers} == {2}
    assert readers.waiting == 0
    assert not readers._waiting


async def test_when_too_many_wait_others_are_answered_at_once(board, follower):
    follower.start()
    readers = ConfigReaders(board, follower, max_waiting=2)
    board.put(published('{"max":1}'))
    readers.refresh()
    etag = readers.read("limits").etag
    waiting = [asyncio.create_task(readers.wait("limits", (etag,), seconds=30)) for _ in range(2)]
    await soon(lambda: readers.waiting == 2)
    assert await readers.wait("limits", (etag,), seconds=30) == (None, True)
    assert (await readers.wait("limits", (), seconds=30))[0].number == 1, "news are given to everybody"
    readers.release()
    assert await asyncio.gather(*waiting) == [(None, False)] * 2
    assert await readers.wait("limits", (etag,), seconds=30) == (None, False), "nobody waits in a process that ends"


async def test_when_a_rollout_begins_everybody_is_answered_and_then_only_whose_version_changes(board, readers):
    board.put(published('{"max":1}', '{"max":2}'))
    readers.refresh()
    begun, further = (halves(1, 2, weight=weight) for weight in (0.2, 0.8))
    few, many = (ActiveConfig(published('{"max":1}', '{"max":2}', routing=routing)) for routing in (begun, further))
    moved = next(unit for unit in UNITS if few.read(unit).number == 1 and many.read(unit).number == 2)
    stays = next(unit for unit in UNITS if many.read(unit).number == 1)

    async def ask(unit, tag):
        waiting = asyncio.create_task(readers.wait("limits", (tag,), unit=unit, seconds=30))
        await soon(lambda: readers.waiting >= 1)
        return waiting

    waiting = {unit: await ask(unit, readers.read("limits", unit).etag) for unit in (moved, stays)}
    await soon(lambda: readers.waiting == 2)
    board.put(published('{"max":1}', '{"max":2}', routing=begun, revision=2))
    found = {unit: (await waiting[unit])[0] for unit in waiting}
    assert {(each.number, each.variant, each.rollout) for each in found.values()} == {(1, "old", begun.name)}

    waiting = {unit: await ask(unit, found[unit].etag) for unit in found}
    await soon(lambda: readers.waiting == 2)
    board.put(published('{"max":1}', '{"max":2}', routing=further, revision=3))
    assert (await waiting[moved])[0].number == 2
    assert not waiting[stays].done()
    readers.release()
    assert await waiting[stays] == (None, False)


async def test_a_config_of_which_nothing_is_active_yet_can_be_waited_for(board, readers):
    board.put(published(active=None))
    readers.refresh()
    with pytest.raises(NoActiveConfigError):
        await readers.wait("limits", ())
    waiting = asyncio.create_task(readers.wait("limits", (), seconds=30))
    await soon(lambda: readers.waiting == 1)
    board.put(published('{"max":1}', revision=2))
    assert (await waiting)[0].number == 1
    board.put(published(active=None, name="idle"))
    readers.refresh()
    with pytest.raises(NoActiveConfigError):
        await readers.wait("idle", (), seconds=0.02)


async def test_news_between_looking_and_waiting_are_not_missed(board, readers, monkeypatch):
    board.put(published('{"max":1}'))
    readers.refresh()
    etag = readers.read("limits").etag
    read = readers.read

    def read_then_change(*args):
        found = read(*args)
        if found.number == 1:
            board.put(published('{"max":1}', '{"max":2}', active=2, revision=2))
            readers.refresh()
        return found

    monkeypatch.setattr(readers, "read", read_then_change)
    found, _ = await asyncio.wait_for(readers.wait("limits", (etag,), seconds=30), 10)
    assert found.number == 2


async def test_whoever_stops_waiting_is_forgotten(board, readers):
    board.put(published('{"max":1}'))
    readers.refresh()
    waiting = asyncio.create_task(readers.wait("limits", (readers.read("limits").etag,), seconds=30))
    await soon(lambda: readers.waiting == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (readers.waiting, dict(readers._waiting)) == (0, {})


async def test_a_process_that_does_not_serve_reads_the_board_itself(configs, database):
    readers = ConfigReaders(DatabaseBoard(database, 0.005), None, max_waiting=1)
    with pytest.raises(ConfigNotFoundError):
        readers.read("limits")
    make_active(configs, document={"max": 1})
    found, _ = await readers.wait("limits", (), seconds=30)
    assert found.value == {"max": 1}
    assert await readers.wait("limits", (found.etag,), seconds=30) == (None, False), "it does not wait"
    make_approved(configs, document={"max": 2})
    configs.activate("limits", 2)
    assert readers.read("limits").number == 2
    readers.refresh()


def test_an_answer_is_its_document_verbatim():
    found = ActiveConfig(published('{"b":1.0,"a":{"c":null}}')).read()
    assert b'"document":{"b":1.0,"a":{"c":null}}' in msgspec.json.encode(found)

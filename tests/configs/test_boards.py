"""Boards: the contract on each, and what is special about etcd: who is late overwrites nothing, damage is seen."""

import threading

import httpx
import msgspec
import psycopg
import pytest

from crossfade.configs.active import Published, PublishedVersion
from crossfade.configs.backends import open_board, open_copy
from crossfade.configs.database import DatabaseBoard
from crossfade.configs.etcd import EtcdBoard, _packed
from crossfade.configs.publishing import Publisher
from crossfade.core.hashing import sha256
from crossfade.errors import ConfigBoardUnavailableError, SettingsError
from crossfade.settings import ConfigSettings, Settings
from crossfade.storage.tables import config_specs, config_versions
from crossfade.storage.tables import configs as configs_table
from crossfade.testing.configs import BoardContract, Site
from tests import servers
from tests.configs.support import make_active, open_configs
from tests.traffic.support import FragileDatabase, eventually, open_registry


def settings_of(url):
    return Settings(configs=ConfigSettings(board_url=url, board_timeout_seconds=5))


def state(revision, *documents, name="limits"):
    versions = tuple(
        PublishedVersion(number, sha256(document.encode()), document) for number, document in enumerate(documents, 1)
    )
    return Published(name, revision, len(documents) or None, versions)


@pytest.fixture(scope="module")
def roomy(tmp_path_factory, postgres_server):
    """A registry on PostgreSQL that the tests of this module share, because making one takes long."""
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE boards")
    registry = open_registry(tmp_path_factory.mktemp("boards"), f"{postgres_server.rpartition('/')[0]}/boards")
    yield registry
    registry.backend.database.close()


class TestDatabaseBoard(BoardContract):
    """On SQLite."""

    @pytest.fixture
    def site(self, registry):
        configs, database = open_configs(registry), registry.backend.database
        return Site(configs, configs._store, database, DatabaseBoard(database, 0.005))


class TestPostgresBoard(BoardContract):
    """On PostgreSQL."""

    @pytest.fixture
    def site(self, roomy):
        configs, database = open_configs(roomy), roomy.backend.database
        with database.write() as connection:
            for table in (config_versions, config_specs, configs_table):
                connection.execute(table.delete())
        return Site(configs, configs._store, database, DatabaseBoard(database, 0.005))


class TestEtcdBoard(BoardContract):
    """On a real server."""

    @pytest.fixture
    def site(self, registry, etcd_url):
        configs, database = open_configs(registry), registry.backend.database
        board = open_copy(settings_of(etcd_url))
        yield Site(configs, configs._store, database, board, Publisher(DatabaseBoard(database, 0.005), board))
        board.close()


@pytest.fixture
def board(etcd_url):
    board = open_copy(settings_of(etcd_url))
    yield board
    board.close()


def keys_of(board):
    """Every key below the prefix of a board."""
    prefix = board._prefix
    request = {"key": _packed(prefix), "range_end": _packed(f"{prefix[:-1]}0")}
    found = board._ask("/v3/kv/range", request).get("kvs", [])
    return {item["key"]: item["value"] for item in found}


def test_an_older_state_never_takes_the_place_of_a_newer_one(board):
    assert board.publish(state(7, '{"a":1}'))
    assert not board.publish(state(7, '{"a":2}'))
    assert not board.publish(state(3, '{"a":3}'))
    assert board.find("limits") == state(7, '{"a":1}')
    assert board.publish(state(8))
    assert board.find("limits") == state(8)


def test_publishers_at_the_same_time_end_with_the_newest(etcd_url):
    states = [state(number, f'{{"a":{number % 3}}}') for number in range(1, 13)]
    boards = [open_copy(settings_of(etcd_url)) for _ in range(4)]
    ready = threading.Barrier(len(boards))

    def publish(board, part):
        ready.wait()
        for each in part:
            board.publish(each)

    threads = [threading.Thread(target=publish, args=(board, states[place::4])) for place, board in enumerate(boards)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert boards[0].find("limits") == states[-1]
    for board in boards:
        board.close()


def test_documents_that_nobody_reads_are_deleted(board):
    for revision in range(1, 6):
        board.publish(state(revision, f'{{"a":{revision}}}'))
    board.publish(state(1, '{"a":1}', name="limits.more"))
    assert len(keys_of(board)) == 4
    assert {each.name for each in board.since(0).changed} == {"limits", "limits.more"}


def test_what_somebody_else_changed_there_is_not_read(board):
    board.publish(state(1, '{"a":1}'))
    document = next(key for key in keys_of(board) if key != board._active("limits"))
    board._ask("/v3/kv/put", {"key": document, "value": _packed('{"a":2}')})
    with pytest.raises(ConfigBoardUnavailableError, match="is not what was copied"):
        board.find("limits")
    board._ask("/v3/kv/deleterange", {"key": document})
    with pytest.raises(ConfigBoardUnavailableError, match="missing"):
        board.find("limits")
    board._ask("/v3/kv/put", {"key": board._active("limits"), "value": _packed("nonsense")})
    with pytest.raises(ConfigBoardUnavailableError, match="not written by this release"):
        board.find("limits")


DAMAGE = ('{"bad":1}', "nonsense", "")


@pytest.mark.parametrize("text", DAMAGE)
def test_what_is_damaged_is_replaced_by_what_is_published(board, text):
    board.publish(state(1, '{"a":1}'))
    board._ask("/v3/kv/put", {"key": board._active("limits"), "value": _packed(text)})
    assert board.publish(state(2, '{"a":2}'))
    assert board.find("limits") == state(2, '{"a":2}')


def test_what_is_damaged_keeps_nobody_from_the_rest(board, caplog):
    for name in ("limits", "more"):
        board.publish(state(1, '{"a":1}', name=name))
    board._ask("/v3/kv/put", {"key": board._active("limits"), "value": "/w=="})  # no UTF-8
    assert [each.name for each in board.since(0).changed] == ["more"]
    assert "left out until it is mended" in caplog.text


def test_what_was_damaged_or_deleted_is_copied_again(registry, configs, board, caplog):
    publisher = Publisher(DatabaseBoard(registry.backend.database, 0.005), board)
    make_active(configs, "limits", {"max": 5})
    make_active(configs, "more", {"max": 6})
    publisher.copy()
    publisher.mend()
    assert "is copied again" not in caplog.text
    before = keys_of(board)
    places = [board._active("limits"), next(key for key in before if key not in map(board._active, ("limits", "more")))]
    for key in places:
        board._ask("/v3/kv/deleterange", {"key": key})
        publisher.mend()
        assert keys_of(board) == before
    for text in DAMAGE:
        board._ask("/v3/kv/put", {"key": board._active("limits"), "value": _packed(text)})
        known = board.since(0).position
        publisher.mend()
        assert keys_of(board) == before
        assert [each.name for each in board.since(known).changed] == ["limits"], "readers are told"
    assert caplog.text.count("is copied again") == len(places) + len(DAMAGE)


def test_a_publisher_mends_by_itself(registry, configs, board, monkeypatch):
    monkeypatch.setattr("crossfade.configs.publishing.MEND_SECONDS", 0.01)
    monkeypatch.setattr("crossfade.configs.publishing.WAIT_SECONDS", 0.01)
    make_active(configs, "limits", {"max": 5})
    own = DatabaseBoard(registry.backend.database, 0.005)
    publisher = Publisher(own, open_copy(settings_of(f"etcd://{board._endpoints[0][7:]}/{board._prefix[:-1]}")))
    publisher.start()
    eventually(lambda: board.find("limits") is not None)
    board._ask("/v3/kv/put", {"key": board._active("limits"), "value": _packed("nonsense")})
    eventually(lambda: [each.active for each in board.since(0).changed] == [1])
    publisher.close()


def test_news_that_etcd_has_forgotten_are_read_anew(board):
    board.publish(state(1, '{"a":1}'))
    old = board.since(0).position
    for revision in range(2, 6):
        board.publish(state(revision, f'{{"a":{revision}}}'))
    board._ask("/v3/kv/compaction", {"revision": str(board.since(0).position), "physical": True})
    assert board.wait(old, 5.0)
    (found,) = board.since(old).changed
    assert found.revision == 5


def test_another_server_of_the_cluster_is_asked_when_one_is_away(etcd_url):
    place = etcd_url.removeprefix("etcd://")
    board = open_copy(settings_of(f"etcd://127.0.0.1:{servers.free_port()},{place}"))
    assert board.publish(state(1, '{"a":1}'))
    assert board.find("limits") == state(1, '{"a":1}')
    assert not board.wait(board.since(0).position, 0.05)
    board.close()


def test_a_server_that_is_away_is_said(etcd_url):
    board = open_copy(settings_of(f"etcd://127.0.0.1:{servers.free_port()}"))
    for act in (lambda: board.find("limits"), lambda: board.since(0), lambda: board.wait(0, 1.0)):
        with pytest.raises(ConfigBoardUnavailableError):
            act()
    with pytest.raises(ConfigBoardUnavailableError):
        board.publish(state(1))
    board.close()
    with pytest.raises(ConfigBoardUnavailableError):
        board.find("limits")


@pytest.mark.parametrize("answer", [httpx.Response(500, text="boom"), httpx.Response(200, text="no json")])
def test_an_answer_that_is_none_is_said(answer):
    board = EtcdBoard(("http://127.0.0.1:1",), "p", 1.0)
    board._http = httpx.Client(transport=httpx.MockTransport(lambda request: answer))
    with pytest.raises(ConfigBoardUnavailableError):
        board.find("limits")


@pytest.mark.parametrize("url", ["etcd://", "etcd://user:secret@host/x", "etcd://a b", "etcd://h:1,,h:2", "zoo://x"])
def test_urls_that_are_none(url):
    with pytest.raises(SettingsError) as caught:
        open_copy(settings_of(url))
    assert caught.value.facts["field"] == "configs.board_url"
    assert "secret" not in str(caught.value)


def test_the_database_is_the_board_by_default(database):
    board = open_board(Settings(), database)
    assert isinstance(board, DatabaseBoard)
    assert open_copy(Settings()) is None


# --- copying ---


class Forgetful(DatabaseBoard):
    """A board that tells what it copies, and fails when it is told to."""

    def __init__(self):
        self.kept, self.away = [], False

    def publish(self, published, *, anew=False):
        if self.away:
            raise ConfigBoardUnavailableError(problem="it is away")
        self.kept.append((published.name, published.active))
        return True

    def lacking(self, everything):
        return []

    def close(self):
        pass


def test_what_could_not_be_copied_is_copied_later(registry, configs, caplog):
    database = FragileDatabase(registry.backend.database._database)
    target = Forgetful()
    publisher = Publisher(DatabaseBoard(database, 0.005), target)
    target.away = True
    configs.draft("limits", {"max": 5}, principal="ann")
    with pytest.raises(ConfigBoardUnavailableError):
        publisher.copy()
    publisher.start()
    eventually(lambda: "cannot be copied" in caplog.text)
    target.away = False
    eventually(lambda: target.kept == [("limits", None)])
    configs.validate("limits", 1)
    configs.approve("limits", 1, principal="bob")
    configs.activate("limits", 1)
    eventually(lambda: target.kept[-1] == ("limits", 1))
    publisher.close()
    assert caplog.text.count("cannot be copied") == 1


def test_pointers_of_etcd_are_plain_json(board):
    board.publish(state(4, '{"a":1}'))
    value = msgspec.json.decode(
        msgspec.json.decode(b'"' + keys_of(board)[board._active("limits")].encode() + b'"', type=bytes)
    )
    assert value == {"revision": 4, "active": 1, "versions": [[1, sha256(b'{"a":1}')]], "routing": None}

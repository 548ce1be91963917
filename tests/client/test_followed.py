"""Configs in the memory of a program: kept new, kept on disk, and never worse than the last good version."""

import asyncio
import json
import os
import stat
import threading

import httpx
import msgspec
import pytest

from crossfade.client import AsyncClient, Client, followed
from crossfade.client.followed import ConfigFile, ConfigQuestion, ReadAnswer, cache_folder
from crossfade.configs.active import ReadConfig
from crossfade.core.hashing import sha256
from crossfade.errors import ConfigBoardUnavailableError, NoActiveConfigError, ServerUnreachableError
from crossfade.platform import open_platform
from crossfade.settings import ConfigSettings, ServingSettings, Settings
from crossfade.web.app import create_app
from crossfade.web.inprocess import InProcessTransport
from tests.traffic.support import eventually, soon


class Server:
    """Answers reads of one config as tests say; a request that waits is held until something changes."""

    def __init__(self, *, holds=True):
        self.holds = holds
        self.number, self.document = 1, '{"max":1}'
        self.status, self.headers, self.digest = 200, {}, None
        self.asked = []
        self._changed = threading.Condition()

    @property
    def etag(self):
        return f'"{self.number}-{sha256(self.document.encode())}"'

    def put(self, document):
        with self._changed:
            self.number, self.document = self.number + 1, document
            self._changed.notify_all()

    def fail(self, status):
        with self._changed:
            self.status = status
            self._changed.notify_all()

    def answer(self, request):
        self.asked.append(request)
        known = request.headers.get("if-none-match", "")
        if "wait_seconds" in request.url.params and self.holds:
            with self._changed:
                self._changed.wait_for(lambda: self.etag != known or self.status != 200, 10)
        if self.status == 0:
            raise httpx.ConnectError("refused", request=request)
        if self.status != 200:
            code = {404: "no_active_config", 503: "draining"}[self.status]
            return httpx.Response(self.status, json={"code": code, "facts": {"name": "limits"}, "detail": "no"})
        if known == self.etag:
            return httpx.Response(304, headers=self.headers)
        digest = self.digest or sha256(self.document.encode())
        head = json.dumps({"name": "limits", "number": self.number, "digest": digest, "variant": "", "why": ""})
        return httpx.Response(200, content=f'{head[:-1]}, "document": {self.document}}}', headers={"etag": self.etag})


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def client(server, monkeypatch):
    monkeypatch.setattr(followed, "_FIRST_PAUSE", 0.005)
    monkeypatch.setattr(followed, "_LONGEST_PAUSE", 0.01)
    monkeypatch.setattr("crossfade.client.calls._FIRST_PAUSE", 0.0)
    with Client("http://server", transport=httpx.MockTransport(server.answer)) as client:
        yield client
    server.fail(404)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def kept_in(folder):
    return [path for path in folder.iterdir() if path.suffix == ".json"]


# --- following ---


def test_a_document_is_at_hand_and_stays_new(server, client, folder):
    with client.config("limits", cache=folder) as limits:
        assert (limits.value, limits.number, limits.from_disk) == ({"max": 1}, 1, False)
        assert limits.digest == sha256(b'{"max":1}')
        told = []
        limits.on_change(lambda config: told.append(config.value))
        limits.on_change(lambda config: 1 / 0)
        server.put('{"max":2}')
        eventually(lambda: limits.number == 2)
        server.put('{"max":3}')
        eventually(lambda: limits.number == 3)
        assert limits.value == {"max": 3}
        with pytest.raises(TypeError, match="cannot be changed"):
            limits.value["max"] = 4  # it would be what the program runs, while everybody is told that it runs 3
        eventually(lambda: told == [{"max": 2}, {"max": 3}])
        assert repr(limits) == "<config limits, version 3>"
        assert limits.confirmed_at is not None


def test_who_reads_is_said(server, client, folder):
    client.config("limits", unit="u-1", context={"country": "AT"}, cache=folder, follow=False)
    (asked,) = server.asked
    assert asked.url.params["unit"] == "u-1"
    assert json.loads(asked.url.params["context"]) == {"country": "AT"}
    assert asked.headers["x-client-id"].endswith(f"/{os.getpid()}/u-1")
    client.config("limits", client="billing", cache=folder, follow=False)
    assert server.asked[-1].headers["x-client-id"] == "billing"


def test_it_tells_what_it_runs_while_it_waits(server, client):
    limits = client.config("limits", cache=None)
    eventually(lambda: len(server.asked) > 1)
    assert server.asked[1].headers["if-none-match"] == server.etag
    assert server.asked[1].url.params["wait_seconds"] == "30.0"
    limits.close()


def test_a_server_that_fails_changes_nothing(server, client):
    limits = client.config("limits", cache=None)
    for status in (503, 404, 0):
        server.fail(status)
        before = len(server.asked)
        eventually(lambda before=before: len(server.asked) > before + 2)
        assert limits.value == {"max": 1}
    server.put('{"max":2}')
    server.fail(200)
    eventually(lambda: limits.number == 2)


def test_a_damaged_answer_is_not_used(server, client):
    limits = client.config("limits", cache=None)
    server.digest = "f" * 64
    server.put('{"max":2}')
    before = len(server.asked)
    eventually(lambda: len(server.asked) > before + 2)
    assert limits.value == {"max": 1}
    server.digest = None
    eventually(lambda: limits.number == 2)
    server.digest = "f" * 64
    with pytest.raises(ConfigBoardUnavailableError, match="damaged"):
        client.config("limits", cache=None)


def test_a_server_that_lets_nobody_wait_says_when_to_come_back(monkeypatch):
    server = Server(holds=False)
    server.headers = {"retry-after": "7"}
    question = ConfigQuestion("limits")
    config = followed.FollowedConfig(question, None)
    with Client("http://server", transport=httpx.MockTransport(server.answer)) as client:
        config.begin(client.send(config.first()))
        steps = config.steps(None)
        call = next(steps)
        pause = steps.send(client.send(call))
        assert 3.5 <= pause <= 7
        assert steps.send(None).params["wait_seconds"] == 30.0


def test_a_proxy_that_does_not_know_304_is_not_flooded(monkeypatch):
    server = Server(holds=False)
    config = followed.FollowedConfig(ConfigQuestion("limits"), None)
    with Client("http://server", transport=httpx.MockTransport(server.answer)) as client:
        first = client.send(config.first())
        config.begin(first)
        steps = config.steps(4.0)
        assert next(steps).params["wait_seconds"] == 2.0, "waiting ends before the client gives up"
        assert isinstance(steps.send(first), float)


def test_closing_ends_it(server, client):
    limits = client.config("limits", cache=None)
    limits.close()
    server.put('{"max":2}')
    eventually(lambda: not [each for each in threading.enumerate() if each.name == "crossfade config limits"])
    assert limits.value == {"max": 1}


def test_nothing_is_read_where_there_is_nothing(server, client, folder):
    server.fail(404)
    with pytest.raises(NoActiveConfigError):
        client.config("limits", cache=folder)
    server.fail(0)
    with pytest.raises(ServerUnreachableError):
        client.config("limits", cache=folder)


# --- on disk ---


def test_a_program_starts_with_the_last_good_version_while_the_server_is_away(server, client, folder, caplog):
    client.config("limits", cache=folder, follow=False)
    server.fail(0)
    limits = client.config("limits", cache=folder)
    assert (limits.value, limits.number, limits.from_disk, limits.confirmed_at) == ({"max": 1}, 1, True, None)
    assert "read from disk" in caplog.text
    server.put('{"max":2}')
    server.fail(200)
    eventually(lambda: limits.number == 2)
    assert not limits.from_disk
    eventually(lambda: b'"max":2' in kept_in(folder)[0].read_bytes())
    server.fail(0)
    assert client.config("limits", cache=folder, follow=False).value == {"max": 2}


def test_what_is_refused_is_not_read_from_disk(server, client, folder):
    client.config("limits", cache=folder, follow=False)
    server.fail(404)
    with pytest.raises(NoActiveConfigError):
        client.config("limits", cache=folder)


def test_it_is_kept_for_its_owner_only_and_whole(server, client, folder):
    client.config("limits", cache=folder, follow=False)
    (path,) = kept_in(folder)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(folder.iterdir()) == [path], "nothing is left beside it"


def test_each_reader_has_a_file_of_its_own(server, client, folder):
    for options in ({}, {"unit": "u-1"}, {"context": {"a": 1}}):
        client.config("limits", cache=folder, follow=False, **options)
    client.config("other", cache=folder, follow=False)
    assert len(kept_in(folder)) == 4


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-5],
        lambda data: b"\x00" * len(data),
        lambda data: data.replace(b'"max":1', b'"max":2'),
        lambda data: data.replace(b'"format":1', b'"format":9'),
        lambda data: data.replace(b'"name":"limits"', b'"name":"others"'),
        lambda data: b"[" * 100_000,
        lambda data: b'{"a":' * 100_000,
    ],
    ids=range(8),
)
def test_a_damaged_file_is_no_file(server, client, folder, damage, caplog):
    client.config("limits", cache=folder, follow=False)
    (path,) = kept_in(folder)
    path.write_bytes(damage(path.read_bytes()))
    server.fail(0)
    with pytest.raises(ServerUnreachableError):
        client.config("limits", cache=folder)
    assert "of no use" in caplog.text
    server.fail(200)
    assert client.config("limits", cache=folder, follow=False).value == {"max": 1}
    server.fail(0)
    assert client.config("limits", cache=folder, follow=False).value == {"max": 1}, "it was written anew"


def test_a_disk_that_does_not_take_it_is_logged(server, client, tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    limits = client.config("limits", cache=blocked, follow=False)
    assert limits.value == {"max": 1}
    assert "was not kept on disk" in caplog.text


def test_the_same_document_by_the_word_of_a_rollout_is_no_news():
    document = msgspec.Raw(b'{"a":1}')
    read = ReadConfig("limits", 1, sha256(b'{"a":1}'), document)
    drawn = msgspec.structs.replace(read, variant="stable", rollout="limits-1")
    limits = followed.followed_config("limits", "http://server", {"cache": None})
    limits.begin(ReadAnswer(read, 0.0))
    assert limits._take(ReadAnswer(drawn, 0.0)) is False
    assert (limits.number, limits.variant) == (1, "stable")


def test_a_write_that_breaks_off_leaves_what_was_there(folder, monkeypatch, caplog):
    file = ConfigFile(folder, "http://server", ConfigQuestion("limits"))
    first = ReadConfig("limits", 1, sha256(b'{"a":1}'), msgspec.Raw(b'{"a":1}'))
    file.keep(first)

    def fail(handle):
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", fail)
    file.keep(ReadConfig("limits", 2, sha256(b'{"a":2}'), msgspec.Raw(b'{"a":2}')))
    assert file.find().number == 1
    assert list(folder.iterdir()) == [file.path]


def test_several_that_write_at_once_do_not_take_it_from_each_other(folder, monkeypatch, caplog):
    files = [ConfigFile(folder, "http://server", ConfigQuestion("limits")) for _ in range(2)]
    first, second = (ReadConfig("limits", n, sha256(b'{"a":1}'), msgspec.Raw(b'{"a":1}')) for n in (1, 2))
    flush = os.fsync

    def write_another(handle):
        monkeypatch.setattr(os, "fsync", flush)
        flush(handle)
        files[1].keep(second)

    monkeypatch.setattr(os, "fsync", write_another)
    files[0].keep(first)
    assert caplog.text == ""
    assert files[0].find().number == 1, "whoever renames last"
    assert list(folder.iterdir()) == [files[0].path]


def test_by_default_it_is_in_the_cache_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "crossfade" / "configs"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert cache_folder() == tmp_path / "me" / ".cache" / "crossfade" / "configs"


# --- both clients on a server ---


async def test_the_asynchronous_client_follows_with_a_task(tmp_path, monkeypatch):
    quick = ServingSettings(snapshot_poll_seconds=0.01)
    settings = Settings(home=tmp_path / "home", serving=quick, configs=ConfigSettings(four_eyes=False))
    with open_platform(settings, serve=True) as platform:

        def activate(document):
            number = platform.configs.verbs.draft("limits", document)[0].number
            platform.configs.verbs.validate("limits", number)
            platform.configs.verbs.approve("limits", number)
            platform.configs.verbs.activate("limits", number)

        await asyncio.to_thread(activate, {"max": 1})
        await asyncio.to_thread(platform.configs.readers.refresh)
        app = create_app(platform)
        blocking = Client("http://localhost", transport=InProcessTransport(app))
        async with AsyncClient("http://localhost", transport=httpx.ASGITransport(app)) as client:
            limits = await client.config("limits", cache=tmp_path / "a", client="task")
            other = await asyncio.to_thread(blocking.config, "limits", cache=tmp_path / "b", client="thread")
            assert limits.value == other.value == {"max": 1}
            await soon(lambda: platform.configs.readers.waiting == 2)
            await asyncio.to_thread(activate, {"max": 2})
            await soon(lambda: limits.number == 2 and other.number == 2)
            await soon(lambda: platform.configs.readers.waiting == 2)
            report = await client.config_drift("limits")
            assert {each.client: each.state for each in report.clients} == {"task": "current", "thread": "current"}
            limits.close()
            other.close()
            platform.configs.readers.release()
        await asyncio.to_thread(blocking.close)


async def test_an_asynchronous_start_from_disk(tmp_path):
    server = Server()
    transport = httpx.MockTransport(server.answer)
    async with AsyncClient("http://server", transport=transport) as client:
        await client.config("limits", cache=tmp_path, follow=False)
        server.status = 0
        limits = await client.config("limits", cache=tmp_path, follow=False)
        assert (limits.value, limits.from_disk) == ({"max": 1}, True)
        with pytest.raises(ServerUnreachableError):
            await client.config("limits", cache=None)

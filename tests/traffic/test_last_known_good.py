"""A process that starts while the database is away serves what was served last, and follows when it is back."""

import json
import os
import threading
import time

import httpx
import pytest

from crossfade.client import Client
from crossfade.errors import DatabaseUnavailableError, UnavailableError
from crossfade.platform import open_platform
from crossfade.settings import Settings, StorageSettings
from crossfade.storage.database import open_database
from crossfade.traffic.follower import SnapshotFollower
from crossfade.traffic.last_known_good import FILE_NAME, LastKnownGood
from crossfade.traffic.snapshot import Aspired, Role, Route, Snapshot
from tests import control
from tests.faults import Fault, FaultProxy
from tests.traffic.support import FAST, eventually, move, publish_all

ROUTE = Route(
    "churn",
    champion="1.0.0",
    aliases={"champion": "1.0.0"},
    aspired=(Aspired("1.0.0", "d" * 64, 10, Role.ACTIVE, "2026-01-31T09:30:00", 3),),
    former={"champion": ("0.9.0",)},
    generations={"": 4},
)
SNAPSHOT = Snapshot(7, {"churn": ROUTE})
URL = "postgresql://somebody:hush@host/name"


@pytest.fixture
def kept(tmp_path):
    return LastKnownGood(tmp_path / "home", URL)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "home" / FILE_NAME


def test_what_was_kept_is_found(kept):
    assert kept.find() is None
    kept.keep(SNAPSHOT)
    snapshot, age = kept.find()
    assert snapshot == SNAPSHOT
    assert age < 60


def test_it_tells_nobody_a_password_and_nobody_else_anything(kept, file):
    kept.keep(SNAPSHOT)
    assert "hush" not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    assert file.parent.stat().st_mode & 0o077 == 0


def test_another_database_does_not_use_it(kept, tmp_path):
    kept.keep(SNAPSHOT)
    assert LastKnownGood(tmp_path / "home", URL + "2").find() is None


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\0" * 100,
        b"[" * 100_000,
        b'{"format":1}',
        b'{"format":99,"database":"","revision":1,"models":{}}',
        b'{"format":1,"database":"x","revision":"y","models":{}}',
    ],
)
def test_damage_is_the_same_as_nothing(kept, file, damage):
    kept.keep(SNAPSHOT)
    file.write_bytes(damage)
    assert kept.find() is None


def test_half_a_file_is_never_seen(kept, file):
    kept.keep(SNAPSHOT)
    whole = file.read_bytes()
    for end in range(len(whole)):
        file.write_bytes(whole[:end])
        assert kept.find() is None


def test_many_writers_leave_one_whole_file(tmp_path, file):
    def write(revision):
        for _ in range(20):
            LastKnownGood(tmp_path / "home", URL).keep(Snapshot(revision, {"churn": ROUTE}))

    threads = [threading.Thread(target=write, args=(revision,)) for revision in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert json.loads(file.read_text())["revision"] in {1, 2, 3}
    assert LastKnownGood(tmp_path / "home", URL).find()[0].models == SNAPSHOT.models


def test_an_older_snapshot_never_replaces_a_newer_one(kept, file, caplog):
    kept.keep(SNAPSHOT)
    kept.keep(Snapshot(6, {}))
    assert kept.find()[0] == SNAPSHOT
    kept.give_way(7)
    assert kept.find()[0] == SNAPSHOT, "nothing is older here"
    kept.give_way(6)
    kept.keep(Snapshot(6, {}))
    assert kept.find()[0].revision == 6
    assert "went back from revision 7 to 6" in caplog.text
    assert json.loads((file.parent / f"{FILE_NAME}.7").read_text())["revision"] == 7, "nothing is lost"


def test_it_is_a_witness_of_a_database_that_was_used(kept, file):
    assert kept.witness() is None
    kept.keep(Snapshot(0, {}))
    assert kept.witness() is None, "nothing was ever changed there"
    kept.keep(SNAPSHOT)
    assert kept.witness() == (7, file)
    file.write_bytes(b"damage")
    assert kept.witness() is None


def test_a_disk_that_refuses_is_logged_and_serving_goes_on(kept, file, caplog):
    file.parent.mkdir()
    file.mkdir()  # a folder in its place cannot be replaced
    kept.keep(SNAPSHOT)
    assert "was not kept" in caplog.text
    assert [path.name for path in file.parent.iterdir()] == [FILE_NAME]


def test_the_age_counts_from_when_it_was_last_confirmed(kept, file, monkeypatch):
    kept.keep(SNAPSHOT)
    os.utime(file, (0, time.time() - 3_600))
    assert kept.find()[1] == pytest.approx(3_600, abs=60)
    kept.confirm()
    assert kept.find()[1] == pytest.approx(3_600, abs=60), "it is not touched with every poll"
    monkeypatch.setattr("crossfade.traffic.last_known_good._TOUCH_SECONDS", 0.0)
    kept.confirm()
    assert kept.find()[1] < 60


@pytest.fixture
def follow(registry, tmp_path):
    made = []

    def make():
        kept = LastKnownGood(tmp_path / "home", URL)
        made.append(SnapshotFollower(registry.backend, registry.backend.database, FAST, kept))
        return made[-1]

    yield make
    for follower in made:
        follower.close()


def test_a_follower_starts_from_the_file_and_is_as_old_as_that(registry, follow, file):
    publish_all(registry, "m", "1.0.0")
    move(registry, "m", "1.0.0")
    follow().start()
    os.utime(file, (0, time.time() - 500))
    registry.backend.database.away = True
    later = follow()
    later.start()
    assert later.snapshot.route("m").champion == "1.0.0"
    assert later.age_seconds == pytest.approx(500, abs=60)
    registry.backend.database.away = False
    eventually(lambda: later.age_seconds < 60)


def test_nothing_known_and_no_database_is_an_error(registry, follow):
    registry.backend.database.away = True
    with pytest.raises(DatabaseUnavailableError):
        follow().start()


def test_the_database_has_the_last_word_even_when_it_went_back(registry, follow, tmp_path):
    publish_all(registry, "m", "1.0.0")
    LastKnownGood(tmp_path / "home", URL).keep(Snapshot(10**6, {"gone": Route("gone", champion="9.0.0")}))
    registry.backend.database.away = True
    follower = follow()
    follower.start()
    assert "gone" in follower.snapshot.models
    registry.backend.database.away = False
    eventually(lambda: set(follower.snapshot.models) == {"m"})
    moved = move(registry, "m", "1.0.0")
    eventually(lambda: follower.snapshot.revision == moved.seq)


def test_a_server_starts_and_predicts_without_its_database(tmp_path, postgres_url):
    with FaultProxy(postgres_url) as proxy:
        settings = Settings(home=tmp_path, storage=StorageSettings(database_url=proxy.url))
        env = {"CROSSFADE_STORAGE__DATABASE_URL": proxy.url, "CROSSFADE_SERVING__DRAIN_SECONDS": "0.1"}
        with open_platform(settings) as platform:
            client = control.local_client(platform)
            control.register(client, tmp_path, "1.0.0", "2.0.0")
            client.move_alias("tiny", "champion", "1.0.0")
            with control.running_server(tmp_path, **env):
                pass
            proxy.set(Fault(refuse=True))
            with control.running_server(tmp_path, **env) as server, Client(server.url) as remote:
                assert remote.predict("tiny", [[1.0, 2.0]]).tolist() == [[3.0]]
                with pytest.raises(UnavailableError):
                    remote.model("tiny")
                assert "the last known good" in server.log.read_text()
                proxy.set(Fault())
                eventually(lambda: knows(remote), 30)
                client.move_alias("tiny", "champion", "2.0.0")
                eventually(lambda: remote.predict("tiny", [[1.0, 2.0]]).tolist() == [[6.0]], 30)


@pytest.fixture
def served(tmp_path):
    """The home of a server that has served `tiny`, and has ended."""
    home = control.registered_home(tmp_path, "1.0.0")
    with control.running_server(home):
        pass
    return home


def gone(home):
    for path in home.glob("crossfade.db*"):
        path.rename(home / f"aside-{path.name}")


def damaged(home):
    gone(home)
    (home / "crossfade.db").write_bytes(b"something else entirely" * 100)


def closed(home):
    gone(home)
    (home / "crossfade.db").mkdir()


def emptied(home):
    gone(home)
    open_database(f"sqlite:///{home / 'crossfade.db'}").close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "code"),
    [(gone, "lost"), (emptied, "lost"), (damaged, "damaged"), (closed, "unavailable")],
)
def test_a_server_starts_from_what_it_knows_when_its_file_is(served, trouble, code):
    known = (served / FILE_NAME).read_bytes()
    trouble(served)
    with pytest.raises(DatabaseUnavailableError) as raised, open_platform(Settings(home=served)):
        pass
    assert raised.value.code == f"database_{code}"
    with control.running_server(served) as server, Client(server.url) as remote:
        assert remote.predict("tiny", [[1.0, 2.0]]).tolist() == [[3.0]]
        health = httpx.get(f"{server.url}/readyz").json()
        assert health["status"] == "ready"
        assert health["database_away_seconds"] > 0
        with pytest.raises(UnavailableError) as refused:
            remote.model("tiny")
        assert refused.value.code == f"database_{code}"
        assert "the last known good" in server.log.read_text()
        assert (served / FILE_NAME).read_bytes() == known
        restore(served)
        eventually(lambda: knows(remote), 30)
        eventually(lambda: "database_away_seconds" not in httpx.get(f"{server.url}/readyz").json(), 10)


def restore(home):
    path = home / "crossfade.db"
    if path.is_dir():
        path.rmdir()
    for aside in home.glob("aside-*"):
        aside.replace(home / aside.name.removeprefix("aside-"))


def test_a_person_may_begin_anew(served):
    gone(served)
    (served / FILE_NAME).unlink()
    with open_platform(Settings(home=served)) as platform:
        assert not platform.registry.list_models().items


def test_a_running_server_notices_that_its_file_is_gone(served):
    with control.running_server(served) as server, Client(server.url) as remote:
        assert knows(remote)
        gone(served)
        eventually(lambda: "database_away_seconds" in httpx.get(f"{server.url}/readyz").json(), 10)
        with pytest.raises(UnavailableError, match="is gone"):
            remote.move_alias("tiny", "champion", "1.0.0")
        assert remote.predict("tiny", [[1.0, 2.0]]).tolist() == [[3.0]]
        restore(served)
        eventually(lambda: knows(remote), 10)


def knows(client):
    try:
        return client.model("tiny").name == "tiny"
    except UnavailableError:
        return False

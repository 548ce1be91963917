"""Followers move forward only, agree with each other, and live without the database."""

import logging
import threading

import pytest

from crossfade.errors import DatabaseUnavailableError
from crossfade.traffic.follower import SnapshotFollower
from tests.traffic.support import FAST, eventually, move, publish_all


@pytest.fixture
def follow():
    """Makes followers, and closes them."""
    made = []

    def make(registry):
        follower = SnapshotFollower(registry.backend, registry.backend.database, FAST)
        made.append(follower)
        return follower

    yield make
    for follower in made:
        follower.close()


def test_two_followers_on_one_database_agree(any_registry, follow):
    followers = [follow(any_registry), follow(any_registry)]
    for follower in followers:
        follower.start()
    publish_all(any_registry, "churn", "1.0.0", "1.1.0")
    for version in ("1.0.0", "1.1.0"):
        moved = move(any_registry, "churn", version)
        for follower in followers:
            eventually(lambda f=follower, m=moved: f.snapshot.revision >= m.seq)
            assert follower.snapshot.route("churn").champion == version
    assert followers[0].snapshot.digest == followers[1].snapshot.digest


def test_listeners_see_every_snapshot_once_and_in_order(registry, follow):
    follower, seen = follow(registry), []
    follower.subscribe(lambda snapshot: seen.append(snapshot.revision))
    first = follower.refresh()
    assert follower.refresh() is first
    publish_all(registry, "churn", "1.0.0")
    assert follower.refresh().revision == first.revision + 1
    assert seen == [first.revision, first.revision + 1]
    assert follower.snapshot.revision == seen[-1]


def test_a_snapshot_never_goes_back(registry, follow, monkeypatch):
    follower = follow(registry)
    publish_all(registry, "churn", "1.0.0")
    newest = follower.refresh()
    monkeypatch.setattr(registry.backend.database, "revision", lambda: newest.revision - 1)
    assert follower.refresh() is newest


def test_concurrent_refreshes_move_forward(registry, follow):
    follower, seen = follow(registry), []
    follower.subscribe(lambda snapshot: seen.append(snapshot.revision))
    publish_all(registry, "churn", "1.0.0")
    threads = [threading.Thread(target=lambda: [follower.refresh() for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(5):
        publish_all(registry, "churn", f"1.1.{number}")
    for thread in threads:
        thread.join()
    follower.refresh()
    assert seen == sorted(set(seen))
    assert seen[-1] == registry.backend.database.revision()


def test_without_a_first_snapshot_there_is_no_start(registry, follow, database):
    follower = follow(registry)
    database.away = True
    with pytest.raises(DatabaseUnavailableError):
        follower.start()
    assert follower.snapshot.revision == -1


def test_the_last_snapshot_outlives_the_database(registry, follow, database, caplog):
    caplog.set_level(logging.INFO)
    publish_all(registry, "churn", "1.0.0", "1.1.0")
    move(registry, "churn", "1.0.0")
    follower = follow(registry)
    follower.start()
    eventually(lambda: follower.age_seconds < 1)
    database.away = True
    eventually(lambda: "cannot be read" in caplog.text)
    before = follower.age_seconds
    eventually(lambda: follower.age_seconds > before + 0.03)
    assert follower.snapshot.route("churn").champion == "1.0.0"
    with pytest.raises(DatabaseUnavailableError):
        follower.refresh()
    database.away = False
    move(registry, "churn", "1.1.0")
    eventually(lambda: follower.snapshot.route("churn").champion == "1.1.0")
    eventually(lambda: "following the registry again" in caplog.text)
    assert caplog.text.count("cannot be read") == 1


def test_a_fault_in_one_revision_does_not_end_following(registry, follow, monkeypatch, caplog):
    publish_all(registry, "churn", "1.0.0")
    follower = follow(registry)
    follower.start()
    find = registry.backend.find_model

    def fail(name):
        raise RuntimeError("fault")

    monkeypatch.setattr(registry.backend, "find_model", fail)
    move(registry, "churn", "1.0.0")
    eventually(lambda: "cannot be read" in caplog.text)
    assert follower.snapshot.route("churn").champion is None
    monkeypatch.setattr(registry.backend, "find_model", find)
    eventually(lambda: follower.snapshot.route("churn").champion == "1.0.0")


def test_closing_keeps_the_last_snapshot(registry, follow):
    follower = follow(registry)
    follower.start()
    follower.close()
    follower.close()
    assert follower.snapshot.revision >= 0

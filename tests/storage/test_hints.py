"""Hints: a commit wakes who follows, where the database can say so, and whatever happens to them is no matter."""

import threading
import time

import pytest

from crossfade.storage.changes import commit_change
from crossfade.storage.database import open_database
from crossfade.storage.hints import Hints
from crossfade.storage.migrate import migrate
from tests.traffic.support import Clock

LONG = 60.0


@pytest.fixture
def postgres(postgres_url):
    database = open_database(postgres_url, pool_size=2)
    migrate(database)
    yield database
    database.close()


@pytest.fixture
def ending():
    return threading.Event()


def change(database, *, fails=False):
    with database.write() as connection:
        commit_change(
            connection,
            kind="alias",
            model="m",
            subject="m",
            principal="ann",
            action="alias.move",
            details={},
            now=Clock()(),
        )
        if fails:
            raise KeyError("nothing happens")


def woken_by(hints, ending, act):
    """Return for how many seconds a waiter that would wait for a minute waits after `act`."""
    listening = threading.Event()
    woken: list[float] = []

    def wait():
        hints.wait(0.001, ending)  # listens from here on
        listening.set()
        hints.wait(LONG, ending)
        woken.append(time.monotonic())

    thread = threading.Thread(target=wait)
    thread.start()
    assert listening.wait(30)
    begun = time.monotonic()
    act()
    thread.join(30)
    assert woken, "nobody was woken"
    return woken[0] - begun


def test_a_commit_wakes(postgres, ending):
    hints = Hints(postgres)
    woken_by(hints, ending, lambda: change(postgres))
    hints.close()


def test_every_follower_is_woken(postgres, ending):
    both = [Hints(postgres)]
    other = open_database(postgres._writer.url.render_as_string(hide_password=False).replace("+psycopg", ""))
    both.append(Hints(other))
    waiting = [threading.Thread(target=hints.wait, args=(LONG, ending)) for hints in both]
    for thread in waiting:
        thread.start()
    while any(thread.is_alive() for thread in waiting):  # those that do not listen yet hear the next one
        change(postgres)
        for thread in waiting:
            thread.join(0.05)
    for hints in both:
        hints.close()
    other.close()


def test_what_is_rolled_back_wakes_nobody(postgres, ending):
    hints = Hints(postgres)
    hints.wait(0.001, ending)
    with pytest.raises(KeyError):
        change(postgres, fails=True)
    raw = hints._connection.connection.driver_connection
    assert list(raw.notifies(timeout=0.2, stop_after=1)) == []
    hints.close()


def test_whoever_ends_stops_waiting(postgres, ending):
    hints = Hints(postgres)
    woken_by(hints, ending, ending.set)
    assert not hints.wait(LONG, ending)
    hints.close()


def test_sqlite_has_none_and_waits(sqlite, ending):
    hints = Hints(sqlite)
    assert hints.wait(0.001, ending)
    change(sqlite)
    assert hints.wait(0.001, ending)
    ending.set()
    assert not hints.wait(LONG, ending)
    hints.close()


def test_a_connection_that_died_is_opened_again(postgres, ending):
    hints = Hints(postgres)
    hints.wait(0.001, ending)
    hints._connection.connection.driver_connection.close()
    assert hints.wait(0.01, ending)  # waits like a poll
    assert hints._connection is None
    woken_by(hints, ending, lambda: change(postgres))
    hints.close()


def test_a_database_that_is_away_is_polled(ending):
    hints = Hints(open_database("postgresql://nobody@127.0.0.1:1/nothing"))
    assert hints.wait(0.01, ending)
    hints.close()
    hints.close()

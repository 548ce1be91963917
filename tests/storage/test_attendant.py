"""What one process at a time does from time to time: it goes on whatever a turn comes to, and lets go at its end."""

import logging
import threading

import pytest

from crossfade.errors import DatabaseUnavailableError
from crossfade.storage.attendant import Attendant
from crossfade.storage.lease import Lease
from tests.traffic.support import Clock, eventually


class Turning(Attendant):
    """Counts its turns, and comes to what a test wants."""

    def __init__(self, lease, *outcomes):
        super().__init__("tests", lease, 0.002)
        self.outcomes = list(outcomes)
        self.turns = 0

    def turn(self):
        self.turns += 1
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, Exception):
            raise outcome
        self.say("a problem") if outcome else None


@pytest.fixture
def lease(sqlite):
    return Lease(sqlite, "tests", 30.0, Clock())


def test_it_turns_until_it_is_closed(lease):
    with Turning(lease) as turning:
        eventually(lambda: turning.turns > 3)
    done = turning.turns
    assert not turning._thread.is_alive()
    assert turning.turns == done


def test_whatever_a_turn_comes_to_the_next_one_is_taken(lease, caplog):
    outcomes = (DatabaseUnavailableError(problem="it is away"), ValueError("a bug"), KeyError("another"))
    with caplog.at_level(logging.WARNING), Turning(lease, *outcomes) as turning:
        eventually(lambda: turning.turns > 5)
    assert "not attended to: tests: " in caplog.text
    assert "a turn of what attends to tests failed" in caplog.text


def test_a_problem_is_said_once_until_it_changes(lease, caplog):
    turning = Turning(lease)
    with caplog.at_level(logging.WARNING):
        for problem, about in (("a", "x"), ("a", "x"), ("b", "x"), ("a", "y"), ("a", "x")):
            turning.say(problem, about)
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "not attended to: `x` of tests: a",
        "not attended to: `x` of tests: b",
        "not attended to: `y` of tests: a",
        "not attended to: `x` of tests: a",
    ]


def test_after_a_good_turn_the_same_problem_is_said_again(lease, caplog):
    away = DatabaseUnavailableError(problem="it is away")
    with caplog.at_level(logging.WARNING), Turning(lease, away, away, None, away) as turning:
        eventually(lambda: turning.turns > 4)
    assert caplog.text.count("not attended to: tests") == 2


def test_closing_lets_another_process_go_on_at_once(sqlite):
    clock = Clock()
    first, second = (Lease(sqlite, "tests", 30.0, clock) for _ in range(2))
    with Turning(first):
        assert first.hold()
        assert not second.hold()
    assert second.hold()


def test_closing_without_a_database_waits_for_the_lease_to_run_out(caplog):
    class Away:
        def release(self):
            raise DatabaseUnavailableError(problem="it is away")

    with caplog.at_level(logging.WARNING):
        Turning(Away()).close()
    assert "the lease of tests runs out by itself" in caplog.text


def test_its_thread_does_not_keep_a_process_alive(lease):
    assert Turning(lease)._thread.daemon
    assert threading.active_count() >= 1


def test_what_a_turn_is_has_to_be_said(lease):
    with pytest.raises(TypeError):
        Attendant("nothing", lease, 1.0)

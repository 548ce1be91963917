from __future__ import annotations

import time

import pytest

from crossfade.cli.demo.release import FOLLOW_SECONDS, Reign, Release
from crossfade.errors import GoldenMismatchError, ServerUnreachableError
from tests.cli.demo.support import an_answer

MISMATCH = GoldenMismatchError(ref="flight_delay:1.1.1", output="predict", difference="8 of 8 values")


class FakeClient:
    """Keeps the order of what it is asked, and refuses what it is told to refuse."""

    def __init__(self, refusals=()):
        self.calls = []
        self.refusals = dict(refusals)

    def _do(self, *call):
        self.calls.append(call)
        if call in self.refusals:
            raise self.refusals[call]

    def move_alias(self, name, alias, version, *, reason):
        self._do("move", alias, version)

    def rollback(self, name, *, reason):
        self._do("rollback")

    def register_draft(self, name, draft, *, version):
        self._do("register", draft, version)


class FakeWatch:
    """Passes no time of its own."""

    def __init__(self):
        self.watched = []

    def during(self, seconds):
        self.watched.append(seconds)
        time.sleep(0.001)

    def while_doing(self, work):
        return work()


class FakeScreen:
    def __init__(self):
        self.lines = []

    def __getattr__(self, kind):
        return lambda text: self.lines.append((kind, text))


def run(refusals=None):
    client, watch, screen = (
        FakeClient({("move", "champion", "1.1.1"): MISMATCH} if refusals is None else refusals),
        FakeWatch(),
        FakeScreen(),
    )
    release = Release(client, watch, screen, 4.0)
    release.run("broken draft")
    return release, client, watch, screen


def test_the_steps_come_in_order():
    _, client, _, _ = run()
    assert client.calls == [
        ("move", "champion", "1.1.0"),
        ("register", "broken draft", "1.1.1"),
        ("move", "champion", "1.1.1"),
        ("rollback",),
        ("move", "champion", "1.1.0"),
    ]


def test_the_traffic_is_watched_after_each_step():
    _, _, watch, _ = run()
    assert watch.watched == [4.0, 4.0, 2.0, 4.0, 4.0]


def test_the_refusal_is_kept_and_shown():
    release, _, _, screen = run()
    assert release.refusal is MISMATCH
    assert ("bad", f"error: {MISMATCH.message}") in screen.lines


def test_a_broken_version_that_is_accepted_is_not_called_refused():
    release, _, _, screen = run(refusals={})
    assert release.refusal is None
    assert not [text for kind, text in screen.lines if kind == "bad" or "golden" in text]


def test_every_swap_is_timed():
    release, _, _, screen = run()
    assert [version for version, _ in release.swaps] == ["1.1.0", "1.0.0", "1.1.0"]
    assert all(seconds >= 0 for _, seconds in release.swaps)
    assert len([text for kind, text in screen.lines if kind == "good" and "answers after" in text]) == 3


def test_a_failure_of_a_real_move_ends_the_story():
    gone = ServerUnreachableError(url="http://127.0.0.1:1", problem="refused")
    with pytest.raises(ServerUnreachableError):
        run(refusals={("rollback",): gone})


def test_each_command_is_shown_before_it_is_done():
    _, _, _, screen = run()
    assert [text for kind, text in screen.lines if kind == "command"] == [
        "crossfade models alias flight_delay champion 1.1.0",
        "crossfade models alias flight_delay champion 1.1.1",
        "crossfade models rollback flight_delay",
        "crossfade models alias flight_delay champion 1.1.0",
    ]


# --- who may answer when ---


def test_reigns_follow_one_another_with_a_pause_for_followers():
    release, _, _, _ = run()
    assert [reign.version for reign in release.reigns] == ["1.0.0", "1.1.0", "1.0.0", "1.1.0"]
    for former, latter in zip(release.reigns, release.reigns[1:], strict=False):
        assert latter.begins >= former.ends + FOLLOW_SECONDS


def test_only_requests_that_lie_within_a_reign_count():
    reign = Reign("1.0.0", 10.0, 20.0)
    assert reign.covers(an_answer(due=10.0, seconds=0.1))
    assert not reign.covers(an_answer(due=9.9, seconds=0.1))
    assert not reign.covers(an_answer(due=19.95, seconds=0.1))


def test_an_answer_of_another_version_in_a_reign_is_a_stray():
    release = Release(FakeClient(), FakeWatch(), FakeScreen(), 1.0)
    release.reigns.append(Reign("1.1.0", 10.0, 20.0))
    within, after = an_answer(due=15.0, version="1.0.0"), an_answer(due=25.0, version="1.0.0")
    assert release.strays([after, an_answer(due=12.0, version="1.1.0")]) == ()
    assert release.strays([within]) == ("1.0.0",)

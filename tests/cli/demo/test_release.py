from __future__ import annotations

from dataclasses import replace

import pytest

from crossfade.cli.demo.board import Standing
from crossfade.cli.demo.release import Release
from crossfade.cli.demo.stage import FOLLOW_SECONDS
from crossfade.errors import GoldenMismatchError, ServerUnreachableError
from crossfade.solutions.flights.quality import measure
from tests.cli.demo.support import FakeStage, a_board

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


def run(refusals=None, **changes):
    client = FakeClient({("move", "champion", "1.1.1"): MISMATCH} if refusals is None else refusals)
    stage = FakeStage(client)
    stage.scorer.board = lambda: a_board(**changes)
    release = Release(stage)
    release.run("broken draft")
    return release, client, stage.watches[0], stage.screen


def test_the_steps_come_in_order():
    _, client, _, _ = run()
    assert client.calls == [
        ("move", "champion", "1.1.0"),
        ("register", "broken draft", "1.1.1"),
        ("move", "champion", "1.1.1"),
        ("rollback",),
    ]


def test_the_traffic_is_watched_after_each_step():
    _, _, watch, _ = run()
    assert watch.watched == [4.0, 4.0, 2.0, 4.0]


def test_the_refusal_is_kept_and_shown():
    release, _, _, screen = run()
    assert release.refusal is MISMATCH
    assert ("bad", f"error: {MISMATCH.message}") in screen.lines


def test_a_broken_version_that_is_accepted_is_not_called_refused():
    release, _, _, screen = run(refusals={})
    assert release.refusal is None
    assert not screen.of("bad")
    assert not [text for text in screen.of("good") if "golden" in text]


def test_every_swap_is_timed():
    release, _, _, screen = run()
    assert [version for version, _ in release.swaps] == ["1.1.0", "1.0.0"]
    assert all(seconds >= 0 for _, seconds in release.swaps)
    assert len([text for text in screen.of("good") if "answers after" in text]) == 2


def test_a_failure_of_a_real_move_ends_the_story():
    gone = ServerUnreachableError(url="http://127.0.0.1:1", problem="refused")
    with pytest.raises(ServerUnreachableError):
        run(refusals={("rollback",): gone})


def test_each_command_is_shown_before_it_is_done():
    _, _, _, screen = run()
    assert screen.of("command") == [
        "crossfade models alias flight_delay champion 1.1.0",
        "crossfade models alias flight_delay champion 1.1.1",
        "crossfade models rollback flight_delay",
    ]


# --- who may answer when ---


def test_reigns_follow_one_another_with_a_pause_for_followers():
    release, _, _, _ = run()
    assert [reign.version for reign in release.reigns] == ["1.0.0", "1.1.0", "1.0.0"]
    for former, latter in zip(release.reigns, release.reigns[1:], strict=False):
        assert latter.begins >= former.ends + FOLLOW_SECONDS


# --- before and after ---


@pytest.mark.parametrize(("loss", "seems"), [(0.9, "seems worse"), (0.1, "seems better")])
def test_before_and_after_are_told_with_what_is_wrong_about_them(loss, seems):
    before = measure([0, 1, 0, 1], [0.3, 0.7, 0.3, 0.7])
    after = replace(before, log_loss=loss, base_rate=0.75)
    board = {"standings": (Standing("1.0.0", 800, before), Standing("1.1.0", 400, after))}
    _, _, _, screen = run(**board)
    text = " ".join(screen.of("say"))
    assert f"1.1.0 {seems}: log loss {loss:.3f} after {before.log_loss:.3f}" in text
    assert "75.0% were late instead of 50.0%" in text


def test_without_landed_flights_nothing_is_told_of_them():
    _, _, _, screen = run(standings=())
    assert "seems" not in " ".join(screen.of("say"))

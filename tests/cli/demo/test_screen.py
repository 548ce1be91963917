from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from crossfade.cli.demo import screen as screen_module
from crossfade.cli.demo.screen import Screen
from crossfade.cli.demo.tables import ReleaseTable
from tests.cli.demo.support import a_board

VERSIONS = ("1.0.0", "1.1.0")


def a_table(**changes):
    return ReleaseTable(a_board(**changes), VERSIONS)


@pytest.fixture
def plain():
    return Screen(drawn=False)


@pytest.fixture
def terminal(monkeypatch):
    output = io.StringIO()
    monkeypatch.setattr(screen_module, "_console", lambda: Console(file=output, force_terminal=True, width=100))
    return Screen(drawn=True), output


def tell(screen):
    screen.step("A step")
    screen.say("a line with [brackets]")
    screen.command("crossfade models list")
    screen.code("client.register(...)")
    screen.good("it works")
    screen.bad("it does not")


def test_plain_output_has_no_control_characters(plain, capsys):
    tell(plain)
    with plain.table():
        plain.head(a_table())
        plain.show(a_table())
    out, err = capsys.readouterr()
    assert "\x1b" not in out
    assert err == ""
    assert out.splitlines()[:6] == [
        "",
        "A step",
        "a line with [brackets]",
        "  $ crossfade models list",
        "  >>> client.register(...)",
        "  it works",
    ]


def test_a_long_refusal_is_wrapped(plain, capsys):
    plain.bad("error: " + "other answers " * 20)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 2
    assert all(len(line) <= 112 and line.startswith("  ") for line in lines)


def test_lines_are_not_written_more_often_than_they_can_be_read(plain, capsys, monkeypatch):
    now = 100.0
    monkeypatch.setattr(screen_module.time, "monotonic", lambda: now)
    for now in (100.0, 100.5, 101.9, 102.1):  # noqa: B007 - the clock reads it
        plain.show(a_table())
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_notes_are_written_less_often_than_lines(plain, capsys, monkeypatch):
    now = 100.0
    monkeypatch.setattr(screen_module.time, "monotonic", lambda: now)
    table = SimpleNamespace(line="line", note="note")
    for now in (100.0, 102.5, 105.0, 109.0):  # noqa: B007 - the clock reads it
        plain.show(table)
    assert capsys.readouterr().out.split() == ["line", "note", "line", "line", "line", "note"]


def test_an_act_begins_with_its_title(plain, capsys):
    plain.act("Act 1: release")
    assert capsys.readouterr().out == "\n--- Act 1: release ---\n"


def test_on_a_terminal_the_table_is_drawn_and_taken_away(terminal):
    screen, output = terminal
    tell(screen)
    with screen.table():
        screen.head(a_table())
        screen.show(a_table())
        drawn = output.getvalue()
    assert "\x1b[" in drawn
    for text in ("[brackets]", "answers >", "Brier", "17.0 ms", "50.0%", "0.371"):
        assert text in drawn
    assert "landed, late" not in drawn


def test_on_a_terminal_the_answering_version_is_marked(terminal):
    screen, output = terminal
    with screen.table():
        screen.show(a_table(answering="1.0.0", errors=3))
    lines = [line for line in output.getvalue().splitlines() if "answers >" in line]
    assert all("1.0.0" in line for line in lines)
    assert lines


def test_without_the_table_a_terminal_shows_nothing_of_it(terminal):
    screen, output = terminal
    screen.show(a_table())
    assert output.getvalue() == ""


def test_the_console_is_rich(capsys):
    Screen(drawn=True).say("hello")
    assert capsys.readouterr().out == "hello\n"

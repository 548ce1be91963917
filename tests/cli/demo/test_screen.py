from __future__ import annotations

import io

import pytest
from rich.console import Console

from crossfade.cli.demo import screen as screen_module
from crossfade.cli.demo.screen import Screen, plain_head, plain_line
from tests.cli.demo.support import a_board

VERSIONS = ("1.0.0", "1.1.0")


@pytest.fixture
def plain():
    return Screen(drawn=False, versions=VERSIONS)


@pytest.fixture
def terminal(monkeypatch):
    output = io.StringIO()
    monkeypatch.setattr(screen_module, "_console", lambda: Console(file=output, force_terminal=True, width=100))
    return Screen(drawn=True, versions=VERSIONS), output


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
        plain.head()
        plain.show(a_board())
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


def test_columns_of_the_lines_are_aligned():
    head, line = plain_head(VERSIONS), plain_line(a_board(), VERSIONS)
    assert len(head) == len(line)
    assert line.split() == ["Dec", "01", "12:00", "1,200", "0", "5.2", "17.0", "1.1.0", "4", "50.0%", "0.371", "-"]


def test_a_line_before_the_first_answer():
    line = plain_line(a_board(clock=None, standings=(), answering=""), VERSIONS)
    assert line.split() == ["1,200", "0", "5.2", "17.0", "-", "-"]


def test_lines_are_not_written_more_often_than_they_can_be_read(plain, capsys, monkeypatch):
    now = 100.0
    monkeypatch.setattr(screen_module.time, "monotonic", lambda: now)
    for now in (100.0, 100.5, 101.9, 102.1):  # noqa: B007 - the clock reads it
        plain.show(a_board())
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_on_a_terminal_the_table_is_drawn_and_taken_away(terminal):
    screen, output = terminal
    tell(screen)
    with screen.table():
        screen.head()
        screen.show(a_board())
        drawn = output.getvalue()
    assert "\x1b[" in drawn
    for text in ("[brackets]", "answers >", "Brier", "17.0 ms", "50.0%", "0.371"):
        assert text in drawn
    assert "landed, late" not in drawn


def test_on_a_terminal_the_answering_version_is_marked(terminal):
    screen, output = terminal
    with screen.table():
        screen.show(a_board(answering="1.0.0", errors=3))
    lines = [line for line in output.getvalue().splitlines() if "answers >" in line]
    assert all("1.0.0" in line for line in lines)
    assert lines


def test_without_the_table_a_terminal_shows_nothing_of_it(terminal):
    screen, output = terminal
    screen.show(a_board())
    assert output.getvalue() == ""


def test_the_console_is_rich(capsys):
    Screen(drawn=True, versions=VERSIONS).say("hello")
    assert capsys.readouterr().out == "hello\n"

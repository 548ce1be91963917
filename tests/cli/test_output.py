"""Formats: data on stdout, everything else on stderr, and nothing cut off."""

import io
import json
import sys
from datetime import UTC, datetime

import click
import pytest

from crossfade.cli import output
from crossfade.cli.output import Output, Sheet, facts, moment, render_error
from crossfade.core.memory import size
from crossfade.errors import VersionNotFoundError

SHEET = Sheet(("name", "why"), [("a", "x" * 300), ("bb", "")])
ERROR = VersionNotFoundError(ref="churn:2.1.1", name="churn", suggestion="did you mean `churn:2.1.0`? Or ")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Return a function that makes stdout and stderr terminals; pytest would undo it before the test begins."""

    def begin():
        out, err = Terminal(), Terminal()
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        monkeypatch.setenv("COLUMNS", "60")
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)
        return out

    return begin


def show(style, capsys, sheet=SHEET):
    Output(style).show(lambda: b'{"a":1}', lambda: sheet)
    return capsys.readouterr()


def test_json_is_the_body(capsys):
    assert show("json", capsys) == ('{"a":1}\n', "")


def test_quiet_is_one_name_per_line(capsys):
    assert show("quiet", capsys) == ("a\nbb\n", "")
    assert show("quiet", capsys, facts([("version", "x:1.0.0"), ("empty", "")], name="x:1.0.0")).out == "x:1.0.0\n"


def test_text_is_plain_and_complete_when_it_is_no_terminal(capsys):
    out = show("auto", capsys).out
    assert "x" * 300 in out
    assert "\x1b" not in out
    assert out.splitlines()[0] == "name  why"


def test_a_long_cell_does_not_push_the_others_away(capsys):
    rows = [("k" * 200, "v"), ("short", "w")]
    out = show("auto", capsys, Sheet((), rows)).out.splitlines()
    assert out[0] == "k" * 200 + "  v"
    assert len(out[1]) < 60


def test_on_a_terminal_a_table_is_drawn_and_folds_instead_of_cutting(terminal):
    screen = terminal()
    Output("auto").show(lambda: b"", lambda: SHEET)
    text = screen.getvalue()
    assert "─" in text
    assert text.count("x") == 300


WIDE = Sheet(
    ("metric", "treatment", "interval", "found"),
    [
        ("revenue (primary)", "treatment", "+4.79 % to +13.4 %", "significantly better"),
        ("errors", "treatment", "", "?"),
    ],
)


@pytest.mark.parametrize("columns", [52, 55, 60, 80])
def test_a_table_that_fits_breaks_no_word(terminal, monkeypatch, columns):
    screen = terminal()
    monkeypatch.setenv("COLUMNS", str(columns))
    Output("auto").show(lambda: b"", lambda: WIDE)
    text = click.unstyle(screen.getvalue())
    assert "─" in text
    assert max(map(len, text.splitlines())) <= columns
    assert {"revenue", "(primary)", "treatment", "significantly", "better"} <= set(text.split())


def test_what_is_too_wide_is_told_one_after_the_other(terminal, monkeypatch):
    screen = terminal()
    monkeypatch.setenv("COLUMNS", "40")
    Output("auto").show(lambda: b"", lambda: WIDE)
    lines = [line.split(maxsplit=1) for line in screen.getvalue().splitlines() if line.strip()]
    assert [line[0] for line in lines] == [*WIDE.headings, "metric", "treatment", "found"]
    assert lines[3][1].strip() == "significantly better"


def test_human_draws_without_a_terminal_too(capsys):
    assert "─" in show("human", capsys).out


def test_markup_in_names_is_only_text(terminal):
    screen = terminal()
    Output("auto").show(lambda: b"", lambda: Sheet(("a",), [("[bold]x[/bold]",)]))
    assert "[bold]x[/bold]" in screen.getvalue()


def test_nothing_to_show_is_said_on_stderr(capsys):
    captured = show("auto", capsys, Sheet(("a",), [], empty="no models yet"))
    assert captured == ("", "no models yet\n")


def test_hints_go_to_stderr_and_quiet_has_none(capsys):
    Output("json").hint("try `this`")
    assert capsys.readouterr() == ("", "hint: try `this`\n")
    Output("quiet").hint("try `this`")
    assert capsys.readouterr() == ("", "")


def test_errors_look_as_designed(capsys):
    Output().error(ERROR)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "error: `churn:2.1.1` is not registered",
        "",
        "hint: did you mean `churn:2.1.0`? Or list versions with `crossfade models versions churn`",
    ]


def test_errors_are_json_for_programs(capsys):
    Output("json").error(ERROR)
    captured = capsys.readouterr()
    assert captured.out == ""
    document = json.loads(captured.err)
    assert (document["code"], document["facts"]["name"]) == ("version_not_found", "churn")


def test_an_error_without_a_hint_has_none():
    assert render_error("it broke", "") == "error: it broke"


def test_colour_only_on_a_terminal_and_never_with_no_color(terminal, monkeypatch):
    terminal()
    assert "\x1b[" in render_error("it broke", "repair it")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in render_error("it broke", "repair it")


def test_questions_need_a_terminal_or_yes(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    Output().confirm("Really?", yes=True)
    with pytest.raises(click.UsageError, match="--yes"):
        Output().confirm("Really?", yes=False)


@pytest.mark.parametrize(("typed", "agreed"), [("y\n", True), ("n\n", False)])
def test_questions_are_asked_on_a_terminal(monkeypatch, terminal, typed, agreed):
    terminal()
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    monkeypatch.setattr(click.termui, "visible_prompt_func", lambda _prompt="": typed.strip())
    if agreed:
        Output().confirm("Really?", yes=False)
    else:
        with pytest.raises(click.Abort):
            Output().confirm("Really?", yes=False)


def test_bars_are_drawn_on_a_terminal_only(terminal, monkeypatch):
    terminal()
    with Output("auto").progress("sending") as move:
        assert move is not None
        move(5, 10)
    with Output("json").progress("sending") as move:
        assert move is None
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with Output("auto").progress("sending") as move:
        assert move is None


def test_times_and_sizes_are_readable():
    assert moment(None) == ""
    assert moment(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)).endswith(":04:05")
    assert [size(n) for n in (0, 1023, 1024, 5 * 2**20, 2**40)] == ["0 B", "1023 B", "1 KiB", "5 MiB", "1 TiB"]


def test_formats_are_listed_once():
    assert output.FORMATS == ("auto", "human", "json", "quiet")

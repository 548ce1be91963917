"""What every command shares: hints name commands that can be run as they stand, on the same server."""

from collections.abc import Iterator

import click
import pytest

from crossfade.cli.main import main
from crossfade.cli.output import Output
from crossfade.cli.session import Session
from crossfade.errors import ExperimentConflictError

URL = "http://server:8000"
OWN_WAY = {"serve", "demo", "replay"}
"""Hints of these say themselves where to."""


def commands_of(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        words = f"{path} {name}".strip()
        if isinstance(command, click.Group):
            yield from commands_of(command, words)
        elif command is not None:
            yield words, command


@pytest.mark.parametrize(("words", "command"), [pytest.param(*pair, id=pair[0]) for pair in commands_of(main)])
def test_a_hint_names_the_server_only_to_commands_that_take_one(words, command, capsys):
    if words in OWN_WAY:
        return
    Session(Output(), URL).hint(f"try `crossfade {words} THING`")
    takes = any("--server" in parameter.opts for parameter in command.params)
    there = f" --server {URL}" if takes else ""
    assert capsys.readouterr().err == f"hint: try `crossfade {words} THING{there}`\n"


@pytest.mark.parametrize(
    ("hint", "told"),
    [
        (
            "see it with `crossfade experiments show late`",
            f"see it with `crossfade experiments show late --server {URL}`",
        ),
        ("see an example with `crossfade experiments create --help`", None),
        ("try `crossfade serve`", None),
    ],
)
def test_a_failure_names_the_server_too(hint, told, capsys):
    error = ExperimentConflictError(name="late", problem="is decided")
    error.hint = hint
    Session(Output(), URL).refuse(error)
    assert f"hint: {told or hint}\n" in capsys.readouterr().err


def test_without_a_server_a_hint_stays_as_it_is(capsys):
    Session(Output()).hint("try `crossfade models list`")
    assert capsys.readouterr().err == "hint: try `crossfade models list`\n"

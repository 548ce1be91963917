"""The group of commands: what it imports, how it fails."""

import os
import signal
import subprocess
import sys
import time

import click
import pytest
from click.testing import CliRunner

import crossfade
from crossfade.cli.main import NOUNS, LazyGroup, main
from tests import control

HEAVY = {"fastapi", "starlette", "sqlalchemy", "pydantic", "numpy", "httpx", "rich", "msgspec", "uvicorn", "structlog"}


def modules_after(*arguments):
    """The top-level packages that a command imports."""
    code = (
        "import sys\n"
        f"sys.argv = ['crossfade', *{list(arguments)!r}]\n"
        "from crossfade.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return {name.partition(".")[0] for name in done.stderr.splitlines()}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["models", "--help"],
        ["models", "alias", "-h"],
        ["settings", "--help"],
        ["serve", "-h"],
    ],
    ids=" ".join,
)
def test_help_imports_nothing_heavy(arguments):
    assert HEAVY & modules_after(*arguments) == set()


def test_every_noun_is_listed_with_its_line():
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for name, (_, summary) in NOUNS.items():
        assert name in result.output
        assert summary in result.output


@pytest.mark.parametrize("name", sorted(set(NOUNS)))
def test_every_noun_has_help(name):
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"Usage: crossfade {name}")


def test_the_version_is_shown():
    result = CliRunner().invoke(main, ["--version"])
    assert result.output == f"crossfade {crossfade.__version__}\n"


def test_without_a_command_the_help_is_shown():
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 2
    assert "Commands:" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [(["modles"], "models"), (["models", "registr"], "register"), (["settings", "show", "--source"], "--sources")],
)
def test_a_typing_mistake_gets_a_suggestion(arguments, suggestion):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert suggestion in result.stderr
    assert "\n\nhint: `crossfade" in result.stderr


def test_a_missing_argument_is_a_usage_error():
    result = CliRunner().invoke(main, ["models", "show"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "`crossfade models show --help` shows how" in result.stderr


@pytest.fixture
def group():
    return LazyGroup("crossfade", table={})


def failing(group, error):
    @group.command()
    def fail():
        raise error

    return CliRunner().invoke(group, ["fail"])


def test_commands_can_be_added_beside_the_table(group):
    @group.command()
    def extra():
        """Do more."""
        click.echo("done")

    assert CliRunner().invoke(group, ["extra"]).output == "done\n"
    assert "Do more." in CliRunner().invoke(group, ["--help"]).output


def test_an_interruption_is_quiet(group):
    result = failing(group, KeyboardInterrupt())
    assert result.exit_code == 130
    assert "Traceback" not in result.output


def test_a_bug_is_not_hidden(group):
    result = failing(group, ZeroDivisionError("bug"))
    assert isinstance(result.exception, ZeroDivisionError)


def test_a_command_can_return_its_exit_code(group):
    @group.command()
    def nine():
        return 9

    assert CliRunner().invoke(group, ["nine"]).exit_code == 9


def test_a_reader_who_leaves_is_no_error(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "crossfade", "settings", "show", "--format", "json"],
        env=control.environment(tmp_path),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert process.returncode == 1
    assert "Traceback" not in process.stderr
    assert "BrokenPipe" not in process.stderr


def test_ctrl_c_ends_a_command_without_a_traceback(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "crossfade", "predict", "tiny", "--server", "http://127.0.0.1:1"],
        env=control.environment(tmp_path),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in {7, 130, -signal.SIGINT}
    if process.returncode == 130:
        assert "Traceback" not in errors

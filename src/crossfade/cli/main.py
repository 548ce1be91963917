"""The command `crossfade`: a table of nouns, each imported when it is used."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from crossfade.cli.output import render_error

NOUNS: dict[str, tuple[str, str]] = {
    "demo": ("crossfade.cli.demo:demo", "Watch real models being released, on real data."),
    "models": ("crossfade.cli.models:models", "Register, inspect, compare and move versions of models."),
    "predict": ("crossfade.cli.predict:predict", "Predict rows of a file or of stdin."),
    "experiments": ("crossfade.cli.experiments:experiments", "Compare versions on live traffic: start, watch, judge."),
    "rollouts": ("crossfade.cli.rollouts:rollouts", "Release a version gradually, by evidence, and take it back."),
    "alerts": ("crossfade.cli.alerts:alerts", "See what is wrong, and by which rules; ask for silence."),
    "configs": ("crossfade.cli.configs:configs", "Release configuration: check, approve, activate, take it back."),
    "deployments": ("crossfade.cli.deployments:deployments", "Let versions run with replicas, and see how they do."),
    "jobs": ("crossfade.cli.jobs:jobs", "Have whole files predicted, and take the results."),
    "safety": ("crossfade.cli.safety:safety", "Look at every answer, and stop models in an emergency."),
    "outcomes": ("crossfade.cli.outcomes:outcomes", "Record what became of decisions."),
    "serve": ("crossfade.cli.serve:serve", "Start the server."),
    "replay": ("crossfade.cli.replay:replay", "Put captured predictions to another version."),
    "cache": ("crossfade.cli.cache:cache", "See what is kept of answers, and have them computed anew."),
    "doctor": ("crossfade.cli.doctor:doctor", "Check that everything Crossfade needs is in order."),
    "settings": ("crossfade.cli.settings:settings", "See every setting and where its value comes from."),
}
"""Command -> where it is, and its line in the help."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are run, so that `--help` imports none."""

    def __init__(self, name: str, *, table: Mapping[str, tuple[str, str]], **options: Any) -> None:
        stubs = {name: click.Command(name, help=summary) for name, (_, summary) in table.items()}
        super().__init__(name, commands=stubs, **options)
        self._table = table

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self._table:
            return super().get_command(ctx, cmd_name)
        module, _, name = self._table[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's protocol
        """List the commands in the order of the table."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the commands and their lines into the help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(120)) for name, command in self.commands.items()])

    def main(  # type: ignore[override]  # click overloads it on standalone_mode, which is always on here
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **options: Any
    ) -> NoReturn:
        """Run a command and exit with its code; every failure looks the same."""
        try:
            result = super().main(args, prog_name or "crossfade", standalone_mode=False, **options)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            sys.exit(error.exit_code)
        except click.ClickException as error:
            click.echo(render_error(error.format_message(), _usage_hint(error)), err=True)
            sys.exit(error.exit_code)
        except click.Abort:
            click.echo(err=True)
            sys.exit(130)
        sys.exit(result if isinstance(result, int) else 0)


def _usage_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"`{context.command_path} --help` shows how" if context is not None else ""


def _version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:  # noqa: ARG001
    if value:
        from crossfade import __version__

        click.echo(f"crossfade {__version__}")
        ctx.exit()


main = LazyGroup(
    "crossfade",
    table=NOUNS,
    help="Release machine-learning models: keep versions, serve them, and move traffic on the evidence.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    params=[
        click.Option(
            ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version."
        )
    ],
)
"""The entry point."""

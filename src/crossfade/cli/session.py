"""What every command shares: its options, how it reaches a server, and how its failures are shown."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from crossfade.cli.output import FORMATS, Format, Output, Sheet
from crossfade.errors import CrossfadeError

if TYPE_CHECKING:
    from crossfade.client import Client
    from crossfade.client.calls import Call

_LOCAL = "demo|serve|settings|replay|experiments (?:assign|evaluate-policy|power)"
"""What asks no server, or hands the address on in its own way."""
_COMMAND = re.compile(rf"(`crossfade (?!(?:{_LOCAL})\b)[a-z]+\b[^`]*(?<! --help))`")
T = TypeVar("T")


@dataclass(frozen=True)
class Session:
    """One run of a command.

    Attributes:
        output: Where it prints.
        server: The server's address; empty means the local platform, in this process.
        dry_run: Check everything, change nothing.
        yes: Do not ask.
    """

    output: Output
    server: str = ""
    dry_run: bool = False
    yes: bool = False

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Open a client: to the server, or to the same application in this process."""
        from crossfade.client import Client

        if self.server:
            with Client(self.server) as client:
                yield client
            return
        from crossfade.platform import open_platform
        from crossfade.settings import Settings
        from crossfade.web.app import create_app
        from crossfade.web.inprocess import InProcessTransport
        from crossfade.web.logs import configure_logs

        settings = Settings.load()
        configure_logs(settings.log.model_copy(update={"level": "WARNING"}))
        with (
            open_platform(settings) as platform,
            Client("http://localhost", transport=InProcessTransport(create_app(platform))) as client,
        ):
            yield client

    def change(self, client: Client, call: Call[T], sheet: Callable[[T], Sheet], hint: Callable[[T], str]) -> None:
        """Make a call that changes something, or only rehearse it, and show the outcome."""
        if self.dry_run:
            from crossfade.client.verbs import dry_run

            self.rehearsed(client.send(dry_run(call)).would)
            return
        answer = client.send(call)
        self.show(answer, sheet(answer))
        self.hint(hint(answer))

    def show(self, answer: object, sheet: Sheet) -> None:
        """Show an answer of the server."""
        import msgspec

        self.output.show(lambda: msgspec.json.encode(answer), lambda: sheet)

    def hint(self, text: str) -> None:
        """End a success with a command worth running next, on the same server."""
        self.output.hint(self._there(text))

    def refuse(self, error: CrossfadeError) -> None:
        """Show a failure, with a hint whose commands ask the same server."""
        error.hint = self._there(error.hint)
        self.output.error(error)

    def rehearsed(self, would: str) -> None:
        """Show the outcome of a dry run."""
        from crossfade.registry.requests import Rehearsal

        self.show(Rehearsal(would), Sheet((), [(f"would {would}",)]))
        self.hint("run it without `--dry-run` to do it")

    def _there(self, hint: str) -> str:
        return _COMMAND.sub(rf"\1 --server {self.server}`", hint) if self.server else hint


def command(
    group: click.Group | None = None,
    name: str | None = None,
    *,
    remote: bool = True,
    changes: bool = False,
    destroys: bool = False,
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function a command with the common options; its first argument is the session.

    Args:
        group: Where it belongs; None makes a command of its own.
        name: As it is typed; default is the function's.
        remote: It speaks to a server.
        changes: It changes something, so it can be rehearsed.
        destroys: It cannot be undone, so it asks first.
    """

    def decorate(function: Callable[..., None]) -> click.Command:
        def run(style: Format, server: str = "", dry_run: bool = False, yes: bool = False, **rest: Any) -> None:
            session = Session(Output(style), server.rstrip("/"), dry_run, yes)
            try:
                function(session, **rest)
            except CrossfadeError as error:
                session.refuse(error)
                sys.exit(error.exit_code)

        functools.update_wrapper(run, function)
        run.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
        for option in _options(remote=remote, changes=changes, destroys=destroys):
            option(run)
        make = click.command if group is None else group.command
        made: click.Command = make(name or function.__name__.replace("_", "-"))(run)
        return made

    return decorate


def _options(*, remote: bool, changes: bool, destroys: bool) -> Iterator[Callable[[Any], Any]]:
    if destroys:
        yield click.option("--yes", is_flag=True, help="Do not ask.")
    if changes:
        yield click.option("--dry-run", is_flag=True, help="Check everything, change nothing.")
    if remote:
        text = "Address of a server; default: the local platform, in this process."
        yield click.option("--server", envvar="CROSSFADE_SERVER", default="", metavar="URL", help=text)
    yield click.option(
        "--format",
        "style",
        type=click.Choice(FORMATS),
        default="auto",
        help="auto: a table on a terminal, else plain text; json: the REST body; quiet: names only.",
    )

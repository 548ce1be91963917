"""How the demo looks: calm lines, and a table that stays in place on a terminal and becomes lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import wrap
from typing import TYPE_CHECKING

import click

from crossfade.cli.demo.tables import Table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

LINE_SECONDS = 2.0
"""Between two lines of the table where it is not drawn."""
NOTE_SECONDS = 8.0
"""Between two of its notes."""

_LINE_WIDTH = 110


class Screen:
    """Where the demo is shown.

    Args:
        drawn: Whether this is a terminal: colours, and a table that stays in place.
    """

    def __init__(self, *, drawn: bool) -> None:
        self._console = _console() if drawn else None
        self._live: Live | None = None
        self._next_line = self._next_note = 0.0

    def say(self, text: str = "") -> None:
        """Write one line."""
        self._write(text, "")

    def act(self, text: str) -> None:
        """Begin an act of the story."""
        self.say()
        self._write(f"--- {text} ---", "bold magenta")

    def step(self, text: str) -> None:
        """Begin a step of the story."""
        self.say()
        self._write(text, "bold")

    def command(self, text: str) -> None:
        """Show what somebody would type to do the same."""
        self._write(f"  $ {text}", "cyan")

    def code(self, text: str) -> None:
        """Show the line of Python that does the same."""
        self._write(f"  >>> {text}", "cyan")

    def good(self, text: str) -> None:
        """Write what went as it should."""
        self._write(f"  {text}", "green")

    def bad(self, text: str) -> None:
        """Write what was refused, or went wrong."""
        self._wrapped(text, "red")

    def words(self, text: str) -> None:
        """Write sentences, on as many lines as they need."""
        self._wrapped(text, "italic")

    @contextmanager
    def table(self) -> Iterator[None]:
        """Keep the table in view."""
        if self._console is None:
            yield
            return
        from rich.live import Live

        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            self._live = live
            yield
        self._live = None

    def show(self, table: Table) -> None:
        """Show the state of now: redraw the table, or write its next line when that is due."""
        if self._live is not None:
            self._live.update(table.drawn(), refresh=True)
        elif self._console is None and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_SECONDS
            self.say(table.line)
            if table.note and time.monotonic() >= self._next_note:
                self._next_note = time.monotonic() + NOTE_SECONDS
                self.words(table.note)

    def head(self, table: Table) -> None:
        """Write the headings, where the table is written line by line."""
        if self._console is None:
            self.say(table.head)

    def _wrapped(self, text: str, style: str) -> None:
        for line in wrap(text, _LINE_WIDTH, subsequent_indent="  "):
            self._write(f"  {line}", style)

    def _write(self, text: str, style: str) -> None:
        if self._console is None:
            click.echo(text)
        else:
            self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _console() -> Console:
    from rich.console import Console

    return Console()

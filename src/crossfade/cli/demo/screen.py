"""How the demo looks: calm lines, and a table that stays in place on a terminal and becomes lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import wrap
from typing import TYPE_CHECKING

import click

from crossfade.cli.demo.board import Board

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

LINE_SECONDS = 2.0
"""Between two lines of the table where it is not drawn."""

_LINE_WIDTH = 110
_HEADINGS = ("due (UTC)", "requests", "errors", "p50 ms", "p99 ms", "answers")
_WIDTHS = (12, 8, 6, 7, 7, 7)


class Screen:
    """Where the demo is shown.

    Args:
        drawn: Whether this is a terminal: colours, and a table that stays in place.
        versions: The versions whose quality the table follows.
    """

    def __init__(self, *, drawn: bool, versions: tuple[str, ...]) -> None:
        self._versions = versions
        self._console = _console() if drawn else None
        self._live: Live | None = None
        self._next_line = 0.0

    def say(self, text: str = "") -> None:
        """Write one line."""
        self._write(text, "")

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
        for line in wrap(text, _LINE_WIDTH, subsequent_indent="  "):
            self._write(f"  {line}", "red")

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

    def show(self, board: Board) -> None:
        """Show the state of now: redraw the table, or write its next line when that is due."""
        if self._live is not None:
            self._live.update(_drawn(board, self._versions), refresh=True)
        elif self._console is None and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_SECONDS
            self.say(plain_line(board, self._versions))

    def head(self) -> None:
        """Write the headings, where the table is written line by line."""
        if self._console is None:
            self.say(plain_head(self._versions))

    def _write(self, text: str, style: str) -> None:
        if self._console is None:
            click.echo(text)
        else:
            self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def plain_head(versions: tuple[str, ...]) -> str:
    """Return the headings of the lines."""
    cells = [heading.rjust(width) for heading, width in zip(_HEADINGS, _WIDTHS, strict=True)]
    return "  " + "  ".join([*cells, *(f"{version} landed, late, log loss".rjust(28) for version in versions)])


def plain_line(board: Board, versions: tuple[str, ...]) -> str:
    """Return one line of the table."""
    values = _values(board)
    cells = [value.rjust(width) for value, width in zip(values, _WIDTHS, strict=True)]
    return "  " + "  ".join([*cells, *(_quality(board, version).rjust(28) for version in versions)])


def _values(board: Board) -> tuple[str, ...]:
    when = "" if board.clock is None else f"{board.clock:%b %d %H:%M}"
    return (
        when,
        f"{board.asked:,}",
        f"{board.errors:,}",
        f"{board.p50_ms:.1f}",
        f"{board.p99_ms:.1f}",
        board.answering,
    )


def _quality(board: Board, version: str) -> str:
    quality = board.standing(version).quality
    return "-" if quality is None else f"{quality.flights:,}  {quality.base_rate:.1%}  {quality.log_loss:.3f}"


def _console() -> Console:
    from rich.console import Console

    return Console()


def _drawn(board: Board, versions: tuple[str, ...]) -> RenderableType:
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    when, asked, errors, p50, p99, _ = _values(board)
    facts = (
        ("flights due", f"{when} UTC"),
        ("requests", asked),
        ("errors", errors),
        ("p50", f"{p50} ms"),
        ("p99", f"{p99} ms"),
    )
    head = Text("  ")
    for label, value in facts:
        head.append(f"{label} ", "dim").append(
            f"{value}   ", "bold red" if label == "errors" and board.errors else "bold"
        )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    table.add_column("")
    for heading in ("version", "answered", "landed", "late", "log loss", "AUC", "Brier"):
        table.add_column(heading, justify="right")
    for version in versions:
        standing = board.standing(version)
        quality = standing.quality
        measured = (
            (f"{quality.flights:,}", f"{quality.base_rate:.1%}", f"{quality.log_loss:.3f}", f"{quality.auc:.3f}")
            if quality
            else ("-",) * 4
        )
        brier = f"{quality.brier:.3f}" if quality else "-"
        answers = version == board.answering
        table.add_row(
            "  answers >" if answers else "", version, f"{standing.answered:,}", *measured, brier,
            style="bold green" if answers else "",
        )  # fmt: skip
    return Group(Text(), head, table)

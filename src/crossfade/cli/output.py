"""The only place that prints: data on stdout, everything else on stderr.

`json` is the REST body; `human` is a table; `quiet` is one name per line, for scripts; `auto` is a table that is drawn
on a terminal and plain, complete text anywhere else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import click

from crossfade.errors import CrossfadeError

if TYPE_CHECKING:
    from datetime import datetime

Format = Literal["auto", "human", "json", "quiet"]
_WIDEST = 48
_WORD, _BETWEEN = 24, 3
"""Letters of a word that stay together in a table (digests and paths may be folded), and between two columns."""
FORMATS: tuple[Format, ...] = ("auto", "human", "json", "quiet")


@dataclass(frozen=True)
class Sheet:
    """What people see: rows under headings. `names` is what `quiet` prints; by default the first cells."""

    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    names: Sequence[str] | None = None
    empty: str = "nothing here yet"

    def narrowed(self, *by: object) -> Sheet:
        """Return the sheet of a list that may be empty because of what was asked for."""
        return replace(self, empty="nothing matches what was asked for") if any(by) else self

    def quiet(self) -> Iterator[str]:
        """Yield the lines of the quiet format."""
        yield from self.names if self.names is not None else (row[0] for row in self.rows)


def facts(pairs: Iterable[tuple[str, str]], *, name: str) -> Sheet:
    """Return one thing as a sheet of two columns; rows without a value are left out."""
    return Sheet((), [pair for pair in pairs if pair[1]], [name])


class Output:
    """Prints in one format."""

    def __init__(self, style: Format = "auto") -> None:
        self.style: Format = style

    @property
    def drawn(self) -> bool:
        """Whether tables have lines and colours: on a terminal, or when `human` was asked for."""
        return self.style == "human" or (self.style == "auto" and sys.stdout.isatty())

    def show(self, body: Callable[[], bytes], sheet: Callable[[], Sheet]) -> None:
        """Print an answer.

        Args:
            body: Gives the JSON of the REST body.
            sheet: Gives what people see.
        """
        if self.style == "json":
            self.data(body().decode())
        elif self.style == "quiet":
            for line in sheet().quiet():
                self.data(line)
        else:
            self._sheet(sheet())

    def data(self, text: str) -> None:
        """Print one line of data on stdout."""
        click.echo(text)

    def note(self, text: str) -> None:
        """Print one line that is not data, on stderr."""
        if self.style != "quiet":
            click.echo(text, err=True)

    def hint(self, command: str) -> None:
        """End a success with a command worth running next."""
        self.note(f"{_styled('hint:', 'cyan')} {command}")

    def error(self, error: CrossfadeError) -> None:
        """Print a refusal on stderr: for programs with `json`, else for people."""
        if self.style == "json":
            click.echo(_error_json(error), err=True)
        else:
            click.echo(render_error(error.message, error.hint), err=True)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask before something that cannot be undone; without a terminal only `--yes` agrees."""
        if yes:
            return
        if not sys.stdin.isatty():
            raise click.UsageError(f"{question} Add `--yes` to agree.")
        click.confirm(question, abort=True, err=True)

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[int, int], None] | None]:
        """Draw a bar on stderr while bytes move; give the callable that moves it (done, total)."""
        if self.style in {"json", "quiet"} or not sys.stderr.isatty():
            yield None
            return
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(title, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    def _sheet(self, sheet: Sheet) -> None:
        if not sheet.rows:
            self.note(sheet.empty)
        elif self.drawn:
            _draw(sheet)
        else:
            self.data(_plain(sheet))


def render_error(message: str, hint: str) -> str:
    """Return an error as people read it."""
    text = f"{_styled('error:', 'red')} {message}"
    return f"{text}\n\n{_styled('hint:', 'cyan')} {hint}" if hint else text


def moment(value: datetime | None) -> str:
    """Return a time as people read it: local, to the second."""
    return "" if value is None else value.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _styled(text: str, colour: str) -> str:
    if os.environ.get("NO_COLOR") or not sys.stderr.isatty():
        return text
    return click.style(text, fg=colour, bold=True)


def _error_json(error: CrossfadeError) -> str:
    import msgspec

    document = {"code": error.code, "detail": error.message, "hint": error.hint, "facts": error.facts}
    return msgspec.json.encode(document, enc_hook=str).decode()


def _plain(sheet: Sheet) -> str:
    rows = [row for row in (sheet.headings, *sheet.rows) if row]
    # one very long cell must not push everything else away; it stays complete
    widths = [min(max(len(cell) for cell in column), _WIDEST) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _draw(sheet: Sheet) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if sheet.headings and _room(sheet, console.width) < 0:
        sheet = _record_by_record(sheet)
    table = Table(box=box.SIMPLE_HEAD, show_header=bool(sheet.headings), pad_edge=False)
    for heading, width in zip(sheet.headings or ("",) * len(sheet.rows[0]), _widths(sheet, console.width), strict=True):
        table.add_column(heading, overflow="fold", width=width)
    for row in sheet.rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def _longest(sheet: Sheet, parts: Callable[[str], Iterable[str]], most: int = sys.maxsize) -> list[int]:
    """Return how long the longest part of each column is, `most` at most."""
    columns = zip(*filter(None, (sheet.headings, *sheet.rows)), strict=True)
    return [min(max((len(part) for cell in column for part in parts(cell)), default=0), most) for column in columns]


def _room(sheet: Sheet, width: int) -> int:
    """Return how many letters are left of a terminal if no word is broken that people read as one."""
    words = _longest(sheet, str.split, _WORD)
    return width - sum(words) - _BETWEEN * len(words)


def _widths(sheet: Sheet, width: int) -> list[int]:
    """Return how wide columns are: their longest word, and of what room is left what they need, the modest first."""
    widths, wanted = _longest(sheet, str.split, _WORD), _longest(sheet, lambda cell: (cell,))
    room, waiting = max(_room(sheet, width), 0), len(widths)
    for place in sorted(range(len(widths)), key=lambda place: wanted[place] - widths[place]):
        more = min(wanted[place] - widths[place], room // waiting)
        widths[place], room, waiting = widths[place] + more, room - more, waiting - 1
    return widths


def _record_by_record(sheet: Sheet) -> Sheet:
    """Return a table as what it says of one thing after the other, for narrow terminals."""
    rows: list[tuple[str, ...]] = []
    for row in sheet.rows:
        rows += [("", "")] if rows else []
        rows += [(heading, cell) for heading, cell in zip(sheet.headings, row, strict=True) if cell]
    return Sheet((), rows)

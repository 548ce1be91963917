"""How every table of the demo is laid out: what it begins with, its lines, and its grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfade.cli.demo.board import Board

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table as Grid

NAMES = ("due (UTC)", "requests", "errors", "p50 ms", "p99 ms")
WIDTHS = (12, 8, 6, 7, 7)


def line_of(values: tuple[str, ...], widths: tuple[int, ...], more: list[str], width: int) -> str:
    """Return one line: values with a width each, then more of the same width."""
    cells = [value.rjust(room) for value, room in zip(values, widths, strict=True)]
    return "  " + "  ".join([*cells, *(cell.rjust(width) for cell in more)])


def values_of(board: Board) -> tuple[str, ...]:
    """Return what every table begins with, as `NAMES` calls it."""
    when = "" if board.clock is None else f"{board.clock:%b %d %H:%M}"
    return (when, f"{board.asked:,}", f"{board.errors:,}", f"{board.p50_ms:.1f}", f"{board.p99_ms:.1f}")


def grid_of(*headings: str) -> Grid:
    """Return an empty table with these headings."""
    from rich import box
    from rich.table import Table as Grid

    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for number, heading in enumerate(headings):
        grid.add_column(heading, justify="right" if number and heading else "left")
    return grid


def drawn_of(board: Board, grid: Grid) -> RenderableType:
    """Return a table as it is drawn, under what every table begins with."""
    from rich.console import Group
    from rich.text import Text

    when, asked, errors, p50, p99 = values_of(board)
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
    return Group(Text(), head, grid)

from __future__ import annotations

import io

from rich.console import Console

from crossfade.cli.demo.layout import NAMES, WIDTHS, drawn_of, grid_of, line_of, values_of
from tests.cli.demo.support import a_board


def test_a_line_keeps_its_columns_whatever_is_in_them():
    head = line_of(NAMES, WIDTHS, ["answers"], 12)
    assert len(head) == len(line_of(values_of(a_board()), WIDTHS, ["1.1.0"], 12))
    assert head.split()[-1] == "answers"


def test_what_every_table_begins_with():
    assert values_of(a_board()) == ("Dec 01 12:00", "1,200", "0", "5.2", "17.0")
    assert values_of(a_board(clock=None))[0] == ""


def test_a_grid_is_drawn_under_it():
    grid = grid_of("", "version")
    grid.add_row("", "1.0.0")
    output = io.StringIO()
    Console(file=output, width=100).print(drawn_of(a_board(errors=3), grid))
    lines = [line.split() for line in output.getvalue().splitlines() if line.strip()]
    assert lines[0][:5] == ["flights", "due", "Dec", "01", "12:00"]
    assert "errors 3" in output.getvalue()
    assert lines[-1] == ["1.0.0"]

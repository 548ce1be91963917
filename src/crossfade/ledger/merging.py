"""Cells that belong together, as one: of all days, of all revisions, of all values of a dimension."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import reduce
from typing import Literal

from crossfade.ledger.evidence import Cell
from crossfade.methods.stats.moments import Moments

Part = Literal["revision", "variant", "day", "dimension", "value", "metric"]


def merged(cells: Iterable[Cell], *by: Part) -> dict[tuple[str | int, ...], Cell]:
    """Return cells that have these parts in common as one.

    Take cells of one dimension: each of them has every unit once. What is not in `by` is that of the first cell.

    Args:
        cells: Of an `Evidence`.
        by: Parts that stay apart.

    Returns:
        Values of these parts -> the cell, in the order of first appearance.

    Example:
        >>> parts = [Cell(1, "a", day, "", "", "late", Moments.of([1.0])) for day in ("2026-11-27", "2026-11-28")]
        >>> int(merged(parts, "variant")["a",].moments.n)
        2
    """
    groups: dict[tuple[str | int, ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(tuple(getattr(cell, part) for part in by), []).append(cell)
    return {key: _one(group) for key, group in groups.items()}


def _one(cells: list[Cell]) -> Cell:
    sketches = [cell.sketch for cell in cells if cell.sketch is not None]
    return replace(
        cells[0],
        moments=Moments.stack([cell.moments for cell in cells]).total(),
        sketch=reduce(lambda total, sketch: total.merge(sketch), sketches) if sketches else None,
    )

"""A report as Markdown."""

from __future__ import annotations

import re

from crossfade.experiments.report import AnalysisReport
from crossfade.experiments.reports.sections import Table, headline, method, tables

_MEANING = re.compile(r"([\\*\[\]#|<>~&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
"""What could mean something; a backslash before it makes it stand for itself. Not the underscore inside of a word."""


def page(report: AnalysisReport) -> str:
    """Return a report as a page of Markdown."""
    decision = report.decision
    parts = [f"# {plain(report.experiment)}", f"**{plain(headline(report))}.** {plain(decision.reason)}."]
    if decision.missing:
        parts.append(f"Still missing: {plain(decision.missing)}.")
    parts.append(f"{report.at:%Y-%m-%d %H:%M} UTC · {plain(method(report))}")
    if report.health.problems:
        parts.append("\n".join(f"- {plain(problem.words)}" for problem in report.health.problems))
    parts += [_table(table) for table in tables(report)]
    if report.notes:
        parts.append("\n".join(f"- {plain(note)}" for note in report.notes))
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> str:
    lines = [table.headings, ("---",) * len(table.headings), *table.rows]
    cells = ["| " + " | ".join(cell if cell == "---" else plain(cell) for cell in line) + " |" for line in lines]
    note = f"\n\n{plain(table.note)}" if table.note else ""
    return f"## {plain(table.title)}\n\n" + "\n".join(cells) + note


def plain(text: str) -> str:
    """Return a text that means itself in Markdown: on one line, and without mark-up.

    Names stand between backticks in sentences; within those nothing has a meaning, so these stay.
    """
    flat = " ".join(text.split())
    parts = flat.split("`")
    if len(parts) % 2 == 0:  # a backtick of somebody's name
        return _MEANING.sub(r"\\\1", flat).replace("`", "\\`")
    outside = [_MEANING.sub(r"\\\1", part) for part in parts[::2]]
    inside = [f"`{part}`".replace("|", "\\|") for part in parts[1::2]]
    return "".join(piece for pair in zip(outside, [*inside, ""], strict=True) for piece in pair)

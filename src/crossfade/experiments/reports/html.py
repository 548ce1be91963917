"""A report as HTML that stands alone: for notebooks, and inside of pages."""

from __future__ import annotations

from crossfade.core.charts import text
from crossfade.experiments.report import AnalysisReport
from crossfade.experiments.reports.pictures import forest_of, timeline_of
from crossfade.experiments.reports.sections import Table, headline, method, tables

_CELL = "style='text-align:left;padding:.2em .8em .2em 0;vertical-align:top;white-space:normal'"
MOST_TIMELINES = 8
"""Drawn in one report; the looks of all are in its values."""


def fragment(report: AnalysisReport) -> str:
    """Return a report as one element."""
    decision = report.decision
    parts = [
        f"<h3>{text(report.experiment)}</h3>",
        f"<p><strong>{text(headline(report))}.</strong> {text(decision.reason)}.</p>",
    ]
    if decision.missing:
        parts.append(f"<p>Still missing: {text(decision.missing)}.</p>")
    if report.health.problems:
        items = "".join(f"<li>{text(problem.words)}</li>" for problem in report.health.problems)
        parts.append(f"<ul>{items}</ul>")
    parts.append(forest_of(report))
    primary = [each for each in report.comparisons if each.role == "primary" and len(each.looks) > 1]
    parts += [
        f"<p>{text(each.metric)}, {text(each.treatment.variant)}: the effect over time</p>{timeline_of(each)}"
        for each in primary[:MOST_TIMELINES]
    ]
    parts += [_table(table) for table in tables(report)]
    if report.notes:
        parts.append(f"<ul>{''.join(f'<li>{text(note)}</li>' for note in report.notes)}</ul>")
    parts.append(f"<p><small>{text(f'{report.at:%Y-%m-%d %H:%M} UTC')} · {text(method(report))}</small></p>")
    return f"<div>{''.join(parts)}</div>"


def _table(table: Table) -> str:
    head = "".join(f"<th scope='col' {_CELL}>{text(heading)}</th>" for heading in table.headings)
    rows = "".join("<tr>" + "".join(f"<td {_CELL}>{text(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    note = f"<p><small>{text(table.note)}</small></p>" if table.note else ""
    caption = f"<caption style='text-align:left;font-weight:bold'>{text(table.title)}</caption>"
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{note}"

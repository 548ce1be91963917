"""A report as HTML that stands alone: for notebooks, and inside of pages."""

from __future__ import annotations

from crossfade.core.charts import text
from crossfade.experiments.report import AnalysisReport
from crossfade.experiments.reports.pictures import forest_of, timeline_of
from crossfade.experiments.reports.sections import Table, headline, method, tables

_CELL = "style='text-align:left;padding:.2em .8em .2em 0;vertical-align:top;white-space:{}'"
_SHORT = 30
"""Characters up to which a cell stays on one line."""
MOST_TIMELINES = 8
"""Drawn in one report; the looks of all are in its values."""


def fragment(report: AnalysisReport) -> str:
    """Return a report as one element."""
    decision = report.decision
    parts = [
        f"<h3>{text(report.experiment)}</h3>",
        f"<p><strong>{_prose(headline(report))}.</strong> {_prose(decision.reason)}.</p>",
    ]
    if decision.missing:
        parts.append(f"<p>Still missing: {_prose(decision.missing)}.</p>")
    if report.health.problems:
        items = "".join(f"<li>{_prose(problem.words)}</li>" for problem in report.health.problems)
        parts.append(f"<ul>{items}</ul>")
    parts.append(forest_of(report))
    primary = [each for each in report.comparisons if each.role == "primary" and len(each.looks) > 1]
    parts += [
        f"<p>{text(each.metric)}, {text(each.treatment.variant)}: the effect over time</p>{timeline_of(each)}"
        for each in primary[:MOST_TIMELINES]
    ]
    parts += [_table(table) for table in tables(report)]
    if report.notes:
        parts.append(f"<ul>{''.join(f'<li>{_prose(note)}</li>' for note in report.notes)}</ul>")
    parts.append(f"<p><small>{text(f'{report.at:%Y-%m-%d %H:%M} UTC')} · {text(method(report))}</small></p>")
    return f"<div>{''.join(parts)}</div>"


def _table(shown: Table) -> str:
    head = "".join(f"<th scope='col' {_CELL.format('nowrap')}>{text(heading)}</th>" for heading in shown.headings)
    rows = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in shown.rows)
    note = f"<p><small>{text(shown.note)}</small></p>" if shown.note else ""
    caption = f"<caption style='text-align:left;font-weight:bold'>{text(shown.title)}</caption>"
    table = f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<div style='overflow-x:auto'>{table}</div>{note}"


def _cell(words: str) -> str:
    style = _CELL.format("nowrap" if len(words) <= _SHORT else "normal")
    return f"<td {style}>{_prose(words)}</td>"


def _prose(words: str) -> str:
    """Return a sentence in which names between backticks are set as code."""
    parts = text(words).split("`")
    if len(parts) % 2 == 0:  # a backtick of somebody's name
        return text(words)
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))

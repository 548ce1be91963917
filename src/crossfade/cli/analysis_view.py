"""An analysis on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfade.cli.output import Sheet, facts

if TYPE_CHECKING:
    from crossfade.experiments.report import AnalysisReport


def decision_sheet(report: AnalysisReport) -> Sheet:
    """What follows, why, and what is still missing. Scripts get the action."""
    from crossfade.experiments.reports.sections import headline, method

    decision, problems = report.decision, report.health.problems
    pairs = [
        ("experiment", report.experiment),
        ("decision", headline(report)),
        ("reason", decision.reason),
        ("missing", decision.missing),
        *(("blocked by" if problem.blocks else "note", problem.words) for problem in problems),
        *(("note", note) for note in report.notes),
        ("method", method(report)),
    ]
    return facts(pairs, name=decision.action)


def effects_sheet(report: AnalysisReport) -> Sheet:
    """Every metric of every treatment. Scripts get `METRIC TREATMENT FOUND`."""
    from crossfade.experiments.reports.sections import effects

    table = effects(report)
    names = [f"{each.metric} {each.treatment.variant} {each.reading}" for each in report.comparisons]
    return Sheet(table.headings, table.rows, names, empty="no metric has been measured yet")

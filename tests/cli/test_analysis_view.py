"""An analysis on the terminal."""

import numpy as np
import pytest

from crossfade.cli.analysis_view import decision_sheet, effects_sheet
from crossfade.cli.output import Output
from crossfade.experiments.analysis import analyze
from crossfade.ledger.evidence import Evidence
from tests.experiments.support import after, evidence, question


@pytest.fixture
def report():
    random = np.random.default_rng(1)
    rows = {"control": random.gamma(4.0, 1.0, 1000), "treatment": random.gamma(4.0, 1.0, 1000) + 1.0}
    return analyze(evidence({"revenue": rows}, days=5, multiple=3), question("revenue"), after(5))


def test_the_decision_comes_with_its_reason(report):
    rows = dict(decision_sheet(report).rows)
    assert rows["decision"] == "Ship `treatment`"
    assert "significantly better on `revenue`" in rows["reason"]
    assert "3 units" in rows["note"] or "Outcomes count" in rows["note"]
    assert "missing" not in rows  # nothing is
    assert list(decision_sheet(report).quiet()) == ["ship"]


def test_effects_are_rows_and_scripts_get_three_words(report):
    sheet = effects_sheet(report)
    assert sheet.headings[:2] == ("metric", "treatment")
    assert len(sheet.rows[0]) == len(sheet.headings)
    assert list(sheet.quiet()) == ["revenue treatment better"]


def test_it_prints(report, capsys):
    for style in ("human", "auto", "quiet"):
        Output(style).show(lambda: b"{}", lambda: decision_sheet(report))
        Output(style).show(lambda: b"{}", lambda: effects_sheet(report))
    printed = capsys.readouterr().out
    assert "significantly better" in printed
    assert "revenue treatment better" in printed


def test_what_blocks_is_named():
    nothing = analyze(Evidence("late"), question("revenue"), after(5))
    assert dict(decision_sheet(nothing).rows)["blocked by"] == "no units yet"
    assert list(effects_sheet(analyze(Evidence("late"), question(), after(5))).quiet()) == []

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from crossfade.cli.demo.tables import BanditTable, ReleaseTable, TrialTable, interval_bar, weight_bar
from crossfade.experiments.report import Decision
from crossfade.methods.stats.values import NotEstimable
from tests.cli.demo.support import a_bandit_report, a_board, a_report, an_effect

RELEASED = ("1.0.0", "1.1.0")
TRIED = {"schedule": "1.0.0", "weather": "1.1.0"}
COMPETING = {"weather": "1.1.0", "schedule": "1.0.0", "recent": "1.2.0"}


def trial(report=None):
    return TrialTable(a_board(), report, "log_loss", TRIED)


def bandit(report=None, earned=None):
    return BanditTable(a_board(), report, COMPETING, earned or {})


def drawn(table):
    output = io.StringIO()
    Console(file=output, width=120).print(table.drawn())
    return output.getvalue()


TABLES = (
    ReleaseTable(a_board(), RELEASED),
    ReleaseTable(a_board(clock=None, standings=(), answering=""), RELEASED),
    trial(),
    trial(a_report()),
    trial(a_report(NotEstimable("too few"))),
    bandit(),
    bandit(a_bandit_report(), {"1.1.0": (400, 8.0)}),
)


@pytest.mark.parametrize("table", TABLES)
def test_columns_of_the_lines_are_aligned_and_not_wide(table):
    assert len(table.head) == len(table.line) <= 120


@pytest.mark.parametrize("table", TABLES)
def test_every_table_can_be_drawn(table):
    text = drawn(table)
    assert "1,200" in text
    assert "1.0.0" in text


def test_a_line_of_the_release():
    line = ReleaseTable(a_board(), RELEASED).line
    assert line.split() == ["Dec", "01", "12:00", "1,200", "0", "5.2", "17.0", "1.1.0", "4", "50.0%", "0.371", "-"]


def test_a_line_before_the_first_answer():
    line = ReleaseTable(a_board(clock=None, standings=(), answering=""), RELEASED).line
    assert line.split() == ["1,200", "0", "5.2", "17.0", "-", "-"]


def test_a_line_of_the_experiment_has_units_losses_and_the_interval():
    line = trial(a_report()).line
    assert line.split()[6:] == ["160", "140", "0.500", "150", "130", "0.400", "-0.100", "(-0.140,", "-0.060)"]


def test_what_is_not_known_of_the_experiment_is_a_dash():
    assert trial().line.split()[6:] == ["-"] * 7
    assert trial(a_report(NotEstimable("too few"))).line.split()[-1] == "-"


def test_the_note_is_the_decision_with_what_is_missing():
    assert trial().note == ""
    assert trial(a_report()).note == "Go on measuring: it is unclear; missing: about 700 more units"
    shipped = a_report(decision=Decision("ship", "weather", "it is better"))
    assert trial(shipped).note == "Ship `weather`: it is better"


def test_the_experiment_is_drawn_with_its_interval_and_its_note():
    text = drawn(trial(a_report()))
    assert f"better {interval_bar(-0.14, -0.1, -0.06)} worse" in text
    assert "about 700 more units" in text
    assert "better [" not in drawn(trial(a_report(NotEstimable("too few"))))


def test_a_line_of_the_bandit_has_weights_chances_and_gains():
    line = bandit(a_bandit_report(), {"1.1.0": (400, 8.0), "1.0.0": (100, -1.0)}).line
    assert line.split()[6:] == [
        "0.800",
        "80.0",
        "%",
        "+0.0200",
        "0.150",
        "15.0",
        "%",
        "-0.0100",
        "0.050",
        "5.0",
        "%",
        "-",
    ]


def test_the_weights_are_drawn_as_bars():
    text = drawn(bandit(a_bandit_report(weights=(0.5, 0.25, 0.25))))
    assert weight_bar(0.5).strip() in text
    assert drawn(bandit()).count("█") == 0


@given(st.floats(-5, 5), st.floats(0, 5), st.floats(0, 5))
def test_an_interval_is_drawn_in_the_room_there_is(middle, below, above):
    bar = interval_bar(middle - below, middle, middle + above)
    assert len(bar) == len(interval_bar(0, 0, 0))
    assert bar.count("●") == 1
    drawn_from, drawn_to = min(bar.find(mark) for mark in "=●" if mark in bar), max(bar.rfind(mark) for mark in "=●")
    assert drawn_from <= bar.index("●") <= drawn_to


def test_an_effect_at_the_edge_is_drawn_there():
    effect = an_effect(-9.0)
    assert interval_bar(*effect.interval[:1], effect.effect, effect.interval[1]).startswith("[●")


@given(st.floats(0, 1))
def test_a_bar_is_as_long_as_its_weight(weight):
    bar = weight_bar(weight)
    assert len(bar) == 20
    assert bar.count("█") == round(weight * 20)

from __future__ import annotations

import io

import pytest
from rich.console import Console

from crossfade.cli.demo.rollout_tables import ConfigTable, RolloutTable
from crossfade.configs.reports import ClientState, DriftReport
from tests.cli.demo.support import NOON, a_board, a_rollout

DESKS = ("desk-jfk", "desk-ewr")
JFK = ClientState("desk-jfk", "current", 3, 3, "desk-jfk", "d3", NOON)
EWR = ClientState("desk-ewr", "differs", 1, 3, "desk-ewr", "d1", NOON)
STRANGER = ClientState("desk-ewr", "differs", None, None, "desk-ewr", "d9", NOON)


def a_drift(*clients):
    return DriftReport("delay_alerts", 3, 1, 1, 0, clients)


def rollout(found=None):
    return RolloutTable(a_board(), found, "1.1.0", "1.3.0")


def config(report=None, found=None):
    return ConfigTable(a_board(), report, DESKS, found)


def drawn(table):
    output = io.StringIO()
    Console(file=output, width=120).print(table.drawn())
    return output.getvalue()


TABLES = (
    rollout(),
    rollout(a_rollout()),
    rollout(a_rollout("rolled_back", unsafe=(123, 1_234, 299, 12_345))),
    config(),
    config(a_drift(JFK, EWR), a_rollout()),
    config(a_drift(STRANGER)),
)


@pytest.mark.parametrize("table", TABLES)
def test_columns_of_the_lines_are_aligned_and_not_wide(table):
    assert len(table.head) == len(table.line) <= 120


@pytest.mark.parametrize("table", TABLES)
def test_every_table_can_be_drawn(table):
    assert "1,200" in drawn(table)


def test_a_line_of_a_rollout_has_shares_and_what_was_unsafe_on_both_sides():
    cells = rollout(a_rollout()).line.split()[6:]
    assert cells == ["90%", "450", "4", "(0.9%)", "10%", "50", "6", "(12.0%)", "progressing,", "step", "1"]


def test_a_line_before_the_rollout():
    assert rollout().line.split()[6:] == ["100%", "0", "-", "0%", "0", "-", "-"]
    assert rollout().note == ""


def test_what_a_rollout_waits_for_is_said():
    table = rollout(a_rollout())
    assert table.note == "step 1 holds for another 9 s"
    assert "progressing, step 1: step 1 holds for another 9 s" in drawn(table)


def test_a_rollout_without_counts_has_none():
    assert rollout(a_rollout(unsafe=(0, 0, 0, 0))).line.split()[6:12] == ["90%", "0", "-", "10%", "0", "-"]


def test_a_line_of_the_config_has_who_runs_what():
    cells = config(a_drift(EWR, JFK), a_rollout("completed")).line.split()[6:]
    assert cells == ["3,", "3:", "current", "1,", "3:", "differs", "completed,", "100%"]


def test_who_was_not_heard_of_is_a_dash():
    assert config().line.split()[6:] == ["-,", "-:", "-", "-,", "-:", "-", "-"]
    assert config(a_drift(STRANGER)).line.split()[9:12] == ["-,", "-:", "differs"]


def test_the_config_waits_for_what_its_rollout_waits_for():
    assert config(None, a_rollout()).note == "step 1 holds for another 9 s"
    assert config(None, a_rollout("completed")).note == ""
    assert config().note == ""


def test_who_differs_is_drawn_with_what_it_should_run():
    row = next(line for line in drawn(config(a_drift(JFK, EWR))).splitlines() if "desk-ewr" in line)
    assert row.split() == ["desk-ewr", "1", "3", "differs"]

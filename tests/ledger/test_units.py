"""Units in their table, on both databases."""

import numpy as np
import pytest
from sqlalchemy import true

from crossfade.ledger.buckets import Buckets
from crossfade.ledger.metrics import MetricSpec
from crossfade.ledger.plan import Plan
from crossfade.ledger.units import NEVER, Origin, Units, day_of, forget_units, read_units, scan_units, write_units
from crossfade.storage.tables import units as table
from tests.ledger.support import DAY, START, measures

PLAN = Plan.of(measures(MetricSpec("delay"), MetricSpec("slow", kind="quantile", outcome="latency_seconds", level=0.5)))


def some(count=5):
    units = Units.unknown(PLAN, [f"unit-{number}" for number in range(count)])
    units.known[:] = True
    units.multiple[1] = True
    units.first[:] = START + np.arange(count)
    units.decisions = [f"decision-{number}" for number in range(count)]
    units.origins = [Origin(number % 2, "control", f'["{number % 3}"]') for number in range(count)]
    units.state[:] = np.arange(count * PLAN.width).reshape(count, -1) / 3
    units.state[2, 3] = np.nan
    units.buckets = Buckets.of(1, np.array([0, 0, 3]), np.array([1.0, -2.0, 0.0]))
    units.kept_exposures[4] = b"12345678"
    units.kept_outcomes[0] = b"\x00\xff"
    return units


def same(one, other):
    assert one.names == other.names
    assert one.decisions == other.decisions
    assert one.origins == other.origins
    assert (one.kept_exposures, one.kept_outcomes) == (other.kept_exposures, other.kept_outcomes)
    for name in ("known", "multiple", "first", "state"):
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name == "state"), name
    for name in ("units", "codes", "counts"):
        assert getattr(one.buckets, name).tolist() == getattr(other.buckets, name).tolist()


def test_units_come_back_as_they_were_written(database):
    units = some()
    with database.write() as connection:
        write_units(connection, "flights", units, range(5))
        same(read_units(connection, PLAN, units.names), units)
        found = read_units(connection, PLAN, ["nobody", "unit-3"])
    assert found.known.tolist() == [False, True]
    assert (found.first[0], found.state[0].tolist()) == (NEVER, [0.0] * PLAN.width)
    assert found.buckets.units.tolist() == [1]
    assert found.counted.tolist() == [False, True]


def test_only_those_that_are_named_are_written_and_they_replace_what_was_there(database):
    units = some()
    with database.write() as connection:
        write_units(connection, "flights", units, [0, 3])
        units.state[3] = 7.0
        write_units(connection, "flights", units, [3])
        write_units(connection, "flights", units, [])
        found = read_units(connection, PLAN, units.names)
    assert found.known.tolist() == [True, False, False, True, False]
    assert found.state[3].tolist() == [7.0] * PLAN.width
    assert found.state[0].tolist() == units.state[0].tolist()


def test_a_copy_can_be_changed(database):
    units = some()
    copy = units.copy()
    copy.state[0, 0], copy.known[0], copy.decisions[0] = 99.0, False, "other"
    copy.origins[0], copy.kept_outcomes[0], copy.first[0], copy.multiple[0] = Origin(9, "x", "[]"), b"x", 0, True
    same(units, some())


def test_all_units_are_scanned_in_groups(database):
    units = some(50)
    with database.write() as connection:
        write_units(connection, "flights", units, range(50))
        write_units(connection, "trains", units, range(3))
        groups = list(scan_units(connection, PLAN, true(), at_once=20))
        chosen = list(scan_units(connection, PLAN, table.c.revision == 1))
    assert sorted(name for group in groups for name in group.names) == sorted(units.names)
    assert max(len(group.names) for group in groups) <= 20
    assert sum(len(group.names) for group in chosen) == 25
    first = groups[0]
    same(first, read_of(units, first.names))


def read_of(units, names):
    """The units of these names, in that order."""
    at = [units.names.index(name) for name in names]
    found = Units.unknown(PLAN, names)
    found.known, found.multiple, found.first = units.known[at], units.multiple[at], units.first[at]
    found.decisions, found.origins = [units.decisions[n] for n in at], [units.origins[n] for n in at]
    found.state = units.state[at]
    found.kept_exposures = [units.kept_exposures[n] for n in at]
    found.kept_outcomes = [units.kept_outcomes[n] for n in at]
    found.buckets = Buckets.decoded([units.buckets.encoded(len(units.names))[n] for n in at])
    return found


def test_units_of_one_experiment_are_forgotten(database):
    with database.write() as connection:
        for experiment in ("flights", "trains"):
            write_units(connection, experiment, some(), range(5))
        forget_units(connection, "flights")
        assert not read_units(connection, PLAN, some().names).known.any()
        trains = Plan.of(measures(*PLAN.measures.metrics, experiment="trains"))
        assert read_units(connection, trains, some().names).known.all()


@pytest.mark.parametrize(
    ("at", "day"),
    [(START, "2025-11-27"), (START - 1, "2025-11-26"), (START + DAY - 1, "2025-11-27"), (0, "1970-01-01")],
)
def test_days_are_those_of_utc(at, day):
    assert day_of(at) == day


def test_values_of_an_origin_are_those_of_its_dimensions():
    assert Origin(1, "control", '["UA","(other)"]').values() == ("UA", "(other)")

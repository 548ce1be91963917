"""Cells in their table: rows are taken out and put in, and nothing is left of those that nobody is in."""

import numpy as np
import pytest
from sqlalchemy import func, select

from crossfade.ledger.buckets import Buckets
from crossfade.ledger.cells import apply, decoded_sketch, forget_cells, recounted, values_of
from crossfade.ledger.changes import CellKey, CellNumbers, Change, Move, grouped
from crossfade.ledger.evidence import EVERYBODY
from crossfade.ledger.metrics import MetricSpec
from crossfade.ledger.plan import Plan
from crossfade.ledger.units import Origin, Units
from crossfade.methods.stats.moments import Moments
from crossfade.methods.stats.sketch import Sketch
from crossfade.storage.tables import rollups
from tests.ledger.support import DAY, START, measures

DELAY = MetricSpec("delay")
SLOW = MetricSpec("slow", kind="quantile", outcome="latency_seconds", level=0.5)
PLAN = Plan.of(measures(DELAY, SLOW, dimensions=("carrier",)))
KEYS = [CellKey(1, "control", "2026-11-27", "", ""), CellKey(1, "control", "2026-11-27", "carrier", "UA")]


def moments(*values):
    """Of these values in each cell."""
    return Moments.stack([Moments.of(np.array(each, dtype=float)) if each else Moments.empty(1) for each in values])


def change(removed, added, touched=(True, True), values=None):
    return Change(moments(*removed), moments(*added), values or Buckets.none(), np.array(touched))


def stored(connection):
    return connection.execute(select(rollups).order_by(rollups.c.dimension)).all()


def apply_delay(connection, made):
    return apply(connection, "flights", PLAN.metrics[0], KEYS, made)


def test_rows_come_and_go(database):
    with database.write() as connection:
        assert apply_delay(connection, change(([], []), ([1.0, 2.0, 6.0], [2.0]))) == []
        apply_delay(connection, change(([2.0], [2.0]), ([4.0], [])))
        rows = stored(connection)
    assert [(row.dimension, row.n) for row in rows] == [("", 3)]
    expected = Moments.of([1.0, 6.0, 4.0])
    assert np.frombuffer(rows[0].mean) == pytest.approx(expected.mean)
    assert np.frombuffer(rows[0].m2) == pytest.approx(expected.m2.ravel())
    assert np.frombuffer(rows[0].peak) == pytest.approx(Moments.of([1.0, 2.0, 6.0]).m2.ravel())


def test_cells_that_are_not_touched_are_not_read(database):
    with database.write() as connection:
        apply_delay(connection, change(([], []), ([1.0], [1.0])))
        apply_delay(connection, change(([], []), ([2.0], [2.0]), touched=(False, True)))
        assert [(row.dimension, row.n) for row in stored(connection)] == [("", 1), ("carrier", 2)]


def test_a_cell_that_has_lost_its_digits_is_named(database):
    with database.write() as connection:
        apply_delay(connection, change(([], []), ([1.0, 2.0, 1e9], [1.0, 2.0, 3.0])))
        assert apply_delay(connection, change(([1e9], [3.0]), ([], []))) == [KEYS[0]]
        exact = moments([1.0, 2.0])
        recounted(connection, "flights", PLAN.metrics[0], KEYS[:1], exact)
        assert apply_delay(connection, change(([2.0], []), ([3.0], []), touched=(True, False))) == []
        assert np.frombuffer(stored(connection)[0].m2).tolist() == [2.0]


def test_more_than_there_is_cannot_be_taken_out(database):
    from crossfade.errors import InvalidAnalysisError

    with database.write() as connection, pytest.raises(InvalidAnalysisError):
        apply_delay(connection, change(([1.0], []), ([], []), touched=(True, False)))


def test_sketches_get_and_give_back_values(database):
    metric = PLAN.metrics[1]
    none, nothing = Moments.empty(2, (2,)), Moments.empty(2, (2,))
    values = Buckets.of(0, np.array([0, 0, 1]), np.array([1.0, 5.0, 5.0])).of_metric(0)
    back = Buckets.of(0, np.array([1, 0]), np.array([5.0, 1.0])).of_metric(0)
    with database.write() as connection:
        apply(connection, "flights", metric, KEYS, Change(none, nothing, values, np.array([True, True])))
        assert values_of(connection, "flights", metric, EVERYBODY).n == 2
        gone = Buckets.none().minus(back)
        apply(connection, "flights", metric, KEYS, Change(none, nothing, gone, np.array([True, True])))
        rows = stored(connection)
    assert [row.dimension for row in rows] == [""]
    sketch = decoded_sketch(rows[0].sketch)
    assert (sketch.keys.tolist(), sketch.counts.tolist()) == (Sketch.buckets([5.0]).tolist(), [1])


def test_very_many_cells_are_read_and_written(database):
    keys = [CellKey(1, "control", f"day-{n % 60:02}", f"d{n % 7}", f"v{n}") for n in range(1_500)]
    everyone = Moments.stack([Moments.of([float(n)]) for n in range(len(keys))])
    nobody, touched = Moments.empty(1, (len(keys),)), np.ones(len(keys), dtype=np.bool_)
    with database.write() as connection:
        for _ in range(2):
            apply(connection, "flights", PLAN.metrics[0], keys, Change(nobody, everyone, Buckets.none(), touched))
        rows = connection.execute(select(rollups.c.value, rollups.c.n, rollups.c.mean)).all()
    assert len(rows) == 1_500
    assert all(n == 2 and np.frombuffer(mean).tolist() == [float(value[1:])] for value, n, mean in rows)


def test_cells_of_one_experiment_are_forgotten(database):
    with database.write() as connection:
        apply_delay(connection, change(([], []), ([1.0], [1.0])))
        apply(connection, "trains", PLAN.metrics[0], KEYS, change(([], []), ([1.0], [1.0])))
        forget_cells(connection, "flights")
        assert connection.execute(select(func.count()).select_from(rollups)).scalar_one() == 2


# --- from units to changes


def units(*profiles):
    """Known units: (value, carrier, seconds after the start, multiple)."""
    made = Units.unknown(PLAN, [f"unit-{number}" for number in range(len(profiles))])
    for number, (value, carrier, day, multiple) in enumerate(profiles):
        made.known[number], made.multiple[number], made.first[number] = True, multiple, START + day * DAY
        made.origins[number] = Origin(1, "control", f'["{carrier}"]')
        made.state[number, 2:4] = 1, value
    return made


def test_a_unit_that_stays_as_it_is_changes_nothing():
    before = units((1.0, "UA", 0, False), (2.0, "AA", 0, False))
    made = Move(PLAN, before, before.copy()).of(PLAN.metrics[0], None)
    assert not made.touched.any()
    assert Move(PLAN, before, before.copy()).arrivals() == {}


def test_a_value_that_changes_is_taken_out_and_put_in():
    before = units((1.0, "UA", 0, False), (2.0, "AA", 0, False))
    after = units((5.0, "UA", 0, False), (2.0, "AA", 0, False))
    move = Move(PLAN, before, after)
    made = move.of(PLAN.metrics[0], None)
    found = {
        key[3:]: (made.removed.mean[n, 0], made.added.mean[n, 0]) for n, key in enumerate(move.keys) if made.touched[n]
    }
    assert found == {("", ""): (1.0, 5.0), ("carrier", "UA"): (1.0, 5.0)}


def test_a_unit_that_moves_leaves_its_cells():
    before, after = units((1.0, "UA", 1, False)), units((1.0, "AA", 0, False))
    move = Move(PLAN, before, after)
    made = move.of(PLAN.metrics[0], None)
    assert {(*move.keys[n][2:],) for n in np.flatnonzero(made.removed.n)} == {
        ("2025-11-28", "", ""),
        ("2025-11-28", "carrier", "UA"),
    }
    assert {base.day: counts for base, counts in move.arrivals().items()} == {
        "2025-11-28": (-1, 0),
        "2025-11-27": (1, 0),
    }


def test_a_unit_in_two_variants_only_leaves():
    before, after = units((1.0, "UA", 0, False)), units((0.0, "UA", 0, True))
    move = Move(PLAN, before, after)
    made = move.of(PLAN.metrics[0], None)
    assert (made.removed.n.tolist(), made.added.n.tolist()) == ([1, 1], [0, 0])
    assert list(move.arrivals().values()) == [(-1, 1)], "it came, and is counted no more"


def test_units_are_grouped_from_nothing():
    numbers = CellNumbers(PLAN)
    found = grouped(
        PLAN.metrics[0], None, units((1.0, "UA", 0, False), (3.0, "AA", 0, False), (9.0, "AA", 0, True)), numbers
    )
    assert {key.value: (int(found.n[n]), found.mean[n, 0]) for n, key in enumerate(numbers.keys)} == {
        "": (2, 2.0),
        "UA": (1, 1.0),
        "AA": (1, 3.0),
    }
    assert numbers.keys[0].base == (1, "control", "2025-11-27")

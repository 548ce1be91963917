"""Values by unit and bucket: they add up, go away again, and come back from bytes as they went in."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.ledger.buckets import Buckets
from crossfade.methods.stats.sketch import Sketch

UNITS = 4
values = st.one_of(st.floats(-1e30, 1e30), st.sampled_from([0.0, 1e-13, -1e30, 1e30, 1.0]))
observations = st.lists(st.tuples(st.integers(0, UNITS - 1), st.integers(0, 99), values), max_size=30)


def buckets_of(observed):
    parts = []
    for metric in {metric for _, metric, _ in observed}:
        mine = [(unit, value) for unit, other, value in observed if other == metric]
        units, numbers = zip(*mine, strict=True)
        parts.append(Buckets.of(metric, np.array(units), np.array(numbers)))
    return Buckets.none().plus(*parts)


def counted(buckets):
    return Counter(
        dict(
            zip(zip(buckets.units.tolist(), buckets.codes.tolist(), strict=True), buckets.counts.tolist(), strict=True)
        )
    )


@given(observations)
def test_each_metric_gets_back_the_sketch_of_its_values(observed):
    buckets = buckets_of(observed)
    for metric in range(100):
        mine = [value for _, other, value in observed if other == metric]
        found = buckets.of_metric(metric).by_cell(np.zeros(UNITS, dtype=np.int64))
        expected = Sketch.of(mine)
        assert (found.codes.tolist(), found.counts.tolist()) == (expected.keys.tolist(), expected.counts.tolist())


@given(observations, observations)
def test_what_is_added_and_taken_away_is_gone(one, other):
    first, second = buckets_of(one), buckets_of(other)
    both = first.plus(second)
    assert counted(both) == counted(first) + counted(second)
    assert counted(both.minus(second)) == counted(first)
    assert len(both.minus(both).units) == 0


@given(observations)
def test_bytes_are_read_as_they_were_written(observed):
    buckets = buckets_of(observed)
    blobs = buckets.encoded(UNITS)
    assert len(blobs) == UNITS
    assert counted(Buckets.decoded(blobs)) == counted(buckets)


@given(observations, st.lists(st.booleans(), min_size=UNITS, max_size=UNITS))
def test_some_units_can_be_taken(observed, chosen):
    found = buckets_of(observed).where(np.array(chosen))
    assert counted(found) == counted(buckets_of([each for each in observed if chosen[each[0]]]))


def test_how_many_are_at_most():
    buckets = Buckets.of(0, np.array([0, 0, 2]), np.array([1.0, 100.0, -5.0])).of_metric(0)
    at = int(Sketch.buckets([1.0])[0])
    assert buckets.total(3).tolist() == [2, 0, 1]
    assert buckets.total(3, at).tolist() == [1, 0, 1]
    assert Sketch.right_edge(at) == pytest.approx(1.0, rel=0.01)

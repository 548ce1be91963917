"""Events that are kept: exactly those that an earlier first exposure would make count otherwise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.ledger import keeping
from crossfade.ledger.columns import JoinedOutcome, exposure_columns, outcome_columns
from crossfade.ledger.events import ShadowAnswer
from crossfade.ledger.keeping import (
    append,
    decode_exposures,
    decode_outcomes,
    encode_exposures,
    encode_outcomes,
    kept_exposures,
    kept_outcomes,
)
from crossfade.ledger.metrics import MetricSpec
from crossfade.ledger.plan import Plan
from crossfade.ledger.sums import sums
from tests.ledger.support import SECOND, START, exposure, measures, outcome

WINDOWED = measures(
    MetricSpec("late", window_seconds=10.0, covariate="visits", covariate_seconds=15.0),
    MetricSpec("latency_seconds", window_seconds=5.0),
    MetricSpec("slow", kind="quantile", outcome="latency_seconds", level=0.5, window_seconds=12.0),
    MetricSpec("loss", kind="ratio", outcome="late", loss="squared"),
    MetricSpec("revenue"),
    shadows=("a", "b"),
)
FOR_EVER = measures(MetricSpec("late"), MetricSpec("latency_seconds"))


def at(*seconds):
    return START + np.array(seconds, dtype=np.int64) * SECOND


def columns(spec, shown=(), found=()):
    plan = Plan.of(spec)
    numbers = {"ada": 0, "bob": 1}
    joined = [JoinedOutcome(event, event.unit) for event in found]
    return plan, exposure_columns(plan, list(shown), numbers), outcome_columns(plan, joined, numbers)


def test_without_windows_only_early_outcomes_are_kept():
    found = [outcome("late", 1.0, second, of="ada") for second in (8, 9, 10, 11)]
    plan, exposures, outcomes = columns(FOR_EVER, [exposure("ada", second) for second in (10, 11)], found)
    assert kept_exposures(plan, at(10, 10), exposures).tolist() == [False, False]
    assert kept_outcomes(plan, at(10, 10), outcomes).tolist() == [True, True, False, False]


def test_with_windows_what_lies_in_the_longest_is_kept():
    found = [outcome("late", 1.0, second, of="ada") for second in (9, 10, 20, 21)]
    found += [outcome("revenue", 1.0, second, of="ada") for second in (9, 10)]
    plan, exposures, outcomes = columns(WINDOWED, [exposure("ada", second) for second in (10, 22, 23)], found)
    assert kept_exposures(plan, at(10, 10), exposures).tolist() == [True, True, False]
    assert kept_outcomes(plan, at(10, 10), outcomes).tolist() == [True, True, True, False, True, False]


def test_bytes_are_read_as_they_were_written():
    shadows = (ShadowAnswer("b", "1.0.0", 0.25, 3.0, True),)
    shown = [exposure("bob", 1, score=None, fallback=True, shadows=shadows), exposure("ada", 2, latency_seconds=0.1)]
    found = [outcome("revenue", -0.5, 3, of="bob"), outcome("late", 1e30, 4, of="bob")]
    plan, exposures, outcomes = columns(WINDOWED, shown, found)
    kept = [b"", b""]
    append(kept, exposures.units, encode_exposures(exposures))
    again = decode_exposures(plan, kept)
    assert (again.units.tolist(), again.at.tolist()) == ([0, 1], at(2, 1).tolist())
    for name, values in exposures.values.items():
        assert np.array_equal(again.values[name], values[:, ::-1], equal_nan=True), name
    kept = [b"", b""]
    append(kept, outcomes.units, encode_outcomes(outcomes))
    again = decode_outcomes(plan, kept)
    assert (again.units.tolist(), again.names.tolist()) == ([1, 1], outcomes.names.tolist())
    assert (again.at.tolist(), again.values.tolist()) == (at(3, 4).tolist(), [-0.5, 1e30])
    assert again.scores.shape == (3, 2)


def test_nothing_is_read_from_nothing():
    plan = Plan.of(WINDOWED)
    assert len(decode_exposures(plan, [b"", b""]).at) == 0
    assert len(decode_outcomes(plan, []).at) == 0


def test_what_is_kept_of_a_unit_is_limited(monkeypatch):
    monkeypatch.setattr(keeping, "MAX_BYTES", 100)
    plan, _, outcomes = columns(FOR_EVER, (), [outcome("late", 1.0, 1, of="ada"), outcome("late", 1.0, 1, of="bob")])
    kept = [b"", b""]
    for _ in range(50):
        append(kept, outcomes.units, encode_outcomes(outcomes))
    assert 100 <= len(kept[0]) < 200
    assert len(decode_outcomes(plan, kept).at) == 2 * len(kept[0]) // 32


seconds = st.integers(0, 40)


@given(
    first=seconds,
    earlier=seconds,
    shown=st.lists(st.tuples(seconds, st.floats(0, 2)), max_size=6),
    found=st.lists(st.tuples(st.sampled_from(["late", "visits", "revenue"]), seconds, st.floats(-9, 9)), max_size=9),
)
@settings(max_examples=60)
def test_what_is_kept_is_enough_to_move_the_first_exposure(first, earlier, shown, found):
    before, after = max(first, earlier), min(first, earlier)
    exposures = [exposure("ada", second, latency_seconds=value) for second, value in shown if second >= before]
    outcomes = [outcome(name, value, second, of="ada") for name, second, value in found]
    plan, shown_columns, found_columns = columns(WINDOWED, exposures, outcomes)
    old, new = at(before, 0), at(after, 0)
    state, buckets = sums(plan, old, shown_columns, found_columns)
    kept = (
        shown_columns.where(kept_exposures(plan, old, shown_columns)),
        found_columns.where(kept_outcomes(plan, old, found_columns)),
    )
    (gone, gone_buckets), (come, come_buckets) = sums(plan, old, *kept), sums(plan, new, *kept)
    wanted, wanted_buckets = sums(plan, new, shown_columns, found_columns)
    assert state + come - gone == pytest.approx(wanted, abs=1e-9)
    moved = buckets.plus(come_buckets).minus(gone_buckets)
    assert (moved.codes.tolist(), moved.counts.tolist()) == (
        wanted_buckets.codes.tolist(),
        wanted_buckets.counts.tolist(),
    )

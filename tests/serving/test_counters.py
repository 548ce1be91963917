"""Plain counts, in the form that Prometheus wants."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.serving.counters import MAX_BATCH_SIZES, ROWS, SECONDS, STAGE_SECONDS, Counters, Distribution


@given(st.lists(st.floats(0, 100), max_size=50))
def test_buckets_count_what_is_not_above_their_bound(values):
    seen = Distribution(SECONDS)
    for value in values:
        seen.add(value)
    buckets = seen.buckets()
    assert [bound for bound, _ in buckets] == [*map(str, SECONDS), "+Inf"]
    for bound, count in buckets:
        assert count == int(np.sum(np.array(values) <= float(bound)))
    assert seen.count == len(values)
    assert seen.total == pytest.approx(sum(values))


def test_bounds_rise():
    assert list(SECONDS) == sorted(set(SECONDS))
    assert list(ROWS) == sorted(set(ROWS))


def test_requests_and_batches_are_counted_apart():
    counters = Counters()
    counters.count_answer(3, 0.002, 10.0)
    counters.count_answer(1, 0.2, 11.5)
    counters.count_batch(4, 0.001, 2)
    for status in (422, 404, 503):
        counters.count_error(status, 0.5)
    assert counters.rows == 4
    assert counters.seconds.buckets()[-1] == ("+Inf", 2.0)
    assert counters.batch_rows.buckets()[2] == ("4.0", 1.0)
    assert counters.batch_seconds == 0.001
    assert counters.errors == {"4xx": 2, "5xx": 1}
    assert counters.model_seconds == 0.002
    assert counters.answered_at == 11.5
    assert counters.failed_seconds == 1.5


def test_batches_are_counted_by_size_up_to_a_bound():
    counters = Counters()
    for rows in range(1, MAX_BATCH_SIZES + 100):
        counters.count_batch(rows, 0.5)
    counters.count_batch(1, 0.25)
    assert len(counters.batch_sizes) == MAX_BATCH_SIZES
    assert (counters.batch_sizes[1].count, counters.batch_sizes[1].seconds) == (2, 0.75)
    assert counters.batch_rows.count == MAX_BATCH_SIZES + 100


def test_a_call_is_divided_among_its_stages_as_every_request_saw_it():
    counters = Counters()
    counters.count_batch(8, 0.010, 4, preprocess_seconds=0.002)
    counters.count_batch(1, 0.001)
    assert (counters.preprocess_seconds.count, counters.predict_seconds.count) == (5, 5)
    assert counters.preprocess_seconds.total == pytest.approx(4 * 0.002)
    assert counters.predict_seconds.total == pytest.approx(4 * 0.008 + 0.001)
    assert counters.predict_seconds.buckets()[2] == ("0.0025", 1.0)


def test_bounds_of_stages_are_bounds_of_the_whole():
    assert set(STAGE_SECONDS) <= set(SECONDS)
    assert list(STAGE_SECONDS) == sorted(STAGE_SECONDS)

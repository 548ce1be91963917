"""Columns: where each metric keeps the sums of a unit, and which row it makes of them."""

import math

import msgspec
import numpy as np
import pytest

from crossfade.ledger.buckets import Buckets
from crossfade.ledger.metrics import Measures, MetricSpec
from crossfade.ledger.plan import COUNTED, EARLY, Plan, plan_of
from crossfade.methods.stats.sketch import Sketch
from tests.ledger.support import measures

NOTHING = Buckets.none()


def plan(*metrics, **fields):
    return Plan.of(measures(*metrics, **fields).checked())


def rows(metric, state, buckets=NOTHING, cut=None):
    values, there = metric.rows(np.array(state, dtype=float), buckets, cut)
    return values.tolist(), there.tolist()


def test_metrics_have_columns_of_their_own():
    found = plan(
        MetricSpec("sum", covariate="visits"),
        MetricSpec("how_many", kind="count"),
        MetricSpec("each", kind="ratio", denominator="exposures", covariate="visits"),
        MetricSpec("any", kind="proportion"),
        MetricSpec("slow", kind="quantile", outcome="latency_seconds", level=0.5),
    )
    taken = [column for each in found.metrics for column in range(each.count, each.end)]
    assert taken == list(range(EARLY + 1, found.width))
    assert [each.count for each in found.metrics] == [2, 5, 6, 10, 12]
    assert [each.columns for each in found.metrics] == [2, 1, 3, 1, 2]
    assert [each.covariate for each in found.metrics] == [4, None, 9, None, None]
    assert {COUNTED, EARLY}.isdisjoint(taken)


def test_no_metrics_have_no_columns():
    found = plan()
    assert (found.width, found.names, found.windows) == (2, {}, {})


def test_names_are_those_of_outcomes_and_covariates_alone_come_last():
    found = plan(
        MetricSpec("late", covariate="visits"),
        MetricSpec("latency_seconds"),
        MetricSpec("revenue", kind="ratio", denominator="orders", covariate="revenue"),
        MetricSpec("orders", kind="ratio", denominator="exposures"),
    )
    assert found.names == {"late": 0, "revenue": 1, "orders": 2, "visits": 3}
    assert found.counting == 3


def test_windows_are_the_longest_of_each_name():
    found = plan(
        MetricSpec("short", outcome="late", window_seconds=1.5),
        MetricSpec("long", kind="ratio", outcome="late", denominator="exposures", window_seconds=60),
        MetricSpec("for_ever", outcome="revenue"),
    )
    assert found.windows == {"late": 60_000_000, "exposures": 60_000_000}


def test_windows_of_any_length_fit_into_64_bits():
    found = plan(MetricSpec("late", window_seconds=1e300, covariate="late", covariate_seconds=1e300)).metrics[0]
    assert 2**62 - found.covariate_us > 0
    assert found.window_us + 253_402_300_799_999_999 < 2**63


def test_what_is_needed_of_events_is_known():
    assert plan(MetricSpec("late", loss="log")).needs_scores
    assert not plan(MetricSpec("late")).needs_scores
    mirrored = plan(MetricSpec("late", covariate="shadow_score"), shadows=("control",))
    assert mirrored.answerers == 1


def test_only_metrics_of_answers_have_columns_of_shadows():
    found = plan(
        MetricSpec("latency_seconds"),
        MetricSpec("late", loss="squared"),
        MetricSpec("loss", kind="ratio", outcome="late", loss="log", covariate="late"),
        MetricSpec("plain", outcome="late"),
        MetricSpec("per_second", kind="ratio", outcome="late", denominator="latency_seconds"),
        MetricSpec("slow", kind="quantile", outcome="latency_seconds", level=0.5),
        MetricSpec("requests", outcome="exposures"),
        shadows=("a", "b"),
    )
    assert [each.answers for each in found.metrics] == [3, 3, 3, 1, 3, 1, 1]
    assert [each.columns for each in found.metrics] == [3, 3, 7, 1, 6, 2, 1]


def test_a_stored_plan_is_the_same():
    declared = measures(MetricSpec("late", kind="proportion"), dimensions=("carrier",))
    assert plan_of(msgspec.json.encode(declared).decode()) == Plan.of(declared)
    assert plan_of("{}".replace("{}", msgspec.json.encode(declared).decode())).measures == declared
    assert isinstance(Plan.of(declared).measures, Measures)


# --- rows


@pytest.mark.parametrize(
    ("spec", "state", "row"),
    [
        (MetricSpec("m"), [3, 7.5], [7.5]),
        (MetricSpec("m", upper=5.0), [3, 7.5], [5.0]),
        (MetricSpec("m", lower=9.0), [3, 7.5], [9.0]),
        (MetricSpec("m", kind="count", upper=2.0), [3], [2.0]),
        (MetricSpec("m", kind="proportion"), [3, 0], [0.0]),
        (MetricSpec("m", kind="proportion"), [3, 2], [1.0]),
        (MetricSpec("m", kind="ratio"), [3, 7.5], [7.5, 3.0]),
        (MetricSpec("m", kind="ratio", upper=5.0), [3, 7.5], [5.0, 3.0]),
        (MetricSpec("m", kind="ratio", denominator="exposures"), [5, 7.5, 2], [7.5, 2.0]),
        (MetricSpec("m", covariate="visits"), [3, 7.5, 4], [7.5, 4.0]),
        (MetricSpec("m", kind="ratio", denominator="exposures", covariate="visits"), [3, 7.5, 2, 4], [7.5, 2.0, 4.0]),
    ],
)
def test_the_row_of_a_unit(spec, state, row):
    metric = plan(spec).metrics[0]
    assert rows(metric, [[0, 0, *state]]) == ([row], [True])


def test_shadows_come_after_the_covariate():
    metric = plan(MetricSpec("m", kind="ratio", loss="log", covariate="visits"), shadows=("a", "b")).metrics[0]
    values, _ = rows(metric, [[0, 0, 4, 1.0, 2.0, 3.0, 9.0]])
    assert values == [[1.0, 4.0, 9.0, 2.0, 4.0, 3.0, 4.0]]


def test_units_without_value_or_covariate():
    skipping = plan(MetricSpec("m", missing="skip")).metrics[0]
    assert rows(skipping, [[0, 0, 0, 0], [0, 0, 1, 0]])[1] == [False, True]
    covered = plan(MetricSpec("m", covariate="shadow_score"), shadows=("control",)).metrics[0]
    assert rows(covered, [[0, 0, 1, 1, math.nan], [0, 0, 1, 1, 0.5]])[1] == [False, True]


def test_of_no_units_there_are_no_rows():
    for spec in (MetricSpec("m"), MetricSpec("m", kind="ratio"), MetricSpec("m", kind="quantile", level=0.5)):
        metric = plan(spec).metrics[0]
        values, there = metric.rows(np.zeros((0, metric.end)), NOTHING, None)
        assert (values.shape, there.shape) == ((0, metric.columns), (0,))


def test_a_quantile_counts_the_values_up_to_its_cut():
    found = plan(MetricSpec("other"), MetricSpec("m", kind="quantile", level=0.5)).metrics[1]
    buckets = Buckets.of(1, np.array([0, 0, 0, 2]), np.array([1.0, 2.0, 3.0, 2.0]))
    buckets = buckets.plus(Buckets.of(0, np.array([0]), np.array([1.0])))
    state = np.zeros((3, 6))
    cut = int(Sketch.buckets([2.0])[0])
    assert rows(found, state, buckets, cut) == ([[2.0, 3.0], [0.0, 0.0], [1.0, 1.0]], [True] * 3)
    assert rows(found, state, buckets)[0] == [[0.0, 3.0], [0.0, 0.0], [0.0, 1.0]]

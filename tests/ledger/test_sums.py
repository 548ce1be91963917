"""Sums by unit, from columns."""

import math

import numpy as np
import pytest

from crossfade.ledger.columns import JoinedOutcome, control_score, exposure_columns, outcome_columns, refused_values
from crossfade.ledger.events import ShadowAnswer
from crossfade.ledger.metrics import MetricSpec
from crossfade.ledger.plan import COUNTED, EARLY, Plan
from crossfade.ledger.sums import sums, unusable
from tests.ledger.support import START, exposure, measures, outcome

NUMBERS = {"ada": 0, "bob": 1}


def summed(metrics, events, first=(0, 0), **fields):
    """State and buckets of ada and bob, first exposed so many seconds after the start."""
    plan = Plan.of(measures(*metrics, **fields))
    shown = [event for event in events if not isinstance(event, JoinedOutcome)]
    found = [event for event in events if isinstance(event, JoinedOutcome)]
    times = START + np.array(first, dtype=np.int64) * 1_000_000
    columns = exposure_columns(plan, shown, NUMBERS), outcome_columns(plan, found, NUMBERS)
    return plan, *sums(plan, times, *columns)


def found(name, value, at, unit="ada", decision=None):
    return JoinedOutcome(outcome(name, value, at, of=unit), unit, decision)


def test_no_events_sum_to_nothing():
    plan, state, buckets = summed([MetricSpec("late"), MetricSpec("latency_seconds")], [])
    assert state.tolist() == [[0.0] * plan.width] * 2
    assert len(buckets.units) == 0


def test_events_add_up_by_unit():
    events = [exposure("ada", 0, latency_seconds=1.0), exposure("bob", 1, latency_seconds=2.0)]
    events += [exposure("ada", 2, latency_seconds=4.0), found("late", 1.0, 5), found("late", 3.0, 6)]
    plan, state, _ = summed([MetricSpec("latency_seconds"), MetricSpec("late")], events)
    latency, late = plan.metrics
    assert state[:, latency.count].tolist() == [2, 1]
    assert state[:, latency.numerators].tolist() == [[5.0], [2.0]]
    assert state[:, late.numerators].tolist() == [[4.0], [0.0]]
    assert state[:, COUNTED].tolist() == [2, 0]


def test_time_decides_what_counts():
    metrics = [MetricSpec("late", window_seconds=10.0, covariate="late", covariate_seconds=10.0)]
    events = [found("late", value, at) for value, at in ((1, 9), (2, 10), (4, 19), (8, 20), (16, 30), (32, 31))]
    plan, state, _ = summed(metrics, events, (20, 20))
    late = plan.metrics[0]
    assert (state[0, late.numerators].tolist(), state[0, late.covariate]) == ([24.0], 6.0)
    assert (state[0, EARLY], state[0, COUNTED]) == (1, 3)  # two are in the covariate


def test_sums_of_parts_are_the_sum_of_all():
    random = np.random.default_rng(1)
    metrics = [
        MetricSpec("late", covariate="visits", window_seconds=20.0),
        MetricSpec("latency_seconds", kind="quantile", level=0.5),
        MetricSpec("loss", kind="ratio", outcome="late", loss="absolute"),
    ]
    shown = [exposure("ada", at, score=random.random(), latency_seconds=random.random()) for at in range(10, 40)]
    events = [*shown, *(found("late", random.random(), at, decision=shown[at % 7]) for at in range(40))]
    events += [found("visits", 1.0, at) for at in range(20)]
    _, whole, whole_buckets = summed(metrics, events, (10, 10))
    parts = [summed(metrics, events[start::3], (10, 10)) for start in range(3)]
    assert sum(state for _, state, _ in parts) == pytest.approx(whole)
    buckets = parts[0][2].plus(parts[1][2], parts[2][2])
    assert buckets.counts.tolist() == whole_buckets.counts.tolist()
    assert buckets.codes.tolist() == whole_buckets.codes.tolist()


def test_values_that_are_none_do_not_count():
    events = [exposure("ada", latency_seconds=value, score=score) for value, score in ((math.nan, 1e31), (-1.0, None))]
    plan, state, _ = summed([MetricSpec("latency_seconds"), MetricSpec("score"), MetricSpec("exposures")], events)
    assert [state[0, each.count] for each in plan.metrics] == [0, 0, 2]


def test_a_squared_loss_that_would_be_too_large_does_not_count():
    decision = exposure("ada", score=1e29)
    plan, state, _ = summed([MetricSpec("late", loss="squared")], [found("late", 1.0, 1, decision=decision)])
    assert state[0, plan.metrics[0].count] == 0
    columns = outcome_columns(plan, [found("late", 1.0, 1, decision=decision)], NUMBERS)
    assert unusable(plan, columns) == 1


def test_outcomes_without_a_loss_are_counted_once_however_many_metrics_there_are():
    plan = Plan.of(
        measures(MetricSpec("a", outcome="late", loss="log"), MetricSpec("b", outcome="late", loss="squared"))
    )
    scored = exposure("ada", score=0.5)
    events = [found("late", 0.5, 1, decision=scored), found("late", 1.0, 1), found("late", 1.0, 1, decision=scored)]
    assert unusable(plan, outcome_columns(plan, events, NUMBERS)) == 2


def test_what_is_in_a_covariate_has_not_come_too_early():
    metrics = [MetricSpec("a", covariate="visits", covariate_seconds=20.0), MetricSpec("b", covariate="visits")]
    events = [exposure("ada", 100), found("visits", 1.0, 70), found("visits", 1.0, 90), found("a", 1.0, 90)]
    _, state, _ = summed(metrics, events, (100, 100))
    assert state[0, EARLY] == 1
    _, state, _ = summed(metrics[:1], events, (100, 100))
    assert state[0, EARLY] == 2


def test_values_that_are_refused_are_counted():
    plan = Plan.of(measures(MetricSpec("latency_seconds"), shadows=("a",)))
    answered = (ShadowAnswer("a", "1.0.0", 0.5),)
    events = [
        exposure("ada", latency_seconds=-1.0, score=math.nan, shadows=answered),
        exposure("ada", latency_seconds=math.inf, score=None),
    ]
    columns = exposure_columns(plan, events, NUMBERS)
    assert refused_values(plan, events, columns) == {"latency_seconds": 2, "score": 1, "unpaired": 1}


def test_what_the_control_answered_is_its_own_answer_or_its_shadow():
    plan = Plan.of(measures(MetricSpec("late", covariate="shadow_score"), shadows=("control",)))
    assert control_score(plan, exposure("ada", score=0.5)) == 0.5
    mirrored = exposure("ada", variant="treatment", score=0.9, shadows=(ShadowAnswer("control", "1.0.0", 0.25),))
    assert control_score(plan, mirrored) == 0.25
    for unknown in (exposure("ada", score=None), exposure("ada", variant="treatment"), exposure("ada", score=math.inf)):
        assert math.isnan(control_score(plan, unknown))


def test_a_named_denominator_is_windowed_like_the_numerator():
    metrics = [MetricSpec("late", kind="ratio", denominator="exposures", window_seconds=10.0)]
    events = [*(exposure("ada", at) for at in (0, 10, 11)), found("late", 1.0, 10), found("late", 1.0, 11)]
    plan, state, _ = summed(metrics, events)
    late = plan.metrics[0]
    assert (state[0, late.numerators].tolist(), state[0, late.denominators].tolist()) == ([1.0], [2.0])
    assert state[0, late.count] == 3


def test_caps_of_a_quantile_are_of_single_values():
    metrics = [MetricSpec("late", kind="quantile", level=0.5, lower=1.0, upper=2.0)]
    plan, _, buckets = summed(metrics, [found("late", value, 1) for value in (-5.0, 1.0, 9.0, 2.0)])
    assert buckets.of_metric(plan.metrics[0].number).counts.tolist() == [2, 2]

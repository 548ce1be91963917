"""Checks on metrics of the ledger, on events that were really recorded."""

import itertools

import numpy as np
import pytest

from crossfade.core.identity import new_id
from crossfade.ledger.events import Exposure, Outcome
from crossfade.ledger.metrics import MetricSpec
from crossfade.ledger.rollups import fold
from crossfade.releases.checks.metric import measure
from crossfade.releases.checks.phase import CheckResult
from crossfade.releases.checks.spec import MetricCheck
from crossfade.releases.plan import RolloutPlan, Step
from tests.ledger.support import store as store_events

LATE = MetricSpec("late", kind="proportion", direction="down", missing="skip")
SALES = MetricSpec("sales", direction="up", missing="skip")
_units = itertools.count()


def begun(stage, check):
    stage.begin(RolloutPlan((Step(0.5, hold_seconds=10), Step(1.0)), checks=(check,)))
    return stage.reach("progressing")


def record(stage, rollout, name, **values):
    """Record so many units of each variant, each with one outcome."""
    exposures, outcomes, at = [], [], int(stage.clock().timestamp() * 1e6)
    for variant, found in values.items():
        for value in found:
            unit = f"unit-{next(_units)}"
            seen = Exposure(new_id(), at, rollout.name, rollout.state.revision, variant, unit, 0.5)
            exposures.append(seen)
            outcomes.append(Outcome(new_id(), at, name, float(value), decision=seen.id))
    with stage.database.write() as connection:
        store_events(connection, exposures, outcomes)
        fold(connection, exposures, outcomes)


def look(stage, check, rollout):
    return measure(check, rollout, stage.database, stage.clock())


def share(count, of):
    return [1.0] * count + [0.0] * (of - count)


@pytest.fixture
def random():
    return np.random.default_rng(11)


def test_a_metric_that_is_clearly_worse_fails_with_both_numbers(stage):
    check = MetricCheck("late", LATE)
    rollout = begun(stage, check)
    record(stage, rollout, "late", stable=share(200, 1000), candidate=share(400, 1000))
    found = look(stage, check, rollout)
    assert found.result is CheckResult.FAIL
    assert found.reason == "`late` is worse: 0.4, and 0.2 of the old version"


def test_a_metric_that_is_the_same_passes_where_nothing_has_to_be_shown(stage):
    check = MetricCheck("late", LATE)
    rollout = begun(stage, check)
    record(stage, rollout, "late", stable=share(200, 1000), candidate=share(200, 1000))
    assert look(stage, check, rollout).result is CheckResult.PASS


def test_better_is_no_failure_in_either_direction(stage, random):
    for check, name, good in (
        (MetricCheck("late", LATE), "late", share(50, 600)),
        (MetricCheck("sales", SALES), "sales", random.normal(15, 3, 600)),
    ):
        rollout = begun(stage, check)
        usual = share(200, 600) if name == "late" else random.normal(10, 3, 600)
        record(stage, rollout, name, stable=usual, candidate=good)
        assert look(stage, check, rollout).result is CheckResult.PASS
        stage.store.abort("m")


def test_a_margin_has_to_be_shown(stage, random):
    check = MetricCheck("sales", MetricSpec("sales", direction="up", missing="skip", margin=0.05))
    rollout = begun(stage, check)
    record(stage, rollout, "sales", stable=random.normal(10, 3, 150), candidate=random.normal(10, 3, 150))
    early = look(stage, check, rollout)
    assert early.result is CheckResult.INCONCLUSIVE
    assert "within its margin of 0.05" in early.reason
    record(stage, rollout, "sales", stable=random.normal(10, 3, 6000), candidate=random.normal(10, 3, 6000))
    assert look(stage, check, rollout).result is CheckResult.PASS


def test_too_little_is_not_judged(stage):
    check = MetricCheck("late", LATE)
    rollout = begun(stage, check)
    record(stage, rollout, "late", stable=[1.0], candidate=[0.0])
    assert look(stage, check, rollout).result in {CheckResult.PENDING, CheckResult.INCONCLUSIVE}


def test_what_only_the_old_version_has_is_no_traffic(stage):
    check = MetricCheck("late", LATE)
    rollout = begun(stage, check)
    record(stage, rollout, "late", stable=share(200, 1000))
    assert look(stage, check, rollout).result is CheckResult.NO_TRAFFIC


def test_a_worse_metric_takes_the_traffic_back(stage):
    check = MetricCheck("late", LATE, interval_seconds=1)
    rollout = begun(stage, check)
    record(stage, rollout, "late", stable=share(100, 1000), candidate=share(300, 1000))
    back = stage.reach("rolled_back", seconds=5, old=50, new=50)
    assert "check `late` failed: `late` is worse" in back.reason


def test_healthy_metrics_are_seldom_taken_for_bad_ones(stage, random):
    """As often as one looks: at most one in a hundred, and one look of one rollout here is far from that."""
    check = MetricCheck("sales", SALES)
    failed = 0
    for _ in range(8):
        rollout = begun(stage, check)
        for _ in range(5):
            record(stage, rollout, "sales", stable=random.gamma(2, 5, 120), candidate=random.gamma(2, 5, 120))
            failed += look(stage, check, rollout).result is CheckResult.FAIL
        stage.store.abort("m")
    assert failed == 0

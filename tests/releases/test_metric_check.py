"""Checks on metrics of the ledger, on events that were really recorded."""

import itertools
from datetime import timedelta

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


def begun(stage, check, **more):
    stage.begin(RolloutPlan((Step(0.5, hold_seconds=10), Step(1.0)), checks=(check,), **more))
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


SOLD = MetricSpec("sold", direction="up", margin=0.05)


def test_a_version_that_fails_completely_fails_though_nothing_varies(stage):
    check = MetricCheck("sold", SOLD, interval_seconds=1)
    rollout = begun(stage, check)
    record(stage, rollout, "sold", stable=share(150, 150), candidate=share(0, 150))
    found = look(stage, check, rollout)
    assert (found.result, found.reason) == (
        CheckResult.FAIL,
        "`sold` is worse than its margin accepts: 0, and 1 of the old version",
    )
    assert stage.reach("rolled_back", seconds=5, old=50, new=50)


def test_versions_that_are_both_faultless_pass_once_that_is_within_the_margin(stage):
    check = MetricCheck("sold", SOLD)
    rollout = begun(stage, check)
    record(stage, rollout, "sold", stable=share(110, 110), candidate=share(110, 110))
    assert look(stage, check, rollout).result is CheckResult.INCONCLUSIVE, "110 units leave room for more than 5 %"
    record(stage, rollout, "sold", stable=share(290, 290), candidate=share(290, 290))
    assert look(stage, check, rollout).result is CheckResult.PASS


def test_what_should_be_little_and_is_nothing_passes(stage):
    check = MetricCheck("late", LATE)
    rollout = begun(stage, check)
    record(stage, rollout, "late", stable=share(0, 90), candidate=share(0, 90))
    assert look(stage, check, rollout).result is CheckResult.PENDING
    record(stage, rollout, "late", stable=share(0, 90), candidate=share(0, 90))
    assert look(stage, check, rollout).result is CheckResult.PASS


def expose(stage, rollout, each):
    """Record units of both variants of whom nobody reports anything."""
    at = int(stage.clock().timestamp() * 1e6)
    exposures = [
        Exposure(new_id(), at, rollout.name, rollout.state.revision, variant, f"unit-{next(_units)}", 0.5)
        for variant in ("stable", "candidate")
        for _ in range(each)
    ]
    with stage.database.write() as connection:
        store_events(connection, exposures, [])
        fold(connection, exposures, [])


@pytest.mark.parametrize("direction", ["up", "down"])
def test_without_any_outcome_it_waits_for_a_person_in_the_end(stage, direction):
    check = MetricCheck("sold", MetricSpec("sold", direction=direction), interval_seconds=1)
    rollout = begun(stage, check, no_traffic_seconds=30)
    expose(stage, rollout, 150)
    assert look(stage, check, rollout).result is CheckResult.NO_TRAFFIC
    paused = stage.reach("paused", seconds=50, old=50, new=50)
    assert stage.clock() - paused.state.live_at > timedelta(seconds=30)
    assert "no outcome has been reported of either version, so nothing is known of `sold`" in paused.reason


def test_zeros_alone_of_what_should_be_much_are_nothing_to_compare(stage):
    check = MetricCheck("sold", SOLD)
    rollout = begun(stage, check)
    record(stage, rollout, "sold", stable=share(0, 150), candidate=share(0, 150))
    found = look(stage, check, rollout)
    assert (found.result, found.reason) == (
        CheckResult.NO_TRAFFIC,
        "`sold` is 0 of both versions: there is nothing to compare",
    )


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

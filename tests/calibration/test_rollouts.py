"""A smaller, seeded part of what `make calibrate` measures of rollouts, and that the simulation is what it says."""

import msgspec
import numpy as np
import pytest

from crossfade.releases.checks.error_rate import gather, measure
from crossfade.releases.checks.phase import CheckResult
from crossfade.releases.checks.spec import ErrorRateCheck
from crossfade.traffic.health import Counts, HealthReport, added
from tests.calibration import rollouts
from tests.calibration.canaries import (
    CHECK,
    NEW,
    OLD,
    P99_BUCKET,
    P99_SECONDS,
    PLACES,
    Circumstances,
    Traffic,
    begun,
    play,
)
from tests.calibration.crowd import AlwaysValid, Crowd, Thresholds, judge, weight_at
from tests.calibration.rollouts import HEALTHY, drawn

pytestmark = pytest.mark.slow


def keep(figures):
    broken = [figure for figure in figures if not figure.kept]
    assert not broken


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_canaries_stay(name):
    keep(rollouts.healthy(name, 40, looks=150))


@pytest.mark.parametrize("name", ["x10", "twice as slow"])
def test_sick_canaries_go(name):
    keep(rollouts.sick(name, 60))


def test_the_product_alone_keeps_a_good_one_and_stops_a_bad_one():
    """From reports to the action, step by step: the controller's own functions."""
    assert not play(Circumstances(rate=0.01, drift=0.5, uneven=True), 1, looks=300).rolled_back
    bad = play(Circumstances(rate=0.01, per_minute=3000, times=10.0), 1, looks=600)
    assert "check `errors` failed" in bad.reason
    assert 1 <= bad.bad["errors"] <= 15


def test_the_check_of_false_rollbacks_can_fail():
    """A check that wants half as many failures is wrong about every good version."""
    strict = ErrorRateCheck("errors", tolerated=0.3)
    wrong = judge([Circumstances(rate=0.02, per_minute=20_000)] * 20, 1, strict, looks=150).rolled_back.mean()
    assert not rollouts.at_most("strict", wrong, 0.01, 20).kept


def test_circumstances_are_as_wide_as_promised():
    found = [drawn(HEALTHY["steady"], seed) for seed in range(200)]
    rates, traffic = [each.rate for each in found], [each.per_minute for each in found]
    assert (min(rates) < 0.0025, max(rates) > 0.018) == (True, True)
    assert (min(traffic) < 60, max(traffic) > 4500) == (True, True)
    assert drawn(HEALTHY["quiet"], 1).per_minute == HEALTHY["quiet"].per_minute


def drawn_seconds(about, weight=0.2, seconds=200):
    found = Traffic(about, np.random.default_rng(1)).seconds(0, weight)
    return [report for _ in range(seconds) for report in next(found)]


def test_traffic_is_what_circumstances_say():
    about = Circumstances(rate=0.05, per_minute=6000, times=2.0, unsafe=(0.01, 0.02), fallbacks=(0.02, 0.04))
    reports = drawn_seconds(about)
    old, new = added(reports, OLD), added(reports, NEW)
    assert old.requests + new.requests == pytest.approx(20_000, rel=0.05)
    assert new.requests / (old.requests + new.requests) == pytest.approx(0.2, rel=0.1)
    assert old.errors / old.requests == pytest.approx(0.05, rel=0.15)
    assert new.errors / new.requests == pytest.approx(0.1, rel=0.15)
    assert new.unsafe / new.requests == pytest.approx(0.02, rel=0.4)
    assert sum(old.latency.values()) == old.requests - old.errors
    assert old.slower_than(P99_SECONDS) / old.requests == pytest.approx(0.01, rel=0.6)
    assert {report.process for report in reports} == {"p0", "p1"}


def test_slower_batched_and_late_traffic():
    slow = added(drawn_seconds(Circumstances(per_minute=6000, slower=2.0)), NEW)
    assert slow.slower_than(P99_SECONDS) / slow.requests > 0.1
    batched = added(drawn_seconds(Circumstances(per_minute=6000, rate=0.0, batch=4), 1.0), NEW)
    assert sum(count % 4 == 0 for count in batched.latency.values()) >= 1
    late = drawn_seconds(Circumstances(per_minute=6000, late=10), seconds=20)
    counts = {process: sum(report.process == process for report in late) for process in ("p0", "p1")}
    assert counts == {"p0": 10, "p1": 20}


def counts_of(side, rollout):
    """One version's counts of one rollout, as a process reports them."""
    latency = {PLACES[bucket]: int(count) for bucket, count in enumerate(side["latency"][rollout]) if count}
    named = {name: int(side[name][rollout]) for name in ("requests", "errors", "unsafe", "fallbacks")}
    return Counts(**named, latency=latency)


@pytest.mark.parametrize("per_minute", [100.0, 3000.0])
def test_a_crowd_is_judged_as_each_of_it_is_by_the_product(per_minute):
    """Every look of it: p-values of every event, and the rollback."""
    about = Circumstances(rate=0.02, per_minute=per_minute, times=3.0, slower=1.2, unsafe=(0.01, 0.03))
    looks, count = 120, 3
    seconds = Crowd([about] * count, np.random.default_rng(5), looks).seconds()
    tests, product, over = AlwaysValid(count), [begun()] * count, [0] * count
    for look in range(1, looks + 1):
        old, new = next(seconds)
        stepped = look > 1 and weight_at(look - 1, looks) != weight_at(look - 2, looks)
        tests.look(old, new, look, stepped=stepped)
        for rollout in range(count):
            before = product[rollout]
            if stepped:
                before = msgspec.structs.replace(before, evidence=msgspec.structs.replace(before.evidence, waiting={}))
            versions = {OLD: counts_of(old, rollout), NEW: counts_of(new, rollout)}
            evidence, asked = gather(before, [HealthReport("a", look, versions)])
            state = msgspec.structs.replace(before.state, requests=before.state.requests + asked)
            now = product[rollout] = msgspec.structs.replace(before, evidence=evidence, state=state)
            if measure(CHECK, now).result is CheckResult.FAIL and not over[rollout]:
                over[rollout] = look
            found = evidence.tests.get("errors", {})
            for event in CHECK.events:
                mine = found[event].p_value if event in found else 1.0
                assert tests.p_values[event][rollout] == pytest.approx(mine, rel=1e-9)
    assert tests.judged.looks.tolist() == over
    assert per_minute < 1000 or any(over)


def test_late_reports_are_late_and_none_is_lost():
    about = Circumstances(per_minute=6000, late=10, processes=2)
    crowd = Crowd([about] * 2, np.random.default_rng(1)).seconds()
    asked = [next(crowd)[0]["requests"] for _ in range(40)]
    assert np.mean(asked[:10]) == pytest.approx(50, rel=0.2)
    assert np.mean(asked[10:]) == pytest.approx(100, rel=0.2)


def test_a_crowd_meets_what_it_is_said_to_meet():
    uneven = Crowd([Circumstances(per_minute=60_000, uneven=True, processes=4)] * 3, np.random.default_rng(1))
    old, _ = next(uneven.seconds())
    assert (old["errors"] / old["requests"]).max() > 0.005
    stalled = Crowd([Circumstances(per_minute=60_000, stalls=1.0)] * 2, np.random.default_rng(1))
    old, _ = next(stalled.seconds())
    slow = old["latency"][:, P99_BUCKET + 1 :].sum(axis=1) / old["requests"]
    assert slow.min() > 0.2
    batched = Crowd([Circumstances(per_minute=60_000, rate=0.0, batch=4)] * 2, np.random.default_rng(1))
    old, _ = next(batched.seconds())
    assert (old["latency"] % 4 == 0).mean() > 0.7


def minute(loop, look, answered, **counts):
    latency = np.zeros((1, len(PLACES)), dtype=int)
    for bucket, count in answered.items():
        latency[0, bucket] = count
    named = {"requests": 0, "errors": 0, "unsafe": 0, "fallbacks": 0} | counts
    loop.look({name: np.array([count]) for name, count in named.items()} | {"latency": latency}, look)


def test_thresholds_count_failed_minutes_for_good():
    loop = Thresholds(1, failures=2, success=0.99, bucket=5)
    minute(loop, 60, {0: 99}, requests=100, errors=1)  # just good enough
    minute(loop, 120, {0: 98}, requests=100, errors=2)
    minute(loop, 180, {0: 100}, requests=100)
    minute(loop, 240, {})  # nothing known is as bad as bad
    assert not loop.judged.rolled_back.any()
    minute(loop, 300, {0: 100}, requests=100)
    assert loop.judged.looks.tolist() == [300]
    minute(loop, 360, {}, requests=100, errors=100)
    assert loop.judged.bad["errors"].tolist() == [3], "what comes after the rollback is no harm"


def test_thresholds_look_at_the_99th_percentile():
    loop = Thresholds(1, failures=1, bucket=5)
    minute(loop, 60, {0: 99, 6: 1}, requests=100)
    minute(loop, 120, {0: 98, 6: 2}, requests=100)
    assert not loop.judged.rolled_back.any()
    minute(loop, 180, {0: 1}, requests=1)
    assert loop.judged.rolled_back.all()


def test_the_table_has_a_line_for_each_judge(monkeypatch):
    monkeypatch.setattr(rollouts, "SITUATIONS", {"10 times": Circumstances(rate=0.01, times=10.0)})
    header, *rows = rollouts.beside_thresholds(3, (600.0,))
    assert len(rows) == 3
    assert all(len(row) == len(header) for row in rows)


def test_shares_are_measured():
    more, less = rollouts.shares("x10", 20, (1.0, 0.01))
    assert more.value < less.value

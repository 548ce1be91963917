"""A smaller, seeded part of what `make calibrate` measures of rollouts, and that the simulation is what it says."""

from dataclasses import replace

import numpy as np
import pytest

from crossfade.releases.checks.spec import ErrorRateCheck
from crossfade.traffic.health import Counts, HealthReport, added
from tests.calibration import rollouts
from tests.calibration.canaries import NEW, OLD, P99_SECONDS, Beside, Circumstances, Traffic, play
from tests.calibration.rollouts import HEALTHY, drawn


def keep(figures):
    broken = [figure for figure in figures if not figure.kept]
    assert not broken


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_canaries_stay(name):
    keep(rollouts.healthy(name, 4, looks=150))


@pytest.mark.parametrize("name", ["x10", "twice as slow"])
def test_sick_canaries_go(name):
    keep(rollouts.sick(name, 6))


def test_the_check_of_false_rollbacks_can_fail():
    """A check that wants half as many failures is wrong about every good version."""
    strict = ErrorRateCheck("errors", tolerated=0.3)
    about = Circumstances(rate=0.02, per_minute=20_000)
    wrong = sum(play(about, seed, strict, looks=150).rolled_back for seed in range(4))
    assert not rollouts.at_most("strict", wrong / 4, 0.01, 4).kept


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


def minute(loop, look, **counts):
    loop.see([HealthReport("a", look, {NEW: Counts(**counts)})], look)


def test_thresholds_count_failed_minutes_for_good():
    loop = Beside(threshold=2, success=0.99, p99_seconds=0.1)
    minute(loop, 60, requests=100, errors=1, latency={50: 99})  # just good enough
    minute(loop, 120, requests=100, errors=2, latency={50: 98})
    minute(loop, 180, requests=100, latency={50: 100})
    assert not loop.over
    minute(loop, 240, requests=0)  # nothing known is as bad as bad
    minute(loop, 300, requests=100, latency={50: 100})
    assert loop.over
    assert loop.played.looks == 300
    minute(loop, 360, requests=100, errors=100)
    assert loop.played.bad["errors"] == 3, "what comes after the rollback is no harm"


def test_thresholds_look_at_the_99th_percentile():
    loop = Beside(threshold=1, p99_seconds=P99_SECONDS)
    minute(loop, 60, requests=100, latency={50: 99, 230: 1})
    minute(loop, 120, requests=100, latency={50: 98, 230: 2})
    assert not loop.over
    minute(loop, 180, requests=1, latency={50: 1})
    assert loop.over


def test_the_table_has_a_line_for_each_judge(monkeypatch):
    monkeypatch.setattr(rollouts, "SITUATIONS", {"10 times": Circumstances(rate=0.01, times=10.0)})
    header, *rows = rollouts.beside_thresholds(1, (600.0,))
    assert len(rows) == 3
    assert all(len(row) == len(header) for row in rows)


def test_shares_are_measured():
    more, less = rollouts.shares("x10", 3, (1.0, 0.01))
    assert more.value <= less.value


def test_a_rollout_that_is_over_is_judged_no_more():
    about = Circumstances(rate=0.01, per_minute=3000, times=50.0)
    alone = play(about, 1)
    beside = play(about, 1, beside=[Beside(threshold=3)])
    assert alone.rolled_back
    assert replace(beside, bad=alone.bad) == alone

"""What processes report about versions, and what is read from it."""

import math
from datetime import timedelta
from itertools import pairwise

import pytest

from crossfade.errors import InvalidWindowError
from crossfade.traffic import health as health_module
from crossfade.traffic.health import (
    LATENCY_BOUNDS,
    SECONDS,
    SHADOW,
    Counts,
    Health,
    HealthLog,
    added,
    merge_into,
)
from tests.traffic.support import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def log(any_database, clock):
    return HealthLog(any_database, clock)


def now_us(clock):
    return int(clock.now.timestamp() * 1e6)


def report(log, clock, process="a", tier=1, **versions):
    named = {f"1.0.{name[1:]}": counts for name, counts in versions.items()}
    log.write(process, now_us(clock), {tier: {"m": named}})


def test_the_bounds_grow_and_hold_those_that_monitoring_is_shown():
    assert list(LATENCY_BOUNDS) == sorted(set(LATENCY_BOUNDS))
    assert set(SECONDS) <= set(LATENCY_BOUNDS)
    steps = [high / low for low, high in pairwise(LATENCY_BOUNDS)]
    assert max(steps) < 1.1


def test_rates_and_quantiles_of_a_window():
    health = Health(requests=100, errors=2, refused=3, fallbacks=4, unsafe=5, seconds=10.0)
    health.latency = {10: 50, 20: 44, len(LATENCY_BOUNDS): 1}
    assert (health.error_rate, health.refused_rate, health.fallback_rate, health.unsafe_rate) == (
        0.02,
        0.03,
        0.04,
        0.05,
    )
    assert (health.requests_per_second, health.answered) == (10.0, 95)
    assert health.p50_seconds == LATENCY_BOUNDS[10]
    assert health.p95_seconds == LATENCY_BOUNDS[20]
    assert health.quantile(1.0) == math.inf
    assert health.slower_than(LATENCY_BOUNDS[20]) == 1
    assert health.slower_than(LATENCY_BOUNDS[10]) == 45


def test_nothing_is_said_about_what_did_not_happen():
    empty = Health(seconds=60.0)
    assert (empty.error_rate, empty.p99_seconds, empty.batch_size) == (None, None, None)
    assert empty.requests_per_second == 0.0
    assert not empty


def test_a_window_adds_up_processes_and_forgets_what_is_older(log, clock):
    report(log, clock, "a", v0=Counts(requests=5), v1=Counts(requests=1, errors=1))
    clock.advance(50)
    report(log, clock, "a", v0=Counts(requests=7, queue_depth=2, memory_bytes=100))
    report(log, clock, "b", v0=Counts(requests=11, queue_depth=3, memory_bytes=200))
    both = log.windows(60, model="m")
    assert (both["1.0.0"].requests, both["1.0.1"].errors) == (23, 1)
    assert (both["1.0.0"].processes, both["1.0.0"].queue_depth, both["1.0.0"].memory_bytes) == (2, 5, 300)
    clock.advance(20)
    assert log.window(60, model="m", version="1.0.0").requests == 18
    assert log.window(60, model="m", version="1.0.1").requests == 0
    assert log.window(60, model="other").requests == 0


def test_all_versions_of_a_model_together_leave_out_copies(log, clock):
    log.write("a", now_us(clock), {1: {"m": {"1.0.0": Counts(requests=5), "1.0.1" + SHADOW: Counts(requests=5)}}})
    assert log.window(60, model="m").requests == 5
    assert log.models(60) == [("m", "1.0.0"), ("m", "1.0.1/shadow")]


def test_coarse_reports_and_the_finer_ones_after_them_count_once(log, clock):
    """As a process writes them: each minute together with its last second."""
    total = Counts()
    for second in range(600):
        clock.advance(1)
        fresh = Counts(requests=second, latency={3: second})
        total.add(fresh)
        tiers = {1: {"m": {"1.0.0": fresh}}}
        if second % 60 == 59 and second < 500:
            tiers[60] = {"m": {"1.0.0": total}}
            total = Counts()
        log.write("a", now_us(clock), tiers)
    everything = log.window(3600, model="m", version="1.0.0")
    assert everything.requests == sum(range(600))
    assert everything.answered == everything.requests
    log.prune()
    assert log.window(3600, model="m", version="1.0.0").requests == sum(range(600))
    assert log.window(100_000, model="m", version="1.0.0").requests == sum(range(600))


def test_a_short_window_may_be_read_coarsely_and_what_is_covered_is_not_decoded(log, clock, monkeypatch):
    decoded = []
    original = health_module._decode
    monkeypatch.setattr(health_module, "_decode", lambda body: decoded.append(1) or original(body))
    for second in range(1, 131):
        clock.now += timedelta(seconds=1)
        reports = {1: {"m": {"1.0.0": Counts(requests=1, latency={0: 1})}}}
        if second % 60 == 0:
            reports[60] = {"m": {"1.0.0": Counts(requests=60, latency={0: 60})}}
        log.write("a", now_us(clock), reports)
    assert log.window(125, model="m").requests == 125
    exact, decoded[:] = len(decoded), []
    assert log.window(125, model="m", coarse=True).requests == 130  # the first minute is in it as a whole
    assert (exact, len(decoded)) == (125, 12)


def test_old_reports_are_forgotten(log, clock):
    report(log, clock, "a", v0=Counts(requests=5))
    clock.advance(700)
    log.prune()
    assert log.window(3600, model="m").requests == 0


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, 1e9])
def test_a_window_that_cannot_be(log, seconds):
    with pytest.raises(InvalidWindowError):
        log.window(seconds, model="m")


def test_every_report_is_read_once_by_who_keeps_cursors(log, clock):
    started = now_us(clock)
    clock.advance(1)
    report(log, clock, "a", v0=Counts(requests=1))
    report(log, clock, "b", v0=Counts(requests=2))
    first = log.since({}, started, model="m")
    cursors = {each.process: each.at_us for each in first}
    assert added(first, "1.0.0").requests == 3
    assert log.since(cursors, started, model="m") == []
    clock.advance(1)
    report(log, clock, "b", v0=Counts(requests=4))
    report(log, clock, "c", v0=Counts(requests=8))
    assert [each.process for each in log.since(cursors, started, model="m")] == ["b", "c"]
    assert added(log.since(cursors, started, model="m"), "1.0.1").requests == 0


def test_what_comes_minutes_late_is_no_evidence(log, clock):
    started, before = now_us(clock), Clock()
    before.now = clock.now
    clock.advance(300)
    before.advance(170)
    report(log, clock, "a", v0=Counts(requests=1))
    cursors = {"a": now_us(clock)}
    clock.advance(1)
    report(log, before, "late", v0=Counts(requests=2))
    report(log, clock, "a", v0=Counts(requests=4))
    assert [each.process for each in log.since(cursors, started, model="m")] == ["a"]
    before.advance(20)
    report(log, before, "late", v0=Counts(requests=8))
    assert added(log.since(cursors, started, model="m"), "1.0.0").requests == 12


def test_a_process_whose_clock_is_ahead_hides_nobody(log, clock):
    started, ahead = now_us(clock), Clock()
    ahead.now = clock.now
    ahead.advance(3600)
    report(log, ahead, "ahead", v0=Counts(requests=1))
    cursors = {"ahead": now_us(ahead)}
    clock.advance(1)
    ahead.advance(1)
    report(log, clock, "a", v0=Counts(requests=2))
    report(log, ahead, "ahead", v0=Counts(requests=4))
    assert added(log.since(cursors, started, model="m"), "1.0.0").requests == 6


def test_sums_keep_the_newest_gauges():
    total = {}
    merge_into(total, {"m": {"1.0.0": Counts(requests=1, queue_depth=9, latency={1: 1})}})
    merge_into(total, {"m": {"1.0.0": Counts(requests=2, queue_depth=4, latency={1: 1, 2: 1})}, "n": {}})
    assert total["m"]["1.0.0"] == Counts(requests=3, queue_depth=4, latency={1: 2, 2: 1})

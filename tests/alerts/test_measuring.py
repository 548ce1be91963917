"""Whether a rule holds: burn rates beside an independent computation, counters and gauges, and what cannot be known."""

import math
from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.alerts.burn import burn_rate
from crossfade.alerts.catalogue import catalogue
from crossfade.alerts.conditions import (
    BurnRate,
    CounterGrows,
    FactHolds,
    FailuresAbove,
    GaugeAbove,
    QuantileAbove,
    ShareBelow,
)
from crossfade.alerts.measuring import Truth, counters, measure
from crossfade.alerts.rule import AlertRule
from crossfade.alerts.signals import Known, Signals
from crossfade.errors import DatabaseUnavailableError
from crossfade.settings import Settings, SloRules, SloSettings
from tests.alerts.support import Clock, FakeHealth

YES, NO, UNKNOWN = Truth.YES, Truth.NO, Truth.UNKNOWN
SLO = SloSettings(availability=0.999, latency=0.99, latency_seconds=0.1, min_requests=100)


class Lab:
    """One rule at a time, over a history that is made by hand."""

    def __init__(self, slo=SLO):
        self.clock = Clock()
        self.health = FakeHealth(self.clock)
        self.text = ""
        self.sources = {}
        self.slo = slo
        self.signals = Signals(self.health, self.render, self.sources, monotonic=lambda: self.clock().timestamp())

    def render(self):
        return self.text.encode()

    def tell(self, name, source):
        self.signals._sources[name] = source

    def look(self, condition, text=None):
        self.text = self.text if text is None else text
        rule = AlertRule("A", "page", "", "", condition)
        self.signals.look(counters([rule]))
        return measure(rule, self.signals, self.slo, 100)

    def truth(self, condition, text=None):
        found = self.look(condition, text)
        (item,) = found.items
        return item.truth


@pytest.fixture
def lab():
    return Lab()


FAST = BurnRate("errors", 3600, 300, 14.4)


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.sampled_from(["0.9", "0.99", "0.999", "0.9999", "0.95"]))
def test_burn_rates_are_what_fractions_say(bad, good, objective):
    found = burn_rate(bad, bad + good, float(objective))
    if bad + good == 0:
        assert found is None
        return
    exact = Fraction(bad, bad + good) / (1 - Fraction(objective))
    assert found == pytest.approx(float(exact), rel=1e-12)


@pytest.mark.parametrize(
    ("errors_long", "errors_short", "truth"),
    [
        # of 60,000 requests in the hour and 5,000 in the last five minutes: 14.4 x 0.1 % = 1.44 % = 864 and 72
        (864, 72, NO),
        (865, 73, YES),
        (865, 72, NO),
        (864, 73, NO),
        (865, 0, NO),
        (60_000, 5_000, YES),
    ],
)
def test_both_windows_have_to_burn(lab, errors_long, errors_short, truth):
    lab.health.add(requests=55_000, errors=errors_long - errors_short)
    lab.clock.wait(600)
    lab.health.add(requests=5_000, errors=errors_short)
    assert lab.truth(FAST) is truth


def test_a_page_comes_as_soon_as_the_workbook_says():
    """Of a total outage after quiet days, 14.4 x 0.1 % of an hour is over after 52 s (table 5-8: 1h, 14.4)."""
    lab = Lab()
    for _ in range(360):
        lab.health.add(requests=100)
        lab.clock.wait(10)
    began = lab.clock()
    while lab.truth(FAST) is not YES:
        lab.health.add(requests=100, errors=100)
        lab.clock.wait(10)
        lab.signals._windows.clear()
    assert lab.clock() - began == timedelta(seconds=60)


def test_slow_answers_burn_the_other_budget(lab):
    lab.health.add(requests=10_000, slow=1_441)
    latency = BurnRate("latency", 3600, 300, 14.4)
    assert lab.truth(latency) is YES
    assert lab.truth(FAST) is NO


def test_a_model_of_its_own(lab):
    lab.slo = SloSettings(models={"lenient": SloRules(availability=0.9, min_requests=10)}, min_requests=100)
    lab.health.add("churn", requests=50, errors=50)
    lab.health.add("lenient", requests=50, errors=50)
    found = {item.labels["model"]: item.truth for item in lab.look(FAST).items}
    assert found == {"churn": UNKNOWN, "lenient": NO}, (
        "10 times 10 % is all there is: it cannot burn 14.4 times too fast"
    )


def test_too_little_traffic_says_nothing(lab):
    lab.health.add(requests=99, errors=99)
    finding = lab.look(FAST).items[0]
    assert (finding.truth, finding.reason) == (UNKNOWN, "99 requests are too few to say")


def test_nothing_in_the_short_window_is_not_known(lab):
    lab.health.add(requests=1_000, errors=500)
    lab.clock.wait(500)
    finding = lab.look(FAST).items[0]
    assert finding.truth is UNKNOWN
    assert "nothing happened" in finding.reason


def test_without_any_traffic_there_is_nothing_to_look_at(lab):
    assert lab.look(FAST).items == ()
    assert not lab.look(FAST).complete


@pytest.mark.parametrize(("slow", "truth"), [(0, NO), (4, NO), (5, NO), (6, YES), (100, YES)])
def test_quantiles(lab, slow, truth):
    lab.health.add(requests=100, slow=slow)
    assert lab.truth(QuantileAbove(0.95, 300, 0.1)) is truth


def test_a_quantile_beyond_what_is_counted_is_above_everything(lab):
    lab.health.window = lambda seconds, **_: _beyond()
    lab.health.add()
    finding = lab.look(QuantileAbove(0.99, 300, 1.0)).items[0]
    assert (finding.truth, finding.value) == (YES, None)


def _beyond():
    from crossfade.traffic.health import LATENCY_BOUNDS, Health

    return Health(requests=200, latency={len(LATENCY_BOUNDS): 200})


@pytest.mark.parametrize(("errors", "truth"), [(0, NO), (50, NO), (51, YES), (1000, YES)])
def test_failures(lab, errors, truth):
    lab.health.add(requests=1000, errors=errors)
    assert lab.truth(FailuresAbove(300, 0.05)) is truth


@pytest.mark.parametrize("condition", [FailuresAbove(300, 0.05), QuantileAbove(0.95, 300, 0.1)])
def test_few_requests_say_nothing(lab, condition):
    lab.health.add(requests=99, errors=98)
    assert lab.truth(condition) is UNKNOWN


def test_long_windows_are_not_read_at_every_look(lab):
    read = []
    window = lab.health.window
    lab.health.window = lambda seconds, model, coarse: read.append(seconds) or window(seconds, model=model)
    lab.health.add()
    for _ in range(20):
        lab.look(BurnRate("errors", 259_200, 300, 1.0))
        lab.clock.wait(15)
    assert read.count(300) == 20
    assert read.count(259_200) == 1


def test_a_window_with_little_in_it_is_read_anew(lab):
    """Otherwise what a new model does in its first minutes would be known minutes later."""
    lab.health.add(requests=5)
    assert lab.truth(BurnRate("errors", 259_200, 300, 1.0)) is UNKNOWN
    lab.health.add(requests=500, errors=400)
    assert lab.truth(BurnRate("errors", 259_200, 300, 1.0)) is YES


def test_a_database_that_is_away_blinds_and_nothing_else(lab):
    lab.health.away = True
    found = lab.look(FAST)
    assert (found.items, found.failed) == ((), True)
    assert "the database does not answer" in found.problem


DEPTH = GaugeAbove("crossfade_queue_depth", 100.0, by=("model",))


def gauge(**values):
    return "# TYPE crossfade_queue_depth gauge\n" + "".join(
        f'crossfade_queue_depth{{model="{model}",version="1.0.{place}"}} {value}\n'
        for model, found in values.items()
        for place, value in enumerate(found)
    )


def test_gauges(lab):
    found = lab.look(DEPTH, gauge(a=[100, 3], b=[3, 101], c=["+Inf"], d=["NaN"], e=["-Inf"]))
    truths = {item.labels["model"]: item.truth for item in found.items}
    assert truths == {"a": NO, "b": YES, "c": YES, "d": UNKNOWN, "e": NO}
    assert found.complete
    assert all(item.value is None or math.isfinite(item.value) for item in found.items)


def test_series_that_are_not_there_do_not_hold(lab):
    found = lab.look(DEPTH, "")
    assert (found.items, found.complete) == ((), True)


def test_only_series_with_these_labels_count(lab):
    text = '# TYPE crossfade_slots gauge\ncrossfade_slots{state="failed"} 0\ncrossfade_slots{state="ready"} 5\n'
    assert lab.truth(GaugeAbove("crossfade_slots", 0.0, where={"state": "failed"}), text) is NO


GROWS = CounterGrows("crossfade_events_dropped_total", 900, by=("kind",))


def dropped(**values):
    return "# TYPE crossfade_events_dropped counter\n" + "".join(
        f'crossfade_events_dropped_total{{kind="{kind}"}} {value}\n' for kind, value in values.items()
    )


def test_counters(lab):
    assert lab.truth(GROWS, dropped(exposure=7)) is UNKNOWN  # nothing to compare with
    lab.clock.wait(15)
    assert lab.truth(GROWS, dropped(exposure=7)) is NO
    lab.clock.wait(15)
    assert lab.truth(GROWS, dropped(exposure=8)) is YES
    lab.clock.wait(890)
    assert lab.truth(GROWS, dropped(exposure=8)) is NO  # it grew more than a window ago


def test_a_counter_that_begins_anew_has_grown_by_what_it_shows(lab):
    lab.look(GROWS, dropped(exposure=7))
    lab.clock.wait(15)
    assert lab.look(GROWS, dropped(exposure=3)).items[0].value == 3
    lab.clock.wait(15)
    found = {item.labels["kind"]: item.value for item in lab.look(GROWS, dropped(exposure=3, outcome=2)).items}
    assert found == {"exposure": 3, "outcome": 2}


HITS = ShareBelow("crossfade_cache_lookups_total", 900, "result", "computed", 0.8, 1_000, ("model",))


def lookups(memory, computed):
    return (
        "# TYPE crossfade_cache_lookups counter\n"
        f'crossfade_cache_lookups_total{{model="m",version="1.0.0",result="memory"}} {memory}\n'
        f'crossfade_cache_lookups_total{{model="m",version="1.0.0",result="computed"}} {computed}\n'
    )


@pytest.mark.parametrize(
    ("memory", "computed", "truth"),
    [(800, 200, NO), (799, 201, YES), (0, 1_000, YES), (0, 999, UNKNOWN), (0, 0, UNKNOWN), ("NaN", 5_000, UNKNOWN)],
)
def test_shares(lab, memory, computed, truth):
    lab.look(HITS, lookups(0, 0))
    lab.clock.wait(15)
    assert lab.truth(HITS, lookups(memory, computed)) is truth


def test_facts(lab):
    assert lab.look(FactHolds("x")).problem == "no part of this process tells of `x`"
    assert not lab.look(FactHolds("x")).failed
    lab.tell("x", lambda: [Known({"model": "a"}, "because", 3.0), Known({"model": "b"}, "so", math.nan)])
    found = lab.look(FactHolds("x"))
    assert [(item.truth, item.value) for item in found.items] == [(YES, 3.0), (UNKNOWN, None)]
    assert found.complete


@pytest.mark.parametrize("error", [DatabaseUnavailableError(problem="away"), KeyError("bug"), RecursionError()])
def test_a_source_that_fails_blinds_its_rule(lab, error):
    def fail():
        raise error

    lab.tell("x", fail)
    found = lab.look(FactHolds("x"))
    assert found.failed
    assert found.problem


def test_without_metrics_nothing_is_known(lab):
    blind = Signals(lab.health, None, {})
    blind.look([])
    for condition in (DEPTH, GROWS, HITS):
        (item,) = measure(AlertRule("A", "page", "", "", condition), blind, SLO, 100).items
        assert item.truth is UNKNOWN


def test_the_catalogue_is_whole():
    rules = catalogue(Settings())
    assert len({rule.name for rule in rules}) == len(rules)
    assert {rule.severity for rule in rules} == {"info", "ticket", "page"}
    asked = {  # by the documents that Crossfade comes from
        "ModelInferenceLatencyHigh", "CacheHitRateLow", "ABTestTrafficDeviation", "RollbackPerformed",
        "CacheNearlyFull",
        "ModelErrorRateHigh", "ABTestSignificantResult", "SafetyViolationsCritical", "EmergencyModeActive",
        "ModelInferenceFailures", "ApiLatencyHigh", "ConfigurationDrift",
    }  # fmt: skip
    assert asked <= {rule.name for rule in rules}
    burning = [
        (each.condition.long_seconds, each.condition.short_seconds, each.condition.factor, each.severity)
        for each in rules
        if isinstance(each.condition, BurnRate)
    ]
    assert sorted(set(burning)) == [
        (3600, 300, 14.4, "page"),
        (21_600, 1800, 6.0, "page"),
        (259_200, 21_600, 1.0, "ticket"),
    ]


def test_rules_can_be_left_out():
    settings = Settings(alerts={"disabled": ("CacheHitRateLow",)})
    assert "CacheHitRateLow" not in {rule.name for rule in catalogue(settings)}

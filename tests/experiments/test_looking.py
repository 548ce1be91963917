"""When is looked, by each method."""

import numpy as np
import pytest

from crossfade.experiments.analysis import analyze
from crossfade.experiments.analysis_spec import AnalysisSpec
from crossfade.experiments.looking import end_of, schedule
from crossfade.ledger.evidence import Arrival, Evidence
from crossfade.methods.stats.group_sequential import boundaries
from crossfade.methods.stats.values import NotEstimable
from tests.experiments.support import START, after, cells, day, evidence, question


def came(*units):
    return tuple(
        Arrival(1, variant, day(number), count // 2, 0.5)
        for number, count in enumerate(units)
        for variant in ("control", "treatment")
    )


def looks(arrivals, now, *, ends_at=None, started_at=START, **spec):
    return schedule(question("m", analysis=AnalysisSpec(**spec), ends_at=ends_at, started_at=started_at), arrivals, now)


def test_always_valid_looks_at_every_day_and_at_today():
    found = looks(came(10, 20, 30), after(2.5))
    assert found.days == (day(0), day(1), day(2))
    assert found.refusal is None


GST = {"method": "group_sequential", "planned_units": 1000, "looks": 4}


@pytest.mark.parametrize(
    ("units", "now", "expected"),
    [
        ((100, 100), 2, ()),
        ((100, 200), 2, ((1, 0.3),)),
        ((100, 200, 100, 150), 4, ((1, 0.3), (3, 0.55))),
        ((600, 100), 2, ((0, 0.6),)),  # one look for two that were due; the next is due at 75 %
        ((600, 200, 500, 100), 4, ((0, 0.6), (1, 0.8), (2, 1.3))),  # and none after the planned end
        ((300, 0, 0, 300), 4, ((0, 0.3), (3, 0.6))),
    ],
)
def test_planned_looks_are_at_the_first_day_with_enough_units(units, now, expected):
    found = looks(came(*units), after(now), **GST)
    assert found.days == tuple(day(number) for number, _ in expected)
    assert found.information == pytest.approx(tuple(share for _, share in expected))
    assert (found.refusal is None) == bool(expected)


def test_a_day_that_is_not_over_is_no_planned_look():
    assert looks(came(300), after(0.9), **GST).days == ()
    assert looks(came(300), after(1), **GST).days == (day(0),)


def test_looks_that_were_taken_stay_when_more_comes():
    arrivals = came(300, 300, 300, 300, 300)
    before = []
    for now in range(1, 6):
        until = tuple(each for each in arrivals if end_of(each.day) <= after(now))
        found = looks(until, after(now), **GST)
        assert found.days[: len(before)] == tuple(before)
        before = list(found.days)
    assert before == [day(0), day(1), day(2), day(3)]


def test_an_experiment_that_ends_early_has_a_last_look():
    found = looks(came(300, 100), after(2), ends_at=after(1.5), **GST)
    assert found.days == (day(0), day(1))
    assert found.information == pytest.approx((0.3, 0.4))


def test_before_the_first_look_the_reason_is_given():
    found = looks(came(100), after(1), **GST)
    assert "250 units" in found.refusal.reason
    assert found.infer(NotEstimable("x"), 0.05) == found.refusal


FIXED = {"method": "fixed", "planned_units": 1000}


@pytest.mark.parametrize(
    ("units", "now", "days"),
    [((400, 400), 2, ()), ((400, 600), 2, (1,)), ((400, 600, 700), 3, (1,)), ((1000,), 0.5, ())],
)
def test_the_one_look_is_at_the_planned_units(units, now, days):
    assert looks(came(*units), after(now), **FIXED).days == tuple(map(day, days))


@pytest.mark.parametrize(
    ("seconds", "now", "days"),
    [
        (2 * 86_400.0, 1.9, ()),
        (2 * 86_400.0, 2, (1,)),
        (2 * 86_400.0, 4, (1,)),  # later units do not change it
        (2.5 * 86_400.0, 4, (1,)),  # of the third day only a half was planned
        (3600.0, 1, (0,)),
    ],
)
def test_or_after_the_planned_time(seconds, now, days):
    found = looks(came(10, 10, 10, 10), after(now), method="fixed", planned_seconds=seconds)
    assert found.days == tuple(map(day, days))


def test_or_at_the_end_of_the_experiment():
    assert looks(came(10, 10), after(1.2), ends_at=after(1.1), **FIXED).days == (day(1),)


def test_without_units_there_is_no_look():
    for spec in ({}, GST, FIXED, {"method": "fixed", "planned_seconds": 1.0}):
        assert looks((), after(9), ends_at=after(8), **spec).days == ()


def test_the_reason_names_every_planned_end():
    reason = looks(came(10), after(1), planned_seconds=864_000.0, **FIXED).refusal.reason
    assert "1,000 units" in reason
    assert "2026-03-12" in reason


@pytest.mark.parametrize(
    ("units", "now", "spec", "due"),
    [
        ((1000,), 0.4, FIXED, 1),
        ((400, 600), 1.5, FIXED, 2),
        ((400, 500), 1.5, FIXED, None),
        ((1000, 10), 1.5, FIXED, None),  # that look was taken
        ((40,), 0.5, {"method": "fixed", "planned_seconds": 3600.0}, 1),
        ((250,), 0.5, GST, 1),
        ((300, 100), 1.5, GST, None),
        ((300, 200), 1.5, GST, 2),
        ((1000, 300), 1.5, GST, None),  # after the planned end there is none
        ((10, 20), 1.5, {}, None),
    ],
)
def test_a_look_whose_units_are_there_waits_for_its_day_to_end(units, now, spec, due):
    assert looks(came(*units), after(now), **spec).due == (None if due is None else after(due))


@pytest.mark.parametrize("spec", [FIXED, GST])
def test_the_reason_is_the_day_that_goes_on_when_all_units_are_there(spec):
    reason = looks(came(1000), after(0.4), **spec).refusal.reason
    assert "its 1,000 units are there" in reason
    assert "2026-03-03 00:00 UTC" in reason


def test_the_reason_counts_the_units_of_today():
    assert "there are 400" in looks(came(300, 100), after(1.5), **FIXED).refusal.reason
    assert "there are 100" in looks(came(100), after(0.5), **GST).refusal.reason


@pytest.mark.parametrize(
    ("units", "seconds", "expected"),
    [
        ((10, 10, 10, 10), 3600.0, 0),  # not even the first day was over in the planned time
        ((400, 400, 400, 400), 2.5 * 86_400.0, 1),  # the units of the third day come too late
        ((400, 600, 400, 400), 2.5 * 86_400.0, 1),
    ],
)
def test_the_one_look_stays_when_more_comes(units, seconds, expected):
    for now in (2.6, 3, 4):
        until = came(*units)[: 2 * int(np.ceil(now))]
        assert looks(until, after(now), planned_seconds=seconds, **FIXED).days == (day(expected),)


def test_before_the_planned_end_there_is_no_number_to_peek_at():
    random = np.random.default_rng(1)
    rows = {"m": {"control": random.normal(size=400), "treatment": random.normal(3.0, 1.0, 400)}}
    (made,) = analyze(evidence(rows, days=2), question("m", analysis=AnalysisSpec(**FIXED)), after(2)).comparisons
    assert isinstance(made.absolute, NotEstimable)
    assert isinstance(made.relative, NotEstimable)
    assert (made.p_value, made.adjusted_p, made.reading, made.looks) == (None, None, "unknown", ())
    assert made.treatment.value == pytest.approx(3.0, abs=0.3)


def test_a_bound_that_was_crossed_stays_crossed():
    random = np.random.default_rng(3)
    first, rest = random.normal(0.6, 1.0, 500), random.normal(-0.2, 1.0, 1500) + 0.04
    rows = {"m": {"control": random.normal(size=2000), "treatment": np.concatenate([first, rest])}}
    spec = AnalysisSpec(method="group_sequential", planned_units=4000, looks=4, spending="pocock")
    (made,) = analyze(evidence(rows, days=4), question("m", analysis=spec), after(4)).comparisons
    assert made.looks[0].p_value < 0.001
    assert made.looks[-1].p_value > 0.05
    assert made.looks[-1].effect > 0
    assert made.p_value == made.looks[0].p_value == made.looks[-1].running_p
    assert made.reading == "better"


def test_a_bound_that_was_crossed_on_the_other_side_says_nothing_now():
    random = np.random.default_rng(3)
    first, rest = random.normal(0.6, 1.0, 500), random.normal(-0.25, 1.0, 1500)
    rows = {"m": {"control": random.normal(size=2000), "treatment": np.concatenate([first, rest])}}
    spec = AnalysisSpec(method="group_sequential", planned_units=4000, looks=4, spending="pocock")
    report = analyze(evidence(rows, days=4), question("m", analysis=spec), after(4))
    (made,) = report.comparisons
    assert made.looks[0].p_value < 0.001
    assert made.looks[-1].effect < 0
    assert made.p_value == made.looks[-1].p_value > 0.05
    assert made.reading == "unclear"
    assert any("changes over time" in note for note in report.notes)


def test_segments_use_the_bound_of_the_present_look():
    random = np.random.default_rng(4)
    rows = {"control": random.normal(size=2000), "treatment": random.normal(size=2000)}
    whole = evidence({"m": rows}, days=4)
    part = cells("m", rows, days=4, dimension="country", value="DE")
    both = Evidence("late", (*whole.cells, *part), whole.arrivals, last_us=whole.last_us)
    spec = AnalysisSpec(method="group_sequential", planned_units=4000, looks=4)
    report = analyze(both, question("m", analysis=spec, dimensions=("country",)), after(4))
    (segment,) = report.segments
    assert segment.effect.effect == pytest.approx(report.comparisons[0].absolute.effect)
    assert segment.effect.p_value == pytest.approx(report.comparisons[0].absolute.p_value)
    half = segment.effect.upper - segment.effect.effect
    assert half / segment.effect.standard_error == pytest.approx(boundaries([0.25, 0.5, 0.75, 1.0])[-1], rel=1e-3)

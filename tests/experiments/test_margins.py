"""Margins of guardrails that hardly ever happen."""

import numpy as np
import pytest

from crossfade.experiments.analysis import analyze
from crossfade.experiments.analysis_spec import AnalysisSpec
from crossfade.experiments.margins import NO_SHARE
from crossfade.experiments.reports.words import within
from crossfade.ledger.metrics import MetricSpec
from crossfade.methods.stats.non_inferiority import NonInferiority
from tests.experiments.support import after, evidence, question

N = 5000
ONCE = {"method": "fixed", "planned_units": 2 * N}


def events(count, n=N):
    return np.arange(n) % n < count


def guardrail(control, treatment, *, kind="proportion", direction="down", analysis=None, **margin):
    """The report of a treatment that is clearly better, and of so many errors of each."""
    random = np.random.default_rng(1)
    sales = {"control": random.normal(1.0, 1.0, N), "treatment": random.normal(2.0, 1.0, N)}
    rows = {name: events(count).astype(float) for name, count in (("control", control), ("treatment", treatment))}
    outcome = ""
    if kind == "ratio":
        rows, outcome = {name: np.stack([each, np.ones(N)], axis=1) for name, each in rows.items()}, "error"
    metric = MetricSpec("errors", kind=kind, outcome=outcome, direction=direction, role="guardrail", **margin)
    asked = question(MetricSpec("sales"), metric, analysis=AnalysisSpec(**(analysis or {})))
    return analyze(evidence({"sales": sales, "errors": rows}, days=5), asked, after(5))


def test_a_relative_margin_of_nothing_says_what_a_person_can_do():
    report = guardrail(0, 1, margin=0.5)
    found = report.comparison("errors", "treatment")
    assert found.non_inferiority == NO_SHARE
    assert "the control had none of it" in within(found)
    assert "`margin_absolute`" in within(found)
    assert report.decision.action == "continue"
    assert "a person who decides, or some `errors` of the control" in report.decision.missing
    assert report.decision.missing_units is None


@pytest.mark.parametrize("kind", ["proportion", "ratio"])
def test_an_absolute_margin_is_shown_where_the_control_had_none(kind):
    report = guardrail(0, 1, kind=kind, margin_absolute=0.005)
    found = report.comparison("errors", "treatment").non_inferiority
    assert isinstance(found, NonInferiority)
    assert (found.shown, found.scale) == (True, "absolute")
    assert (report.decision.action, report.decision.variant) == ("ship", "treatment")
    assert "within its margin of 0.005" in report.decision.reason


def test_an_absolute_margin_that_is_not_shown_yet_says_how_many_units_it_takes():
    decision = guardrail(0, 1, margin_absolute=0.001).decision
    assert decision.action == "continue"
    assert "`errors` is within its margin" in decision.missing
    assert 1000 < decision.missing_units < 1_000_000


def test_one_or_none_of_five_thousand_do_not_exclude_a_rate_of_which_that_is_usual():
    """3 are expected at the margin: one or none happens in every fifth sample."""
    report = guardrail(0, 1, analysis=ONCE, margin_absolute=0.0006)
    assert not report.comparison("errors", "treatment").non_inferiority.shown
    report = guardrail(0, 1, analysis=ONCE, margin_absolute=0.0012)  # of 6, in 2 of 100
    assert report.comparison("errors", "treatment").non_inferiority.shown


@pytest.mark.parametrize("rate", [0.0, 0.0002, 0.002])
def test_what_is_at_the_margin_is_rarely_shown_to_be_within_it(rate):
    random, margin, shown = np.random.default_rng(2), 0.002, 0
    for _ in range(200):
        counts = int(random.binomial(N, rate)), int(random.binomial(N, rate + margin))
        found = guardrail(*counts, analysis=ONCE, margin_absolute=margin).comparison("errors", "treatment")
        shown += found.non_inferiority.shown
    assert shown <= 20  # 10 are expected


def test_where_everything_succeeds_in_both_that_shows_something():
    report = guardrail(N, N, direction="up", analysis=ONCE, margin_absolute=0.005)
    found = report.comparison("errors", "treatment").non_inferiority
    assert found.shown
    assert -0.005 < found.worst < 0
    report = guardrail(N, N, direction="up", analysis=ONCE, margin_absolute=0.0001)
    assert not report.comparison("errors", "treatment").non_inferiority.shown


def test_what_is_frequent_has_its_own_error():
    found = guardrail(500, 520, analysis=ONCE, margin_absolute=0.02).comparison("errors", "treatment")
    worst = found.absolute.effect + 1.645 * np.sqrt((0.1 * 0.9 + 0.104 * 0.896) / N)
    assert found.non_inferiority.worst == pytest.approx(worst, rel=1e-3)


def test_a_shadow_has_margins_too():
    rows = np.stack([events(0), events(1)], axis=1).astype(float)
    metric = MetricSpec("errors", kind="proportion", direction="down", role="guardrail", margin_absolute=0.005)
    found = evidence({"errors": {"champion": rows}}, weights={"champion": 1.0})
    made = analyze(found, question(metric, variants=("champion",), shadows=("challenger",)), after(1)).comparisons[0]
    assert made.paired
    assert made.non_inferiority.shown
    assert made.non_inferiority.worst > 0.0002


def test_before_a_planned_look_there_is_no_margin_either():
    report = guardrail(0, 1, margin=0.5, analysis={"method": "fixed", "planned_units": 10**6})
    assert "the one look is at" in report.comparison("errors", "treatment").non_inferiority.reason

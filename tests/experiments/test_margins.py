"""Margins of guardrails that hardly ever happen."""

from dataclasses import replace

import numpy as np
import pytest

from crossfade.experiments.analysis import analyze
from crossfade.experiments.analysis_spec import AnalysisSpec
from crossfade.experiments.margins import NO_SHARE
from crossfade.experiments.reports.words import within
from crossfade.ledger.metrics import MetricSpec
from crossfade.methods.stats.confidence_sequence import TUNING, mixture
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


@pytest.mark.parametrize(
    ("n", "rate", "margin", "direction"),
    [(3000, 0.005, 0.5, "down"), (3000, 0.006, 0.2, "down"), (3000, 0.998, 0.002, "up"), (3000, 0.997, 0.004, "up")],
)
@pytest.mark.parametrize("share", [1.0, 0.2])
def test_what_is_at_a_relative_margin_is_rarely_shown_to_be_within_it(n, rate, margin, direction, share):
    """Of rates with a handful of events, or all but a handful; their own errors called 9 to 20 % within it."""
    random, shown, worst = np.random.default_rng(3), 0, rate * (1 + margin if direction == "down" else 1 - margin)
    metric = MetricSpec("m", kind="proportion", direction=direction, role="guardrail", margin=margin)
    asked = question(metric, analysis=AnalysisSpec(method="fixed", planned_units=2 * n))
    for _ in range(150):
        rows = {"control": events(random.binomial(n, rate), n)}
        rows["treatment"] = events(random.binomial(round(share * n), worst), round(share * n))
        found = analyze(evidence({"m": rows}, weights={"control": 0.5, "treatment": 0.5}), asked, after(2))
        margins = found.comparisons[0].non_inferiority
        shown += isinstance(margins, NonInferiority) and margins.shown
    assert shown <= 15  # 7.5 are expected; almost three standard errors more


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


# ------------------------------------------------------------------------------------------------------ beyond margins


@pytest.mark.parametrize("margin", [{"margin": 0.6}, {"margin_absolute": 0.06}])
def test_what_its_margin_accepts_is_no_harm_though_it_is_significantly_worse(margin):
    report = guardrail(500, 650, **margin)  # 30 %, or 0.03, more
    found = report.comparison("errors", "treatment")
    assert found.reading == "worse"
    assert found.non_inferiority.shown
    assert not found.harmful
    assert found.harm_p > 0.5
    assert report.decision.action == "ship"


@pytest.mark.parametrize("margin", [{"margin": 0.1}, {"margin_absolute": 0.01}, {"margin": 0.0}, {}])
def test_what_is_worse_by_more_is_harm(margin):
    report = guardrail(500, 850, **margin)
    found = report.comparison("errors", "treatment")
    assert found.harmful
    assert found.harm_p < 0.001
    assert (report.decision.action, report.decision.variant) == ("stop", "treatment")
    assert ("than its margin accepts" in report.decision.reason) == bool(margin)


def test_where_it_is_not_known_yet_whether_the_margin_is_passed_it_goes_on():
    report = guardrail(500, 640, margin=0.25)
    found = report.comparison("errors", "treatment")
    assert (found.reading, found.harmful, found.acceptable) == ("worse", False, False)
    assert report.decision.action == "continue"


def test_what_breaks_a_control_without_a_fault_is_harm_whatever_its_relative_margin():
    found = guardrail(0, 60, margin=0.5).comparison("errors", "treatment")
    assert found.non_inferiority == NO_SHARE
    assert found.harm_p < 0.001


@pytest.mark.parametrize("direction", ["down", "up"])
@pytest.mark.parametrize("margin", [{"margin": 0.2}, {"margin_absolute": 0.8}])
def test_harm_is_the_evidence_that_the_treatment_is_beyond_a_multiple_of_the_control(direction, margin):
    control, treatment = np.random.default_rng(3).normal((4.0, 4.9), 1.0, (3000, 2)).T
    if direction == "up":
        control, treatment = treatment, control - 0.15
    metric = MetricSpec("seconds", direction=direction, role="guardrail", **margin)
    found = evidence({"seconds": {"control": control, "treatment": treatment}}, days=2)
    made = analyze(found, question(metric), after(2)).comparison("seconds", "treatment")
    sign = 1 if direction == "down" else -1
    worst = control + sign * 0.8 if "margin_absolute" in margin else control * (1 + sign * 0.2)
    error = np.sqrt((worst.var(ddof=1) + treatment.var(ddof=1)) / 3000)
    z = sign * (treatment.mean() - worst.mean()) / error
    n, r = 6000, mixture(0.001, TUNING, "greater")
    expected = np.sqrt((n + r) / r) / (2 * np.expm1(n * z * z / (2 * (n + r))))
    assert made.harm_p == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("margin", [{"margin": 0.3}, {"margin_absolute": 0.3}])
def test_of_shadows_harm_is_within_units(margin):
    champion, challenger = np.random.default_rng(4).normal((1.0, 1.4), (1.0, 1.0), (2000, 2)).T
    rows = np.stack([champion, champion + challenger - 1.0], axis=1)
    metric = MetricSpec("seconds", direction="down", role="guardrail", outcome="score", **margin)
    found = evidence({"seconds": {"champion": rows}}, weights={"champion": 1.0})
    made = analyze(found, question(metric, variants=("champion",), shadows=("challenger",)), after(1)).comparisons[0]
    worst = champion + 0.3 if "margin_absolute" in margin else 1.3 * champion
    beyond = rows[:, 1] - worst
    z, n, r = beyond.mean() / beyond.std(ddof=1) * np.sqrt(2000), 4000, mixture(0.001, TUNING, "greater")
    assert made.paired
    assert made.harm_p == pytest.approx(np.sqrt((n + r) / r) / (2 * np.expm1(n * z * z / (2 * (n + r)))), rel=1e-6)


def test_what_is_at_its_margin_is_rarely_called_harm_at_any_of_many_looks():
    random, alarms = np.random.default_rng(5), 0
    for _ in range(150):
        rows = {"control": random.gamma(4.0, 1.0, 2000), "treatment": random.gamma(4.0, 1.2, 2000)}
        metric = MetricSpec("seconds", direction="down", role="guardrail", margin=0.2)
        for looks in range(1, 11):
            seen = {name: each[: 200 * looks] for name, each in rows.items()}
            made = analyze(evidence({"seconds": seen}), question(metric), after(1)).comparisons[0]
            if made.harmful:
                alarms += 1
                break
    assert alarms <= 15  # 7.5 are expected at most


def test_several_guardrails_at_their_margins_are_corrected_together():
    random, alarms, names = np.random.default_rng(6), 0, [f"g{number}" for number in range(5)]
    metrics = [MetricSpec(name, direction="down", role="guardrail", margin=0.2) for name in names]
    analysis = AnalysisSpec(method="fixed", planned_units=4000)
    for _ in range(200):
        rows = {
            name: {"control": random.gamma(4.0, 1.0, 2000), "treatment": random.gamma(4.0, 1.2, 2000)} for name in names
        }
        made = analyze(evidence(rows), question(*metrics, analysis=analysis), after(2))
        alarms += any(each.harmful for each in made.comparisons)
    assert alarms <= 20  # 10 are expected; without a correction 45 are


@pytest.mark.parametrize("kind", ["proportion", "ratio"])
def test_a_shadow_that_always_fails_is_harm_and_one_that_fails_like_the_control_is_not(kind):
    ones, nothing = np.ones(500), np.zeros(500)
    of_each = [[nothing], [ones]] if kind == "proportion" else [[nothing, ones], [ones, ones]]
    metric = MetricSpec("errors", kind=kind, outcome="error", direction="down", role="guardrail")
    made = {}
    for name, columns in {"breaks": of_each[0] + of_each[1], "is alike": of_each[1] + of_each[1]}.items():
        found = evidence({"errors": {"champion": np.stack(columns, axis=1)}}, weights={"champion": 1.0})
        asked = question(metric, variants=("champion",), shadows=("challenger",))
        made[name] = analyze(found, asked, after(1)).comparisons[0]
        assert made[name].paired
    assert (made["breaks"].absolute.effect, made["breaks"].reading, made["breaks"].harmful) == (1.0, "worse", True)
    assert made["breaks"].harm_p < 0.001
    assert (made["is alike"].absolute.effect, made["is alike"].reading) == (0.0, "unclear")
    assert -0.05 < made["is alike"].absolute.interval[0] < 0 < made["is alike"].absolute.interval[1] < 0.05


def test_a_shadow_that_never_fails_as_the_control_never_does_is_equal_as_far_as_can_be_known():
    metric = MetricSpec("errors", kind="proportion", outcome="error", direction="down", role="guardrail")
    found = evidence({"errors": {"champion": np.zeros((500, 2))}}, weights={"champion": 1.0})
    made = analyze(found, question(metric, variants=("champion",), shadows=("challenger",)), after(1)).comparisons[0]
    assert "all of them are zero" in made.absolute.reason
    assert made.acceptable


# ------------------------------------------------------------------------------- what a reviewer had doubts about


@pytest.mark.parametrize(
    ("control", "treatment", "margin", "analysis"),
    [(8, 60, 9.0, {}), (8, 20, 2.0, ONCE), (0, 6, 2.0, ONCE)],
)
def test_a_margin_holds_also_where_the_control_is_too_rare_for_a_quotient(control, treatment, margin, analysis):
    report = guardrail(control, treatment, margin=margin, analysis=analysis)
    found = report.comparison("errors", "treatment")
    assert not isinstance(found.non_inferiority, NonInferiority)
    assert not found.harmful
    assert report.decision.action != "stop"


@pytest.mark.parametrize("share", [1.0, 0.25])
@pytest.mark.parametrize(("rate", "margin", "n"), [(0.001, 2.0, 10_000), (0.002, 4.0, 5_000), (0.001, 9.0, 5_000)])
@pytest.mark.parametrize("kind", ["proportion", "mean"])
def test_what_is_rare_and_at_its_margin_is_rarely_called_harm(kind, rate, margin, n, share):
    """Of counts, too, which are no rates: a control that happens to have none has no variance either."""
    random, alarms = np.random.default_rng(7), 0
    metric = MetricSpec("m", kind=kind, direction="down", role="guardrail", margin=margin)
    asked = question(metric)
    for _ in range(60):
        rows = {
            "control": random.random(n) < rate,
            "treatment": random.random(round(share * n)) < rate * (1 + margin),
        }
        for part in range(1, 11):
            seen = {name: each[: len(each) * part // 10] for name, each in rows.items()}
            made = analyze(evidence({"m": seen}, weights={"control": 0.5, "treatment": 0.5}), asked, after(1))
            (found,) = made.comparisons
            if found.harm_p is not None and found.harm_p < 0.02:
                alarms += 1
                break
    assert alarms <= 5  # 1.2 are expected at most


@pytest.mark.parametrize("correlation", [0.9, 0.98])
def test_harm_knows_how_much_an_adjusted_control_varies(correlation):
    """A margin is a share of the control as it is, whose mean a covariate does not make better known."""
    random, beyond = np.random.default_rng(8), []
    metric = MetricSpec("m", direction="down", role="guardrail", margin=0.5, covariate="before")
    asked = question(metric, analysis=AnalysisSpec(method="fixed", planned_units=2000))
    for _ in range(300):
        rows = {}
        for name, mean in {"control": 1.0, "treatment": 1.5}.items():
            before = random.normal(1.0, 1.0, 1000)
            noise = random.normal(0.0, np.sqrt(1 - correlation**2), 1000)
            rows[name] = np.stack([mean + correlation * (before - 1.0) + noise, before], axis=1)
        beyond.append(analyze(evidence({"m": rows}), asked, after(2)).comparisons[0].excess_p)
    assert 0.02 < np.mean(np.array(beyond) < 0.05) < 0.09
    assert 0.4 < np.mean(np.array(beyond) < 0.5) < 0.6


def test_harm_that_a_planned_look_has_found_stays_found():
    rows = {name: np.zeros(4000) for name in ("control", "treatment")}
    for name, mean in {"control": 1.0, "treatment": 1.5}.items():
        rows[name][:2000] = mean
        rows[name][2000:] = 1.0
        rows[name] += np.random.default_rng(9).normal(0.0, 1.0, 4000)
    metric = MetricSpec("m", direction="down", role="guardrail", margin=0.2)
    plan = AnalysisSpec(method="group_sequential", planned_units=8000, looks=4)
    made = analyze(evidence({"m": rows}, days=4), question(metric, analysis=plan), after(4)).comparisons[0]
    assert (made.reading, made.harmful) == ("worse", True)


def test_no_guardrail_is_left_out_of_the_correction():
    random, alarms = np.random.default_rng(10), 0
    metrics = (
        MetricSpec("a", direction="down", role="guardrail"),
        MetricSpec("b", direction="down", role="guardrail", margin=0.2),
    )
    analysis = AnalysisSpec(method="fixed", planned_units=2000)
    for _ in range(300):
        rows = {
            name: {"control": random.normal(5.0, 1.0, 1000), "treatment": random.normal(5.0 * by, 1.0, 1000)}
            for name, by in {"a": 1.0, "b": 1.2}.items()
        }
        made = analyze(evidence(rows), question(*metrics, analysis=analysis), after(2))
        alarms += any(each.harmful for each in made.comparisons)
    assert alarms <= 24  # 15 are expected at most


def test_variants_that_never_met_are_not_compared_by_what_they_had_in_all():
    random = np.random.default_rng(11)
    found = evidence({"errors": {"control": random.random(900) < 0.001}}, weights={"control": 1.0})
    later = evidence({"errors": {"treatment": random.random(900) < 0.5}}, weights={"treatment": 1.0})
    cells_of_both = found.cells + tuple(replace(each, revision=2) for each in later.cells)
    came = found.arrivals + tuple(replace(each, revision=2) for each in later.arrivals)
    metric = MetricSpec("errors", kind="proportion", direction="down", role="guardrail", margin_absolute=0.01)
    both = replace(found, cells=cells_of_both, arrivals=came)
    (made,) = analyze(both, question(metric), after(1)).comparisons
    assert (made.harm_p, made.excess_p, made.harmful) == (None, None, False)


@pytest.mark.parametrize(("common", "truth", "margin"), [(0.01, 0.012, 0.1), (0.05, 0.055, 0.05)])
def test_a_shadow_that_was_alike_until_now_is_rarely_shown_to_stay_within_a_margin(common, truth, margin):
    """All units being alike says that few are not, and not that the share of those is small beside a rare rate."""
    random, shown, n = np.random.default_rng(12), 0, 2000
    metric = MetricSpec("m", kind="proportion", outcome="error", direction="down", role="guardrail", margin=margin)
    asked = question(metric, variants=("c",), shadows=("s",), analysis=AnalysisSpec(method="fixed", planned_units=n))
    for _ in range(100):
        own = random.random(n) < common
        other = own | (random.random(n) < (truth - common))
        rows = np.stack([own, other], axis=1)
        made = analyze(evidence({"m": {"c": rows}}, weights={"c": 1.0}), asked, after(2)).comparisons[0]
        shown += isinstance(made.non_inferiority, NonInferiority) and made.non_inferiority.shown
    assert shown <= 12  # 5 are expected


def test_shadows_that_are_alike_around_zero_are_not_alike_for_certain():
    own = np.random.default_rng(13).normal(0.0, 1.0, 1000)
    found = evidence({"m": {"c": np.stack([own, own], axis=1)}}, weights={"c": 1.0})
    asked = question(MetricSpec("m", outcome="score"), variants=("c",), shadows=("s",))
    effect = analyze(found, asked, after(1)).comparisons[0].absolute
    assert 0.001 < effect.standard_error < 0.1

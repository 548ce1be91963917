"""What follows from the numbers."""

import itertools

import msgspec
import numpy as np
import pytest

from crossfade.experiments.analysis import analyze
from crossfade.experiments.analysis_spec import AnalysisSpec, Condition, DecisionSpec, Rule
from crossfade.experiments.decision import Findings, decide
from crossfade.experiments.forecast import rate
from crossfade.experiments.report import Arm, Comparison, Health, HealthProblem
from crossfade.ledger.evidence import Arrival, Evidence
from crossfade.ledger.metrics import MetricSpec
from crossfade.methods.stats.non_inferiority import NonInferiority
from crossfade.methods.stats.values import Effect, NotEstimable
from tests.experiments.support import START, after, arrivals, day, evidence, question

EVEN = {"control": 0.5, "treatment": 0.5}
EFFECTS = {"better": 0.1, "worse": -0.1, "unclear": 0.01}


def comparison(
    reading="unclear", *, role="primary", metric="m", treatment="treatment", shown=None, harm=None, harmful=None
):
    effect = EFFECTS.get(reading)
    found = (
        NotEstimable("too few")
        if effect is None
        else Effect("absolute", effect, effect - 0.05, effect + 0.05, 0.01, 0.02, 0.05, "two-sided", 2000)
    )
    margin = None if shown is None else NonInferiority(shown, 0.05, -0.01 if shown else -0.08, 0.01, 0.05)
    return Comparison(
        metric=metric,
        kind="mean",
        role=role,
        direction="up",
        control=Arm("control", 1000, 1.0),
        treatment=Arm(treatment, 1000, 1.0 + (effect or 0.0)),
        paired=False,
        judged="absolute",
        absolute=found,
        relative=NotEstimable("no"),
        p_value=0.01,
        e_value=None,
        adjusted_p=0.01,
        reading=reading,
        variance_reduction=None,
        belief=NotEstimable("no"),
        non_inferiority=margin,
        excess_p=None,
        harmful=role == "guardrail" and reading == "worse" if harmful is None else harmful,
        harm_p=harm,
        left_out=0,
        looks=(),
    )


def guardrail(reading="unclear", *, shown=True, **more):
    return comparison(reading, role="guardrail", metric="g", shown=shown, **more)


def healthy(units=1000, treatments=("treatment",), problems=()):
    names = ("control", *treatments)
    counts = tuple((name, units) for name in names)
    return Health(tuple(problems), counts, counts, tuple((name, float(units)) for name in names), 1.0, 1.0, 0.0)


def decided(*comparisons, now=None, health=None, units=1000, **more):
    treatments = tuple(dict.fromkeys(each.treatment.variant for each in comparisons)) or ("treatment",)
    asked = question("m", "g", variants=("control", *treatments), **more)
    came = tuple(arrivals(dict.fromkeys(("control", *treatments), units), dict.fromkeys(asked.variants, 0.5), days=5))
    health = health or healthy(units, treatments)
    return decide(Findings(asked, comparisons, health, came, now or after(5)))


@pytest.mark.parametrize(
    ("primary", "of_guardrail", "shown", "at_end", "action"),
    [
        ("better", "unclear", True, False, "ship"),
        ("better", "better", True, False, "ship"),
        ("better", "unclear", False, False, "continue"),
        ("better", "unclear", False, True, "review"),
        ("better", "worse", False, False, "review"),
        ("better", "worse", True, False, "review"),
        ("worse", "unclear", True, False, "stop"),
        ("worse", "worse", False, False, "stop"),
        ("unclear", "worse", False, False, "stop"),
        ("unclear", "unclear", True, False, "continue"),
        ("unclear", "unclear", True, True, "keep"),
        ("unclear", "unclear", False, True, "keep"),
        ("unknown", "unknown", False, False, "continue"),
        ("unknown", "unknown", False, True, "review"),
    ],
)
def test_what_follows_from_one_treatment(primary, of_guardrail, shown, at_end, action):
    found = decided(
        comparison(primary), guardrail(of_guardrail, shown=shown), ends_at=after(4.9) if at_end else after(30)
    )
    assert found.action == action
    assert found.reason
    assert bool(found.missing) == (action == "continue")
    if action == "ship":
        assert found.variant == "treatment"


def test_contradicting_primaries_are_for_a_person():
    found = decided(comparison("better"), comparison("worse", metric="g"))
    assert found.action == "review"
    assert "significantly better on `m`" in found.reason
    assert "significantly worse on `g`" in found.reason


def test_the_reason_has_the_numbers():
    found = decided(comparison("better"), guardrail())
    assert "95 % interval +0.05 to +0.15" in found.reason
    assert "within its margin of 5 %" in found.reason


def test_a_guardrail_without_a_margin_must_only_not_be_worse():
    assert decided(comparison("better"), guardrail(shown=None)).action == "ship"
    assert decided(comparison("better"), guardrail("unknown", shown=None)).action == "continue"


@pytest.mark.parametrize("reading", ["better", "worse", "unclear"])
def test_nothing_is_decided_before_the_minimum_runtime(reading):
    found = decided(comparison(reading), guardrail(), now=after(2))
    assert found.action == "continue"
    assert found.missing == "1 day"
    assert found.missing_seconds == 86_400.0


def test_pauses_are_no_runtime():
    found = decided(comparison("better"), guardrail(), now=after(5), paused_seconds=3 * 86_400.0)
    assert (found.action, found.missing) == ("continue", "1 day")
    assert found.reason == "it has run for 2 days, and 3 days without pauses are the least"
    ended = {"ends_at": after(4), "paused_seconds": 2 * 86_400.0}
    assert decided(comparison("better"), guardrail(), now=after(5), **ended).action == "review"
    assert decided(comparison("better"), guardrail(), now=after(5), paused_seconds=86_400.0).action == "ship"


@pytest.mark.parametrize("reading", ["better", "worse", "unclear"])
def test_nothing_is_decided_before_the_minimum_units(reading):
    found = decided(comparison(reading), guardrail(), units=40)
    assert found.action == "continue"
    assert found.missing_units == 120  # of both variants
    assert "about 120 more units" in found.missing
    assert "7 days" in found.missing or "8 days" in found.missing


def test_what_has_not_begun_has_not_run():
    found = decided(comparison("better"), guardrail(), now=after(1), started_at=after(3))
    assert (found.action, found.missing) == ("continue", "3 days")


def test_what_ended_too_early_is_for_a_person():
    assert decided(comparison("better"), guardrail(), now=after(5), ends_at=after(1)).action == "review"
    assert decided(comparison("better"), guardrail(), units=40, ends_at=after(4)).action == "review"


def test_a_guardrail_that_is_clearly_harmed_stops_at_any_time():
    found = decided(comparison("unclear"), guardrail("worse", harm=0.0005), now=after(0.01), units=40)
    assert (found.action, found.variant) == ("stop", "treatment")
    assert "0.0005" in found.reason
    assert decided(comparison(), guardrail("worse", harm=0.002), now=after(0.01)).action == "continue"


def test_only_guardrails_stop_early():
    assert decided(comparison("worse", harm=None), now=after(0.01)).action == "continue"


@pytest.mark.parametrize(
    ("code", "waits", "action"),
    [("sample_ratio", False, "review"), ("stale", True, "continue"), ("incomplete", True, "continue")],
)
def test_data_that_cannot_be_trusted_decide_nothing(code, waits, action):
    for reading, harm in itertools.product(("better", "worse", "unclear"), (None, 1e-9)):
        problem = HealthProblem(code, "the words of it", blocks=True, waits=waits)
        found = decided(comparison(reading), guardrail(harm=harm), health=healthy(problems=[problem]))
        assert found.action == ("review" if harm else action)
        assert found.blocked_by == (code,)
        assert "the words of it" in found.reason
        assert ("Look now" in found.reason) == bool(harm)


@pytest.mark.parametrize("over", [{"ends_at": after(4)}, {"analysis": AnalysisSpec(planned_seconds=86_400.0)}])
def test_what_has_not_passed_by_the_end_is_looked_at(over):
    problem = HealthProblem("stale", "the words of it", blocks=True, waits=True)
    assert decided(comparison("better"), health=healthy(problems=[problem]), **over).action == "review"


def test_a_harmed_guardrail_stops_though_another_metric_is_not_reported_yet():
    harmed = guardrail("worse", harm=1e-9)
    problem = HealthProblem("unreported", "no `m`", blocks=True, waits=True, metric="m")
    assert decided(comparison(), harmed, health=healthy(problems=[problem])).action == "stop"
    for others in ({"metric": harmed.metric}, {}):
        problem = HealthProblem("unreported", "no `g`", blocks=True, waits=True, **others)
        assert decided(comparison(), harmed, health=healthy(problems=[problem])).action == "review"


def test_at_the_end_without_any_number_a_person_looks():
    over = {"ends_at": after(4)}
    assert decided(comparison("unknown"), **over).action == "review"
    assert decided(comparison("unclear"), **over).action == "keep"


def test_problems_that_do_not_block_do_not_block():
    problem = HealthProblem("orphans", "some")
    assert decided(comparison("better"), guardrail(), health=healthy(problems=[problem])).action == "ship"


def both(first, second):
    return (comparison(first, treatment="b"), comparison(second, treatment="c"))


@pytest.mark.parametrize(
    ("first", "second", "at_end", "action", "variant"),
    [
        ("better", "unclear", False, "ship", "b"),
        ("unclear", "better", False, "ship", "c"),
        ("better", "worse", False, "ship", "b"),
        ("worse", "worse", False, "stop", ""),
        ("worse", "unclear", False, "continue", ""),
        ("worse", "unclear", True, "keep", ""),
        ("unclear", "unclear", True, "keep", ""),
    ],
)
def test_of_several_treatments_one_that_is_better_ships(first, second, at_end, action, variant):
    found = decided(*both(first, second), ends_at=after(4.9) if at_end else after(30))
    assert (found.action, found.variant) == (action, variant)


def sized(effect, *, treatment, **more):
    made = comparison("better", treatment=treatment, **more)
    return msgspec.structs.replace(made, absolute=msgspec.structs.replace(made.absolute, effect=effect))


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("method", ["always_valid", "group_sequential", "fixed"])
def test_of_several_that_are_better_the_one_with_the_largest_effect_ships(method, direction):
    sign = 1 if direction == "up" else -1
    made = [sized(sign * effect, treatment=name) for name, effect in (("b", 0.17), ("c", 0.21), ("d", 0.1))]
    made = [msgspec.structs.replace(each, direction=direction) for each in made]
    spec = AnalysisSpec(method=method, planned_units=4000)
    for order in itertools.permutations(made):
        found = decided(*order, analysis=spec)
        assert (found.action, found.variant) == ("ship", "c")
        assert "the largest effect" in found.reason


def test_the_first_primary_metric_by_which_one_is_better_tells_the_best():
    of_b = (comparison("unclear", treatment="b"), sized(0.9, treatment="b", metric="g"))
    of_c = (sized(0.1, treatment="c"), comparison("unclear", treatment="c", metric="g"))
    of_d = (comparison("unknown", treatment="d"), sized(0.8, treatment="d", metric="g"))
    by_metric = [each for pair in zip(of_b, of_c, of_d, strict=True) for each in pair]
    by_metric.sort(key=lambda each: each.metric != "m")
    assert decided(*by_metric).variant == "c"
    assert decided(*(each for each in by_metric if each.treatment.variant != "c")).variant == "b"


def test_of_equal_ones_the_first_ships():
    assert decided(*both("better", "better")).variant == "b"


def test_rules_of_ones_own_come_first_to_last():
    rules = (
        Rule("ship", (Condition("primary", "all", "better"), Condition("guardrail", "none", "worse"))),
        Rule("continue"),
    )
    mine = DecisionSpec(rules=rules)
    assert decided(comparison("better"), guardrail(shown=False), decision=mine).action == "ship"
    assert decided(comparison("worse"), guardrail(), decision=mine).action == "continue"
    assert decided(comparison("worse"), decision=DecisionSpec(rules=())).action == "continue"


def test_all_of_nothing_holds_and_any_of_nothing_does_not():
    mine = DecisionSpec(rules=(Rule("review", (Condition("secondary", "all", "better"),)),))
    assert decided(comparison(), decision=mine).action == "review"
    mine = DecisionSpec(rules=(Rule("review", (Condition("secondary", "any", "better"),)),))
    assert decided(comparison(), decision=mine).action == "continue"


def test_without_treatments_there_is_nothing_to_decide():
    asked = question("m", variants=("control",))
    health = Health((), (("control", 1000),), (("control", 1000),), (("control", 1000.0),), None, None, 0.0)
    assert decide(Findings(asked, (), health, (), after(5))).action == "continue"


# ------------------------------------------------------------------------------------------------------- from raw data


def report(effect=0.0, *, days=6, n=3000, guard=0.0, asked=None, now=None, seed=2, **spec):
    random = np.random.default_rng(seed)
    rows = {
        "revenue": {"control": random.gamma(4.0, 1.0, n), "treatment": random.gamma(4.0, 1.0, n) * (1 + effect)},
        "errors": {"control": random.random(n) < 0.1, "treatment": random.random(n) < 0.1 * (1 + guard)},
    }
    metrics = (
        MetricSpec("revenue"),
        MetricSpec("errors", kind="proportion", role="guardrail", direction="down", margin=0.5),
    )
    asked = asked or question(*metrics, analysis=AnalysisSpec(**spec))
    return analyze(evidence(rows, days=days), asked, now or after(days))


def test_a_better_treatment_ships():
    made = report(0.08)
    assert made.decision.action == "ship"
    assert "+" in made.decision.reason


def test_a_worse_treatment_stops():
    assert report(-0.08).decision.action == "stop"


def test_a_harmful_treatment_stops_at_once():
    made = report(0.0, days=1, guard=1.5)
    assert made.comparison("errors", "treatment").harm_p < 0.001
    assert (made.decision.action, made.decision.variant) == ("stop", "treatment")


def test_an_open_question_says_how_much_longer():
    made = report(0.015, smallest_effect=0.02)
    assert made.decision.action == "continue"
    assert "an effect of 2 %" in made.decision.missing
    assert "80%" in made.decision.missing
    # 4 standard errors and some more, by the always-valid bound
    assert 10_000 < made.decision.missing_units < 60_000
    assert made.decision.missing_seconds == pytest.approx(made.decision.missing_units / 1000 * 86_400)


def several(treatments, n, *, effect=0.0, seed=0, **spec):
    """A control and so many treatments, the first of which may have an effect."""
    random = np.random.default_rng(seed)
    names = tuple(f"t{number}" for number in range(treatments))
    rows = {"c": random.normal(10, 4, n)} | {name: random.normal(10, 4, n) for name in names}
    rows["t0"] = rows["t0"] + effect
    asked = question("y", variants=("c", *names), analysis=AnalysisSpec(smallest_effect=0.05, **spec))
    return analyze(evidence({"y": rows}, days=5), asked, after(5))


def test_all_treatments_share_alpha_in_what_is_said_of_power():
    """The correction counts them all, so each of five takes more units to be seen than one alone."""
    alone, among_five = (
        next(n for n in range(1000, 12_000, 250) if several(count, n).decision.action == "keep") for count in (1, 5)
    )
    assert among_five > 1.2 * alone
    readings = [several(5, among_five, effect=0.5, seed=seed).comparison("y", "t0").reading for seed in range(40)]
    assert 0.6 <= readings.count("better") / 40 <= 0.97
    assert (
        next(n for n in range(1000, 12_000, 250) if several(5, n, correction="none").decision.action == "keep")
        <= alone * 1.1
    )


def test_the_forecast_comes_true():
    """After as many units as were missing, the named effect is seen about as often as the power says."""
    first = report(0.0, smallest_effect=0.06, n=600, seed=5)
    needed = (1200 + first.decision.missing_units) // 2
    seen = sum(
        report(0.06, n=needed, days=12, seed=seed).comparison("revenue", "treatment").looks[-1].running_p <= 0.05
        for seed in range(60)
    )
    assert 0.6 <= seen / 60 <= 0.97


def test_when_the_smallest_effect_would_have_been_seen_the_control_stays():
    made = report(0.0, smallest_effect=0.1)
    assert made.decision.action == "keep"
    assert "would be seen by now" in made.decision.reason


def test_planned_units_that_are_there_end_it():
    assert report(0.0, planned_units=6000).decision.action == "keep"
    assert report(0.0, planned_units=9000).decision.action == "continue"
    made = report(0.0, method="group_sequential", planned_units=9000)
    assert made.decision.missing_units == 3000
    made = report(0.0, method="fixed", planned_seconds=8 * 86_400.0)
    assert made.decision.missing == "2 days"
    assert made.decision.missing_units is None


@pytest.mark.parametrize("method", ["fixed", "group_sequential"])
def test_planned_units_of_a_day_that_is_not_over_wait_for_its_end(method):
    made = report(0.0, method=method, planned_units=6000, now=after(5.5)).decision
    assert made.action == "continue"
    assert made.missing == "the end of the day (UTC), in 12 hours: its units are there, and are looked at then"
    assert (made.missing_units, made.missing_seconds) == (0, 43_200.0)


def test_after_the_one_look_it_does_not_go_on():
    assert report(0.0, method="fixed", planned_units=6000).decision.action == "keep"


@pytest.mark.parametrize(
    ("planned", "how"),
    [
        ({"planned_units": 9000}, "at 6,000 of 9,000 planned units"),
        ({"planned_seconds": 8 * 86_400.0}, "2 days before"),
    ],
)
def test_a_single_look_that_somebody_took_early_is_for_a_person(planned, how):
    """Whoever sees the numbers and stops when they look good has looked more than once."""
    asked = question(MetricSpec("revenue"), analysis=AnalysisSpec(method="fixed", **planned), ends_at=after(6))
    early = report(0.08, asked=msgspec.structs.replace(asked, cut_short=True)).decision
    assert early.action == "review"
    assert how in early.reason
    assert report(0.08, asked=asked).decision.action == "ship", "its schedule was known before any number"
    asked = msgspec.structs.replace(asked, cut_short=True, analysis=AnalysisSpec(method="fixed", planned_units=6000))
    assert report(0.08, asked=asked).decision.action == "ship", "the planned units were there"


def test_what_comes_first_of_two_planned_ends_is_waited_for():
    ends = {"method": "fixed", "planned_units": 9000}
    sooner = report(0.0, planned_seconds=7 * 86_400.0, **ends).decision
    assert (sooner.missing, sooner.missing_units) == ("1 day", None)
    later = report(0.0, planned_seconds=20 * 86_400.0, **ends).decision
    assert (later.missing_units, later.missing_seconds) == (3000, 3 * 86_400.0)


def test_at_the_planned_end_without_a_rule_for_it_a_person_is_missing():
    mine = DecisionSpec(rules=())
    made = decided(comparison(), decision=mine, analysis=AnalysisSpec(method="fixed", planned_units=1000))
    assert (made.action, made.missing_units) == ("continue", None)
    assert "a person who decides" in made.missing


@pytest.mark.parametrize(("hours", "rough"), [(0.5, None), (1, True), (6, True), (30, False), (48, False)])
def test_how_long_it_takes_is_said_from_the_first_hour_on(hours, rough):
    came = [Arrival(1, "control", day(number), 24 * 60, 0.5) for number in range(int(hours // 24))]
    came.append(Arrival(1, "control", day(int(hours // 24)), int(hours % 24 * 60), 0.5))
    found = rate(tuple(came), START, after(hours / 24))
    assert (found and found.rough) == rough
    if found is not None:
        assert found.per_second == pytest.approx(1 / 60)


def test_a_first_day_that_was_no_whole_one_does_not_slow_the_rate_down():
    came = (Arrival(1, "control", day(0), 120, 0.5), Arrival(1, "control", day(1), 120, 0.5))
    assert rate(came, after(22 / 24), after(26 / 24)).per_second == pytest.approx(1 / 60)
    assert rate(came, None, after(26 / 24)).per_second == pytest.approx(120 / 86_400)
    assert rate(came[1:], None, after(26 / 24)) is None


def test_a_rough_rate_is_called_one():
    asked = {"decision": DecisionSpec(minimum_runtime_seconds=0), "started_at": after(4.75)}
    found = decided(comparison(), guardrail(), units=40, **asked)
    assert found.missing_seconds == pytest.approx(120 / (80 / 21_600))
    assert "very roughly 9 hours by the rate since the start" in found.missing


def test_guardrails_that_are_not_shown_yet_have_their_own_forecast():
    random = np.random.default_rng(3)
    n = 1500
    rows = {
        "revenue": {"control": random.gamma(4.0, 1.0, n), "treatment": random.gamma(4.0, 1.0, n) * 1.2},
        "errors": {name: random.random(n) < 0.1 for name in ("control", "treatment")},
    }
    metrics = (MetricSpec("revenue"), MetricSpec("errors", kind="proportion", role="guardrail", margin=0.1))
    made = analyze(evidence(rows, days=5), question(*metrics), after(5)).decision
    assert made.action == "continue"
    assert "`errors` is within its margin" in made.missing
    assert made.missing_units > 1000


def test_decisions_are_json():
    made = report(0.02).decision
    assert msgspec.json.decode(msgspec.json.encode(made), type=type(made)) == made


@pytest.mark.parametrize("days", [0, 1, 3])
def test_nothing_at_all_is_no_reason_to_fail(days):
    asked = question("m", started_at=START if days else None)
    made = analyze(Evidence("late"), asked, after(days))
    assert made.decision.action == "continue"
    assert made.decision.blocked_by == ("no_data",)
    assert made.comparison("m", "treatment").reading == "unknown"


def test_a_treatment_that_fails_every_time_is_stopped_though_nothing_varies():
    views = 1.0 + np.random.default_rng(3).poisson(2, 1800)
    failed = np.where(np.arange(1800) < 892, 0.0, views)
    rows = np.column_stack([failed, views])
    metrics = (MetricSpec("error", kind="ratio", denominator="exposures", direction="down", role="guardrail"),)
    found = {"error": {"control": rows[:892], "treatment": rows[892:]}}
    made = analyze(evidence(found), question(MetricSpec("m"), *metrics), after(1))
    assert (made.decision.action, made.decision.variant) == ("stop", "treatment")
    assert "error" in made.decision.reason

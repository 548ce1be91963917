"""What a report holds beyond the numbers of one comparison."""

import msgspec
import numpy as np
import pytest

from crossfade.errors import InvalidAnalysisError
from crossfade.experiments.analysis import analyze
from crossfade.experiments.analysis_spec import AnalysisSpec
from crossfade.experiments.report import AnalysisReport, Belief
from crossfade.ledger.evidence import OTHER, Cell, Evidence
from crossfade.ledger.metrics import MetricSpec
from crossfade.methods.stats.moments import Moments
from crossfade.methods.stats.values import Effect, NotEstimable
from tests.experiments.support import after, arrivals, cells, day, evidence, question

FIXED = AnalysisSpec(method="fixed", planned_units=10)


@pytest.fixture
def random():
    return np.random.default_rng(11)


def two(random, n=1000, effect=0.0):
    return {"control": random.gamma(4.0, 1.0, n), "treatment": random.gamma(4.0, 1.0, n) + effect}


def joined(*parts, **more):
    """One evidence of several lists of cells, with the arrivals of the first."""
    first = parts[0]
    return Evidence(
        "late",
        tuple(cell for part in parts for cell in getattr(part, "cells", part)),
        first.arrivals,
        last_us=first.last_us,
    )


def test_always_valid_looks_run_together(random):
    (made,) = analyze(evidence({"m": two(random)}, days=10), question("m"), after(10)).comparisons
    assert [look.day for look in made.looks] == [day(number) for number in range(10)]
    assert [look.units for look in made.looks] == [200 * number for number in range(1, 11)]
    for before, now in zip(made.looks, made.looks[1:], strict=False):
        assert now.running_lower == max(before.running_lower, now.lower)
        assert now.running_upper == min(before.running_upper, now.upper)
        assert now.running_p == min(before.running_p, now.p_value)
    last = made.looks[-1]
    assert (last.effect, last.lower, last.upper) == (made.absolute.effect, made.absolute.lower, made.absolute.upper)


def test_the_first_days_have_too_few_units_and_say_so(random):
    (made,) = analyze(evidence({"m": two(random, n=400)}, days=10), question("m"), after(10)).comparisons
    assert "the always-valid interval starts at 100" in made.looks[0].note
    assert [look.effect is None for look in made.looks] == [True] * 2 + [False] * 8


def test_an_effect_that_changes_over_time_is_told(random):
    rows = two(random, n=8000)
    rows["treatment"][:2000] += 3.0
    rows["treatment"][2000:] -= 3.0
    report = analyze(evidence({"m": rows}, days=8), question("m"), after(8))
    last = report.comparisons[0].looks[-1]
    assert "do not meet" in last.note
    assert (last.running_lower, last.running_upper) == (None, None)
    assert last.effect is not None
    assert last.running_p < 1e-6
    assert any("changes over time" in note for note in report.notes)


def test_late_outcomes_change_earlier_looks_and_the_present_one_counts_all(random):
    rows = two(random, n=1000, effect=0.1)
    before = analyze(evidence({"m": rows}, days=5), question("m"), after(5)).comparisons[0]
    late = {"control": rows["control"], "treatment": rows["treatment"].copy()}
    late["treatment"][:200] += 2.0  # of units of the first day
    now = analyze(evidence({"m": late}, days=5), question("m"), after(5)).comparisons[0]
    assert now.looks[0].effect == pytest.approx(before.looks[0].effect + 2.0)
    assert now.absolute.effect == pytest.approx(before.absolute.effect + 0.4)


def test_roles_are_families_of_their_own(random):
    metrics = {f"m{number}": two(random) for number in range(5)} | {"primary": two(random, effect=0.2)}
    roles = [MetricSpec(f"m{number}", role="secondary") for number in range(5)]
    alone = analyze(
        evidence({"primary": metrics["primary"]}), question("primary", analysis=FIXED, ends_at=after(1)), after(1)
    )
    asked = question(*roles, "primary", analysis=FIXED, ends_at=after(1))
    among = analyze(evidence(metrics), asked, after(1))
    assert among.comparison("primary", "treatment").adjusted_p == alone.comparisons[0].adjusted_p
    secondary = [each for each in among.comparisons if each.role == "secondary"]
    assert all(each.adjusted_p > each.p_value for each in secondary)


@pytest.mark.parametrize(
    ("direction", "effect", "reading"),
    [
        ("up", 1.0, "better"),
        ("up", -1.0, "worse"),
        ("down", 1.0, "worse"),
        ("down", -1.0, "better"),
        ("up", 0.0, "unclear"),
    ],
)
def test_readings_follow_the_direction(direction, effect, reading):
    rows = two(np.random.default_rng(3), effect=effect)
    metric = MetricSpec("m", direction=direction)
    made = analyze(evidence({"m": rows}), question(metric, analysis=FIXED, ends_at=after(1)), after(1)).comparisons[0]
    assert made.reading == reading
    assert isinstance(made.belief, Belief)
    if effect:
        assert (made.belief.chance_better > 0.99) == (reading == "better")


def test_the_scale_may_be_chosen_for_each_metric(random):
    metrics = {"a": two(random, effect=0.5), "b": two(random, effect=0.5)}
    report = analyze(evidence(metrics), question("a", "b", analysis=AnalysisSpec(scales={"b": "log"})), after(1))
    assert [each.judged for each in report.comparisons] == ["absolute", "log"]
    a, b = report.comparisons
    assert a.p_value == a.absolute.p_value
    assert b.p_value == b.relative.p_value != b.absolute.p_value
    assert b.relative.scale == "log"
    assert b.looks[-1].effect == b.relative.effect


def test_a_scale_that_there_cannot_be_is_not_estimable_and_not_another_one(random):
    rows = {"control": random.normal(size=500), "treatment": random.normal(size=500)}
    spec = AnalysisSpec(method="fixed", planned_units=10, scales={"m": "log"})
    made = analyze(evidence({"m": rows}), question("m", analysis=spec, ends_at=after(1)), after(1)).comparisons[0]
    assert isinstance(made.relative, NotEstimable)
    assert made.reading == "unknown"
    assert isinstance(made.absolute, Effect)


def test_a_metric_that_nobody_has_measured_says_so(random):
    report = analyze(evidence({"m": two(random)}), question("m", "nothing"), after(1))
    made = report.comparison("nothing", "treatment")
    assert (made.control.value, made.control.units) == (None, 0)
    assert "no units yet" in made.absolute.reason
    with pytest.raises(KeyError):
        report.comparison("nothing", "nobody")


def test_what_nobody_asked_about_is_left_out(random):
    asked = question("m", analysis=FIXED, ends_at=after(1))
    clean = evidence({"m": two(random)})
    noise = [
        *cells("m", {"stranger": [1e9, -1e9]}),
        *cells("other", {"control": [1.0]}),
        *cells("m", {"control": [1e9, 2e9], "treatment": [1.0, 2.0]}, dimension="undeclared", value="x"),
    ]
    report, dirty = (analyze(each, asked, after(1)) for each in (clean, joined(clean, noise)))
    assert dirty.comparisons == report.comparisons
    assert dirty.segments == ()


def segmented(random, values, *, effect_in="", n=600, metric="m"):
    parts, rows = [], {"control": [], "treatment": []}
    for value in values:
        here = two(random, n=n, effect=0.6 if value == effect_in else 0.0)
        parts.append(cells(metric, here, dimension="country", value=value))
        rows = {name: [*rows[name], *here[name]] for name in rows}
    return joined(evidence({metric: rows}), *parts)


def test_segments_are_corrected_for_their_number(random):
    found = segmented(random, ["DE", "FR", "IT", OTHER], effect_in="FR")
    asked = question("m", analysis=FIXED, dimensions=("country",), ends_at=after(1))
    report = analyze(found, asked, after(1))
    assert {each.value for each in report.segments} == {"DE", "FR", "IT", OTHER}
    by_value = {each.value: each for each in report.segments}
    assert by_value["FR"].reading == "better"
    assert {each.reading for value, each in by_value.items() if value != "FR"} == {"unclear"}
    assert all(each.adjusted_p >= each.effect.p_value for each in report.segments)
    assert all(each.control.units == 600 for each in report.segments)


def test_small_segments_are_not_estimable(random):
    found = segmented(random, ["DE"], n=300)
    tiny = cells("m", {"control": [1.0], "treatment": [2.0, 3.0]}, dimension="country", value="VA")
    report = analyze(joined(found, tiny), question("m", dimensions=("country",)), after(1))
    by_value = {each.value: each for each in report.segments}
    assert isinstance(by_value["VA"].effect, NotEstimable)
    assert (by_value["VA"].adjusted_p, by_value["VA"].reading) == (None, "unknown")
    assert isinstance(by_value["DE"].effect, Effect)


def test_segments_before_a_planned_end_wait_with_the_rest(random):
    spec = AnalysisSpec(method="fixed", planned_units=10**6)
    report = analyze(segmented(random, ["DE"]), question("m", analysis=spec, dimensions=("country",)), after(1))
    assert isinstance(report.segments[0].effect, NotEstimable)
    assert report.segments[0].control.units == 600


@pytest.mark.parametrize("count", [3, 8, 64])
def test_many_variants(random, count):
    names = ("control", *(f"v{number}" for number in range(1, count)))
    rows = {name: random.normal(size=150) for name in names}
    rows[names[-1]] = rows[names[-1]] + 2.0
    report = analyze(evidence({"m": rows}), question("m", variants=names), after(1))
    assert len(report.comparisons) == count - 1
    assert dict(report.rankings[0].chances)[names[-1]] > 0.999
    assert sum(chance for _, chance in report.rankings[0].chances) == pytest.approx(1.0)
    assert [each.treatment.variant for each in report.comparisons if each.reading == "better"] == [names[-1]]


def test_a_variant_without_units_leaves_the_ranking_open(random):
    names = ("control", "b", "c")
    rows = {name: random.normal(size=150) for name in names[:2]}
    report = analyze(evidence({"m": rows}), question("m", variants=names), after(1))
    assert report.rankings[0].chances == ()
    assert "`c` has no units yet" in report.rankings[0].reason


def test_two_variants_need_no_ranking(random):
    assert analyze(evidence({"m": two(random)}), question("m"), after(1)).rankings == ()


def test_a_shadow_that_units_also_got_is_compared_on_the_same_units_where_that_can_be(random):
    """A loss depends on the answer alone; whether somebody came back does not."""
    loss = {name: np.stack([each, each * 0.8], axis=1) for name, each in two(random, n=500).items()}
    came_back = {name: random.random(500) < 0.3 for name in loss}
    found = joined(evidence({"loss": loss}), evidence({"back": came_back}))
    metrics = (MetricSpec("loss", loss="log", direction="down"), MetricSpec("back", kind="proportion"))
    report = analyze(found, question(*metrics, shadows=("treatment",)), after(1))
    assert report.comparison("loss", "treatment").paired
    assert report.comparison("loss", "treatment").absolute.effect == pytest.approx(-0.2 * loss["control"][:, 0].mean())
    assert report.comparison("loss", "treatment").treatment.units == 500
    assert not report.comparison("back", "treatment").paired


def test_a_shadow_that_nobody_saw_cannot_have_changed_what_people_did(random):
    found = evidence({"back": {"champion": random.random(500) < 0.3}}, weights={"champion": 1.0})
    metric = MetricSpec("back", kind="proportion")
    made = analyze(found, question(metric, variants=("champion",), shadows=("challenger",)), after(1)).comparisons[0]
    assert "nobody saw" in made.absolute.reason
    assert made.reading == "unknown"


@pytest.mark.parametrize("method", ["always_valid", "group_sequential", "fixed"])
@pytest.mark.parametrize("shadows", [("mid", "best"), ("best", "mid")])
def test_of_several_shadows_the_best_ships_in_whatever_order_they_are(random, method, shadows):
    own = random.gamma(2.0, 1.0, 800)
    values = {"mid": own - 0.17, "best": own - 0.21}
    rows = np.stack([own, *(values[name] + random.normal(0.0, 0.05, 800) for name in shadows)], axis=1)
    found = evidence({"loss": {"champion": rows}}, weights={"champion": 1.0}, days=4)
    metric, spec = MetricSpec("loss", direction="down"), AnalysisSpec(method=method, planned_units=800)
    report = analyze(found, question(metric, variants=("champion",), shadows=shadows, analysis=spec), after(4))
    assert {each.reading for each in report.comparisons} == {"better"}
    assert (report.decision.action, report.decision.variant) == ("ship", "best")
    assert report.rankings[0].chances == ()
    assert "the same requests" in report.rankings[0].reason


def test_a_ranking_leaves_out_shadows_and_ranks_the_others(random):
    rows = {name: np.stack([random.normal(size=200) for _ in range(2)], axis=1) for name in ("control", "b", "c")}
    asked = question("m", variants=("control", "b", "c"), shadows=("s",))
    report = analyze(evidence({"m": rows}), asked, after(1))
    assert [name for name, _ in report.rankings[0].chances] == ["control", "b", "c"]


def test_quantiles_of_shadows_say_what_can_be_compared_instead(random):
    rows = {"score": {"champion": random.gamma(2.0, 0.1, 600)}}
    found = evidence(rows, weights={"champion": 1.0}, cut={"score": 0.4})
    metric = MetricSpec("score", kind="quantile", level=0.9, direction="down")
    made = analyze(found, question(metric, variants=("champion",), shadows=("challenger",)), after(1)).comparisons[0]
    assert "a `mean` or a `ratio` of the same values is compared" in made.absolute.reason
    assert made.control.value is not None
    of_people = MetricSpec("score", kind="quantile", outcome="minutes", level=0.9)
    made = analyze(found, question(of_people, variants=("champion",), shadows=("challenger",)), after(1)).comparisons[0]
    assert "nobody saw" in made.absolute.reason


@pytest.mark.parametrize(
    "metric",
    [
        MetricSpec("latency_seconds", direction="down"),
        MetricSpec("latency_seconds", direction="down", covariate="spent"),
        MetricSpec("latency_seconds", kind="ratio", direction="down", role="guardrail", margin=0.1),
        MetricSpec("latency_seconds", kind="quantile", level=0.5, direction="down"),
        MetricSpec("bought", kind="ratio", denominator="latency_seconds"),
    ],
    ids=lambda metric: f"{metric.name} {metric.kind}",
)
def test_the_latency_of_a_shadow_is_no_number_and_that_of_who_answers_is_one(random, metric):
    """A copy is answered alone, after the answer: here in half of the time, and by the same version."""
    own = {name: random.gamma(2.0, 0.1, 600) for name in ("control", "b")}
    found = {name: np.stack([each] * 5 + [each / 2] * 2, axis=1) for name, each in own.items()}
    quantile = metric.kind == "quantile"
    gathered = evidence({metric.name: own if quantile else found}, cut={metric.name: 0.2} if quantile else None)
    report = analyze(gathered, question(metric, variants=("control", "b"), shadows=("s",)), after(1))
    shadow, seen = report.comparison(metric.name, "s"), report.comparison(metric.name, "b")
    assert "compare latency in a split" in shadow.absolute.reason
    assert (shadow.treatment.value, shadow.p_value, shadow.e_value, shadow.harm_p) == (None,) * 4
    assert (shadow.reading, shadow.paired, shadow.variance_reduction) == ("unknown", False, None)
    assert isinstance(shadow.relative, NotEstimable)
    assert isinstance(shadow.belief, NotEstimable)
    assert not any(look.effect for look in shadow.looks)
    assert isinstance(seen.absolute, Effect)


def test_shadow_experiments_may_decide(random):
    own = random.gamma(4.0, 1.0, 600)
    rows = {"loss": {"champion": np.stack([own, own * 0.9 + random.normal(0, 0.1, 600)], axis=1)}}
    metric = MetricSpec("loss", loss="squared", direction="down")
    asked = question(metric, variants=("champion", "challenger"), shadows=("challenger",))
    made = analyze(evidence(rows, days=5, weights={"champion": 1.0}), asked, after(5))
    assert (made.decision.action, made.decision.variant) == ("ship", "challenger")


def test_effects_that_are_not_the_difference_of_the_values_are_told(random):
    before = {name: random.normal(shift, 1.0, 300) for name, shift in (("control", 0.0), ("treatment", 0.3))}
    rows = {name: np.stack([each + random.normal(0.0, 0.1, 300), each], axis=1) for name, each in before.items()}
    found = evidence({"m": rows, "plain": {name: each[:, 0] for name, each in rows.items()}})
    report = analyze(found, question(MetricSpec("m", covariate="before"), "plain"), after(1))
    made = report.comparison("m", "treatment")
    assert abs(made.absolute.effect - (made.treatment.value - made.control.value)) > 0.1
    (note,) = (note for note in report.notes if "CUPED" in note)
    assert note.startswith("Effects on `m` are adjusted")
    assert note in report.to_markdown()
    assert not any("CUPED" in note for note in analyze(found, question("plain"), after(1)).notes)


def test_adaptive_weights_are_told(random):
    report = analyze(evidence({"m": two(random)}), question("m", adaptive=True), after(1))
    assert any("biased" in note for note in report.notes)


def test_quantiles_before_it_is_known_how_values_resemble_each_other(random):
    """A cut of None: there were too few values to choose one, so all units have none below it."""
    rows = {name: random.lognormal(size=(200, 3)) for name in ("control", "treatment")}
    found = cells("q", rows, cut=0.0)
    made = analyze(
        Evidence("late", tuple(found), tuple(arrivals({"control": 200, "treatment": 200}, dict.fromkeys(rows, 0.5)))),
        question(MetricSpec("q", kind="quantile", level=0.5)),
        after(1),
    ).comparisons[0]
    assert "resemble" in made.absolute.reason
    assert made.control.value == pytest.approx(np.median(rows["control"]), rel=0.05)


def test_a_quantile_without_values_is_not_estimable():
    cell = Cell(1, "control", day(0), "", "", "q", Moments.of([[0.0, 0.0]] * 3), None, 1.0)
    found = Evidence("late", (cell,), tuple(arrivals({"control": 3}, {"control": 1.0})))
    made = analyze(found, question(MetricSpec("q", kind="quantile", level=0.5)), after(1)).comparisons[0]
    assert isinstance(made.absolute, NotEstimable)
    assert made.control.value is None


@pytest.mark.parametrize(
    "rows",
    [
        {"control": [0.0] * 200, "treatment": [0.0] * 200},
        {"control": [1e150] * 100 + [-1e150] * 100, "treatment": [1e150] * 200},
        {"control": [1e-300] * 100 + [0.0] * 100, "treatment": [0.0] * 200},
        {"control": [5.0] * 200, "treatment": [5.0] * 199 + [6.0]},
        {"control": [1.0], "treatment": [1.0]},
    ],
)
@pytest.mark.parametrize("kind", ["mean", "proportion", "count"])
@pytest.mark.parametrize("method", ["always_valid", "group_sequential", "fixed"])
def test_odd_numbers_give_a_report_that_is_json(rows, kind, method):
    if kind == "proportion":
        rows = {name: [float(each > 1) for each in values] for name, values in rows.items()}
    spec = AnalysisSpec(method=method, planned_units=100)
    metrics = (MetricSpec("m", kind=kind), MetricSpec("g", kind=kind, role="guardrail", margin=0.1))
    found = evidence({"m": rows, "g": rows}, days=2)
    report = analyze(found, question(*metrics, analysis=spec), after(2))
    assert msgspec.json.decode(msgspec.json.encode(report), type=AnalysisReport) == report
    assert report.to_markdown()
    assert report._repr_html_()


def test_a_certain_effect_stays_finite():
    rows = {"control": [0.0, 1e-6] * 2000, "treatment": [1.0, 1.000001] * 2000}
    report = analyze(evidence({"m": rows}), question("m"), after(1))
    made = report.comparisons[0]
    assert made.e_value == pytest.approx(1e300)
    assert made.p_value < 1e-300
    assert b"null" not in msgspec.json.encode(made.absolute)


def test_questions_are_checked():
    with pytest.raises(InvalidAnalysisError):
        analyze(Evidence("late"), question("m", "m"), after(1))


def test_the_same_evidence_gives_the_same_report(random):
    found, asked = evidence({"m": two(random)}, days=3), question("m")
    assert analyze(found, asked, after(3)) == analyze(found, asked, after(3))


@pytest.mark.parametrize("control", [5e-324, 1e-200, 1e30])
@pytest.mark.parametrize("treatment", [0.0, 5e-324, 1e-200, 1.0, 1e30])
@pytest.mark.parametrize("spread", [0.0, 1e-210, 1e-170, 1e-3])
def test_whatever_size_outcomes_have_the_report_is_numbers_or_reasons(control, treatment, spread):
    wave = 1 + spread * np.arange(-250, 250)
    rows = {"control": control * wave, "treatment": treatment * wave}
    metrics = (MetricSpec("m"), MetricSpec("g", role="guardrail", margin=0.1))
    found = analyze(evidence({"m": rows, "g": rows}), question(*metrics), after(1))
    assert b"NaN" not in msgspec.json.encode(found)
    assert found._repr_html_()


def test_requests_that_are_drawn_one_by_one_are_no_people(random):
    found = evidence({"m": two(random)})
    noted = [analyze(found, question("m", sticky=sticky), after(1)).notes for sticky in (True, False)]
    assert [any("Every request is a unit" in note for note in notes) for notes in noted] == [False, True]

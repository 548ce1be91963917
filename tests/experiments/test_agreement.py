"""From raw data through evidence to the report, against scipy, statsmodels and the formulas on the raw data."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportions_ztest
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from crossfade.experiments.analysis import analyze
from crossfade.experiments.analysis_spec import AnalysisSpec
from crossfade.ledger.evidence import Evidence
from crossfade.ledger.metrics import MetricSpec
from crossfade.methods.stats.values import Effect, NotEstimable
from tests.experiments.support import after, arrivals, cells, evidence, question

FIXED = AnalysisSpec(method="fixed", planned_seconds=864_000.0)


def compare(metric, rows, *, analysis=FIXED, days=3, **more):
    """The comparison of `treatment` with `control` from rows of units."""
    asked = question(metric, variants=tuple(rows), analysis=analysis, ends_at=after(days))
    found = evidence({metric.name: rows}, days=days, **more)
    return analyze(found, asked, after(days)).comparison(metric.name, "treatment")


@pytest.fixture
def random():
    return np.random.default_rng(7)


def test_means_are_welchs(random):
    rows = {"control": random.gamma(2.0, 3.0, 400), "treatment": random.gamma(2.0, 3.4, 300)}
    found = compare(MetricSpec("revenue"), rows).absolute
    expected = stats.ttest_ind(rows["treatment"], rows["control"], equal_var=False)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    interval = expected.confidence_interval(0.95)
    assert (found.lower, found.upper) == pytest.approx((interval.low, interval.high), rel=1e-9)
    means = CompareMeans(DescrStatsW(rows["treatment"]), DescrStatsW(rows["control"]))
    assert (found.lower, found.upper) == pytest.approx(means.tconfint_diff(usevar="unequal"), rel=1e-9)
    assert found.effect == pytest.approx(rows["treatment"].mean() - rows["control"].mean())


def test_counts_are_means_of_counts(random):
    rows = {"control": random.poisson(3.0, 500), "treatment": random.poisson(3.3, 500)}
    found = compare(MetricSpec("visits", kind="count"), rows).absolute
    assert found.p_value == pytest.approx(
        stats.ttest_ind(rows["treatment"], rows["control"], equal_var=False).pvalue, rel=1e-9
    )


def test_proportions_are_the_pooled_test_and_newcombes_interval(random):
    rows = {"control": random.random(3000) < 0.10, "treatment": random.random(2500) < 0.13}
    found = compare(MetricSpec("conversion", kind="proportion"), rows).absolute
    did = [int(rows[name].sum()) for name in ("treatment", "control")]
    of = [2500, 3000]
    assert found.p_value == pytest.approx(proportions_ztest(did, of)[1], rel=1e-9)
    interval = confint_proportions_2indep(did[0], of[0], did[1], of[1], method="newcomb")
    assert (found.lower, found.upper) == pytest.approx(interval, rel=1e-9)


@pytest.mark.parametrize(("did", "of"), [((1, 6), (40, 38)), ((0, 5), (60, 60)), ((12, 3), (300, 250))])
def test_few_proportions_are_exact(did, of):
    names = ("control", "treatment")
    rows = {name: np.repeat([1.0, 0.0], [yes, n - yes]) for name, yes, n in zip(names, did, of, strict=True)}
    found = compare(MetricSpec("conversion", kind="proportion"), rows, days=2).absolute
    table = [[did[1], did[0]], [of[1] - did[1], of[0] - did[0]]]
    assert found.p_value == pytest.approx(stats.barnard_exact(table, pooled=True, n=256).pvalue, rel=1e-3)


def test_ratios_are_by_the_delta_method(random):
    rows = {}
    for name, rate in (("control", 0.2), ("treatment", 0.22)):
        views = 1 + random.poisson(4, 800)
        rows[name] = np.stack([random.binomial(views, rate), views], axis=1)
    found = compare(MetricSpec("clicks", kind="ratio"), rows)
    ratio, variance = {}, {}
    for name, each in rows.items():
        ratio[name] = each[:, 0].sum() / each[:, 1].sum()
        residual = (each[:, 0] - ratio[name] * each[:, 1]) / each[:, 1].mean()
        variance[name] = residual.var(ddof=1) / len(each)
    assert found.absolute.effect == pytest.approx(ratio["treatment"] - ratio["control"])
    assert found.absolute.standard_error == pytest.approx(math.sqrt(sum(variance.values())), rel=1e-9)
    assert found.control.value == pytest.approx(ratio["control"])


def test_cuped_is_the_regression_on_treatment_and_covariate(random):
    import statsmodels.api as sm

    before = {name: random.gamma(3.0, 1.0, n) for name, n in (("control", 500), ("treatment", 700))}
    rows = {
        name: np.stack([0.9 * each + random.normal(size=len(each)) + 0.1 * (name == "treatment"), each], axis=1)
        for name, each in before.items()
    }
    found = compare(MetricSpec("revenue", covariate="before"), rows)
    stacked = np.concatenate([rows["control"], rows["treatment"]])
    treated = np.repeat([0.0, 1.0], [500, 700])
    fitted = sm.OLS(stacked[:, 0], sm.add_constant(np.stack([treated, stacked[:, 1]], axis=1))).fit(cov_type="HC2")
    assert found.absolute.effect == pytest.approx(fitted.params[1], rel=1e-9)
    assert found.absolute.standard_error == pytest.approx(fitted.bse[1], rel=0.01)
    correlation = np.corrcoef(rows["treatment"].T)[0, 1]
    assert found.variance_reduction == pytest.approx(correlation**2, abs=0.1)


def test_relative_effects_are_logarithms_of_ratios(random):
    rows = {"control": random.gamma(4.0, 1.0, 2000), "treatment": random.gamma(4.2, 1.0, 2000)}
    found = compare(MetricSpec("revenue"), rows).relative
    mean = {name: each.mean() for name, each in rows.items()}
    parts = [each.var(ddof=1) / len(each) / mean[name] ** 2 for name, each in rows.items()]
    assert found.scale == "log"
    assert found.effect == pytest.approx(mean["treatment"] / mean["control"] - 1)
    assert found.standard_error == pytest.approx(math.sqrt(sum(parts)), rel=1e-9)


def test_a_negative_control_is_compared_by_the_delta_method(random):
    rows = {"control": random.normal(-5.0, 1.0, 400), "treatment": random.normal(-4.5, 1.0, 400)}
    found = compare(MetricSpec("profit"), rows).relative
    c, t = rows["control"].mean(), rows["treatment"].mean()
    assert found.scale == "relative"
    assert found.effect == pytest.approx((t - c) / abs(c))
    variance = rows["treatment"].var(ddof=1) / 400 / c**2 + rows["control"].var(ddof=1) / 400 * t**2 / c**4
    assert found.standard_error == pytest.approx(math.sqrt(variance), rel=1e-9)


def test_always_valid_intervals_are_the_formula_on_the_raw_data(random):
    rows = {"control": random.gamma(2.0, 3.0, 900), "treatment": random.gamma(2.0, 3.3, 900)}
    found = compare(MetricSpec("revenue"), rows, analysis=AnalysisSpec())
    n, alpha = 1800, 0.05
    r = 5000 / (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha)))
    error = math.sqrt(sum(each.var(ddof=1) / len(each) for each in rows.values()))
    half = error * math.sqrt((n + r) / n * math.log((n + r) / (r * alpha**2)))
    difference = rows["treatment"].mean() - rows["control"].mean()
    assert (found.absolute.lower, found.absolute.upper) == pytest.approx((difference - half, difference + half))
    e = math.sqrt(r / (n + r)) * math.exp(n * (difference / error) ** 2 / (2 * (n + r)))
    assert found.e_value == pytest.approx(e, rel=1e-9)
    assert found.p_value == pytest.approx(min(1.0, 1 / e), rel=1e-9)


def test_planned_looks_have_the_published_bounds(random):
    rows = {"control": random.normal(size=5000), "treatment": random.normal(size=5000)}
    spec = AnalysisSpec(method="group_sequential", planned_units=10_000, looks=5)
    found = compare(MetricSpec("revenue"), rows, analysis=spec, days=5)
    bounds = []
    for look in found.looks:
        n = look.units // 2
        parts = [rows[name][:n].var(ddof=1) / n for name in rows]
        bounds.append((look.upper - look.effect) / math.sqrt(sum(parts)))
    # O'Brien-Fleming type spending; wider by a little for the variance being estimated
    assert bounds[1:] == pytest.approx([3.3570, 2.6803, 2.2898, 2.0310], rel=2e-3)


def test_quantiles_are_those_of_the_values(random):
    rows = {name: random.lognormal(shift, 0.5, 4000) for name, shift in (("control", 0.0), ("treatment", 0.05))}
    found = compare(MetricSpec("latency", kind="quantile", level=0.9), rows, cut={"latency": 1.9})
    expected = {name: np.quantile(each, 0.9) for name, each in rows.items()}
    assert found.treatment.value == pytest.approx(expected["treatment"], rel=0.005)
    assert found.absolute.effect == pytest.approx(expected["treatment"] - expected["control"], abs=0.02)
    again = [random.choice(rows["control"], 4000) for _ in range(400)]
    spread = np.std([np.quantile(each, 0.9) for each in again])
    assert found.absolute.standard_error == pytest.approx(math.sqrt(2) * spread, rel=0.25)


def test_values_of_one_unit_that_resemble_each_other_widen_the_interval_of_a_quantile(random):
    rows = {}
    for name in ("control", "treatment"):
        of_unit = random.normal(0.0, 0.5, (800, 1))
        rows[name] = np.exp(of_unit + random.normal(0.0, 0.1, (800, 10)))
    found = compare(MetricSpec("latency", kind="quantile", level=0.5), rows, cut={"latency": 1.0})
    flat = compare(
        MetricSpec("latency", kind="quantile", level=0.5),
        {name: each.ravel() for name, each in rows.items()},
        cut={"latency": 1.0},
    )
    again = []
    for _ in range(300):
        chosen = random.integers(0, 800, 800)
        again.append(np.median(rows["control"][chosen]))
    assert found.absolute.standard_error == pytest.approx(math.sqrt(2) * np.std(again), rel=0.2)
    assert found.absolute.standard_error > 2.5 * flat.absolute.standard_error


def test_a_cut_that_is_not_at_the_quantile_does_not_change_how_much_units_resemble_each_other(random):
    rows = {name: np.exp(random.normal(0.0, 0.5, (2000, 1)) + np.zeros((1, 6))) for name in ("control", "treatment")}
    found = [
        compare(MetricSpec("latency", kind="quantile", level=0.9), rows, cut={"latency": cut})
        for cut in (1.6, 1.9, 2.2)
    ]
    errors = [each.absolute.standard_error for each in found]
    assert max(errors) / min(errors) < 1.05  # six equal values of each unit, whatever the cut


def paired_rows(random, n=300):
    own = random.gamma(4.0, 1.0, n)
    return np.stack([own, own * 0.9 + random.normal(0.0, 0.3, n)], axis=1)


def test_shadows_are_paired(random):
    rows = paired_rows(random)
    found = evidence({"loss": {"champion": rows}}, days=3, weights={"champion": 1.0})
    asked = question(
        MetricSpec("loss", loss="squared"),
        variants=("champion",),
        shadows=("challenger",),
        analysis=FIXED,
        ends_at=after(3),
    )
    made = analyze(found, asked, after(3)).comparison("loss", "challenger")
    expected = stats.ttest_rel(rows[:, 1], rows[:, 0])
    assert made.paired
    assert made.absolute.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    interval = expected.confidence_interval(0.95)
    assert (made.absolute.lower, made.absolute.upper) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert made.relative.effect == pytest.approx(rows[:, 1].mean() / rows[:, 0].mean() - 1)
    alone = stats.ttest_ind(rows[:, 1], rows[:, 0], equal_var=False)
    assert made.absolute.p_value < alone.pvalue


@pytest.mark.parametrize(("scale", "sign"), [("relative", 1.0), ("relative", -1.0), ("log", 1.0)])
def test_relative_effects_of_shadows_are_as_certain_as_resampling_says(random, scale, sign):
    rows = sign * paired_rows(random)
    asked = question(
        MetricSpec("loss"),
        variants=("champion",),
        shadows=("challenger",),
        analysis=AnalysisSpec(method="fixed", planned_units=100, scales={"loss": scale}),
        ends_at=after(1),
    )
    found = evidence({"loss": {"champion": rows}}, weights={"champion": 1.0})
    made = analyze(found, asked, after(1)).comparison("loss", "challenger").relative
    again = []
    for _ in range(500):
        own, other = rows[random.integers(0, len(rows), len(rows))].mean(axis=0)
        again.append(math.log(other / own) if scale == "log" else (other - own) / abs(own))
    assert made.standard_error == pytest.approx(np.std(again), rel=0.15)
    own, other = rows.mean(axis=0)
    assert made.effect == pytest.approx((other - own) / abs(own))


def test_ratios_of_shadows_have_their_own_denominators(random):
    views = 1 + random.poisson(4, 500)
    own, other = random.binomial(views, 0.3), random.binomial(views, 0.35)
    found = evidence({"misses": {"champion": np.stack([own, views, other, views], axis=1)}}, weights={"champion": 1.0})
    asked = question(
        MetricSpec("misses", kind="ratio"),
        variants=("champion",),
        shadows=("challenger",),
        analysis=FIXED,
        ends_at=after(1),
    )
    made = analyze(found, asked, after(1)).comparison("misses", "challenger")
    residual = (other - own - (other.sum() - own.sum()) / views.sum() * views) / views.mean()
    assert made.absolute.effect == pytest.approx((other.sum() - own.sum()) / views.sum())
    assert made.absolute.standard_error == pytest.approx(residual.std(ddof=1) / math.sqrt(500), rel=1e-9)


def test_a_constant_difference_to_a_shadow_is_not_infinitely_certain(random):
    own = random.gamma(4.0, 1.0, 100)
    found = evidence({"loss": {"champion": np.stack([own, own + 1], axis=1)}}, weights={"champion": 1.0})
    asked = question(
        MetricSpec("loss"), variants=("champion",), shadows=("challenger",), analysis=FIXED, ends_at=after(1)
    )
    made = analyze(found, asked, after(1)).comparison("loss", "challenger")
    # rounding leaves a difference that hardly varies, which must not count as how much it varies
    assert made.absolute.effect == pytest.approx(1.0)
    whole = ((own.mean() + 1) ** 2 + own.var(ddof=1)) / (own.mean() + 1)
    assert made.absolute.standard_error == pytest.approx(2 * whole / 100)
    same = evidence({"loss": {"champion": np.stack([own, own], axis=1)}}, weights={"champion": 1.0})
    alike = analyze(same, asked, after(1)).comparisons[0].absolute
    assert alike.effect == 0.0
    assert alike.standard_error == pytest.approx(2 * (own.mean() ** 2 + own.var(ddof=1)) / own.mean() / 100)


def revisions(random, weights=((0.9, 0.1), (0.5, 0.5)), effect=0.0, per_day=2000):
    """Two days whose weights and means differ: rows by day and variant."""
    return [
        {
            "control": random.normal(10.0 * number, 1.0, round(per_day * split[0])),
            "treatment": random.normal(10.0 * number + effect, 1.0, round(per_day * split[1])),
        }
        for number, split in enumerate(weights)
    ], weights


def stratified(days, weights, metric="revenue"):
    found, came = [], []
    for number, (rows, split) in enumerate(zip(days, weights, strict=True)):
        found += cells(metric, rows, revision=number + 1, first_day=number)
        counts = {name: len(each) for name, each in rows.items()}
        shares = dict(zip(rows, split, strict=True))
        came += arrivals(counts, shares, revision=number + 1, first_day=number)
    return Evidence("late", tuple(found), tuple(came))


def test_changed_weights_are_no_effect():
    """Simpson: the second day is better for all, and has more of the treatment; pooled, that looks like an effect."""
    days, weights = revisions(np.random.default_rng(8))
    report = analyze(stratified(days, weights), question("revenue", analysis=FIXED, ends_at=after(2)), after(2))
    (made,) = report.comparisons
    naive = made.treatment.value - made.control.value
    assert naive > 3.0
    assert abs(made.absolute.effect) < 0.2
    assert made.reading == "unclear"
    assert any("weights of the variants changed" in note for note in report.notes)


def test_periods_are_weighted_by_their_units(random):
    days, weights = revisions(random, weights=((0.9, 0.1), (0.5, 0.5), (0.3, 0.7)), effect=0.5)
    asked = question("revenue", analysis=FIXED, ends_at=after(3))
    made = analyze(stratified(days, weights), asked, after(3)).comparisons[0].absolute
    sizes = np.array([sum(map(len, day.values())) for day in days])
    differences = np.array([day["treatment"].mean() - day["control"].mean() for day in days])
    variances = np.array([sum(each.var(ddof=1) / len(each) for each in day.values()) for day in days])
    shares = sizes / sizes.sum()
    assert made.effect == pytest.approx(shares @ differences, rel=1e-9)
    plain = math.sqrt(shares**2 @ variances)
    assert plain * (1 - 1e-9) <= made.standard_error <= 1.03 * plain  # no period varies less than usual


def test_a_canary_whose_first_units_all_did_the_same_is_not_certain_of_it():
    none_of_few = {"control": np.repeat([1.0, 0.0], [20, 980]), "treatment": np.zeros(10)}
    later = {"control": np.repeat([1.0, 0.0], [10, 490]), "treatment": np.repeat([1.0, 0.0], [10, 490])}
    found = stratified([none_of_few, later], ((0.99, 0.01), (0.5, 0.5)))
    made = analyze(found, question("revenue", analysis=FIXED, ends_at=after(2)), after(2)).comparisons[0]
    assert made.absolute.effect == pytest.approx(-0.01, abs=1e-3)
    rate, share = 0.02, 1010 / 2010
    assert made.absolute.standard_error == pytest.approx(
        math.sqrt(rate * 0.98 * (share**2 * (1 / 10 + 1 / 1000) + (1 - share) ** 2 * 2 / 500)), rel=0.05
    )
    assert made.reading == "unclear"


@pytest.mark.parametrize("method", ["always_valid", "group_sequential"])
def test_a_small_variant_that_varies_less_by_chance_is_not_more_certain(method):
    rows = {"control": np.repeat([1.0, 0.0], [18, 1782]), "treatment": np.zeros(200)}
    spec = AnalysisSpec(method=method, planned_units=2000, looks=1)
    found = evidence({"m": rows}, weights={"control": 0.9, "treatment": 0.1})
    made = analyze(found, question("m", analysis=spec), after(1)).comparisons[0].absolute
    pooled = sum(each.var(ddof=1) * len(each) for each in rows.values()) / 2000
    assert made.standard_error == pytest.approx(math.sqrt(pooled * (1 / 1800 + 1 / 200)), rel=1e-9)
    assert made.p_value > 0.1
    welch = stats.ttest_ind(rows["treatment"], rows["control"], equal_var=False)
    assert welch.pvalue < 1e-4  # what looking early would have believed


def test_revisions_of_the_same_weights_are_one_period(random):
    days, weights = revisions(random, weights=((0.5, 0.5), (0.25, 0.25)), effect=0.5)
    asked = question("revenue", analysis=FIXED, ends_at=after(2))
    made = analyze(stratified(days, weights), asked, after(2)).comparisons[0].absolute
    rows = {name: np.concatenate([day[name] for day in days]) for name in ("control", "treatment")}
    expected = stats.ttest_ind(rows["treatment"], rows["control"], equal_var=False)
    assert made.p_value == pytest.approx(expected.pvalue, rel=1e-9)


def test_one_unit_that_is_left_out_is_one(random):
    days, weights = revisions(random, weights=((1.0, 0.0), (0.5, 0.5)))
    days[0]["control"] = days[0]["control"][:1]
    report = analyze(stratified(days, weights), question("revenue", analysis=FIXED, ends_at=after(2)), after(2))
    assert any(note.startswith("One unit is in no comparison") for note in report.notes)


def test_periods_without_one_of_the_variants_are_left_out_and_said(random):
    days, weights = revisions(random, weights=((1.0, 0.0), (0.5, 0.5)))
    asked = question("revenue", analysis=FIXED, ends_at=after(2))
    report = analyze(stratified(days, weights), asked, after(2))
    (made,) = report.comparisons
    assert made.left_out == 2000
    assert any("2,000 units are in no comparison" in note for note in report.notes)
    expected = stats.ttest_ind(days[1]["treatment"], days[1]["control"], equal_var=False)
    assert made.absolute.p_value == pytest.approx(expected.pvalue, rel=1e-9)


def test_quantiles_are_averaged_over_periods(random):
    weights, days = ((0.8, 0.2), (0.5, 0.5)), []
    for number, split in enumerate(weights):
        names = ("control", "treatment")
        days.append(
            {name: random.lognormal(number, 0.3, round(3000 * share)) for name, share in zip(names, split, strict=True)}
        )
    found, came = [], []
    for number, rows in enumerate(days):
        found += cells("latency", rows, revision=number + 1, first_day=number, cut=2.0)
        shares = dict(zip(rows, weights[number], strict=True))
        came += arrivals(
            {name: len(each) for name, each in rows.items()}, shares, revision=number + 1, first_day=number
        )
    metric = MetricSpec("latency", kind="quantile", level=0.5, direction="down")
    asked = question(metric, analysis=FIXED, ends_at=after(2))
    made = analyze(Evidence("late", tuple(found), tuple(came)), asked, after(2)).comparisons[0]
    medians = [np.median(day["treatment"]) - np.median(day["control"]) for day in days]
    assert made.absolute.effect == pytest.approx(np.mean(medians), abs=0.02)
    assert made.reading == "unclear"
    assert made.treatment.value - made.control.value > 0.3  # pooled medians differ, because the mixtures do


@pytest.mark.parametrize(("correction", "name"), [("holm", "holm"), ("bh", "fdr_bh"), ("none", None)])
def test_corrections_are_those_of_statsmodels(random, correction, name):
    metrics = {
        f"m{number}": {"control": random.normal(size=200), "treatment": random.normal(0.06 * number, 1.0, 200)}
        for number in range(6)
    }
    spec = AnalysisSpec(method="fixed", planned_units=100, correction=correction)
    asked = question(*metrics, analysis=spec, ends_at=after(1))
    made = analyze(evidence(metrics), asked, after(1)).comparisons
    raw = [each.p_value for each in made]
    expected = raw if name is None else multipletests(raw, 0.05, name)[1]
    assert [each.adjusted_p for each in made] == pytest.approx(list(expected))
    assert [each.reading != "unclear" for each in made] == [bool(p <= 0.05) for p in expected]


def test_corrected_evidence_is_e_bh(random):
    from crossfade.methods.stats.multiplicity import e_benjamini_hochberg

    metrics = {
        f"m{number}": {"control": random.normal(size=600), "treatment": random.normal(0.07 * number, 1.0, 600)}
        for number in range(8)
    }
    made = analyze(evidence(metrics, days=4), question(*metrics), after(4)).comparisons
    rejected = e_benjamini_hochberg([math.log(each.e_value) for each in made], 0.05)
    assert 0 < rejected.sum() < len(made)
    assert [each.reading != "unclear" for each in made] == list(rejected)


def test_sample_ratio_is_the_chi_square_test():
    report = analyze(
        evidence({"m": {"control": np.arange(5200.0), "treatment": np.arange(4800.0)}}), question("m"), after(1)
    )
    assert report.health.sample_ratio_p == pytest.approx(stats.chisquare([5200, 4800]).pvalue, rel=1e-9)


def test_non_inferiority_is_the_one_sided_test_of_the_margin(random):
    rows = {"control": random.gamma(9.0, 1.0, 800), "treatment": random.gamma(9.0, 1.0, 800)}
    metric = MetricSpec("speed", role="guardrail", margin=0.05)
    made = compare(metric, rows).non_inferiority
    c, t = rows["control"].mean(), rows["treatment"].mean()
    variance = rows["treatment"].var(ddof=1) / 800 / c**2 + rows["control"].var(ddof=1) / 800 * t**2 / c**4
    z = ((t - c) / c + 0.05) / math.sqrt(variance)
    assert made.p_value == pytest.approx(stats.t.sf(z, 1598), rel=0.02)
    assert made.worst == pytest.approx((t - c) / c - 1.6449 * math.sqrt(variance), rel=0.01)
    assert made.shown == (made.p_value <= 0.05)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_beliefs_are_the_normal_posterior(random, direction):
    rows = {"control": random.gamma(2.0, 3.0, 500), "treatment": random.gamma(2.0, 3.1, 500)}
    spec = AnalysisSpec(method="fixed", planned_units=100, prior_deviation=0.1)
    made = compare(MetricSpec("revenue", direction=direction), rows, analysis=spec).belief
    c, t = rows["control"].mean(), rows["treatment"].mean()
    error = math.sqrt(sum(each.var(ddof=1) / 500 for each in rows.values()))
    precision = 1 / error**2 + 1 / (0.1 * c) ** 2
    mean, deviation = (t - c) / error**2 / precision, precision**-0.5
    chance = stats.norm.cdf(mean / deviation)
    assert made.chance_better == pytest.approx(chance if direction == "up" else 1 - chance)
    draws = stats.norm.rvs(mean, deviation, 200_000, random_state=1)
    lost = np.maximum(-draws if direction == "up" else draws, 0).mean()
    assert made.loss_of_treatment == pytest.approx(lost, rel=0.05)


def test_a_prior_of_the_relative_effect_says_nothing_beside_a_control_near_zero(random):
    """Scaled by such a control it would hide any effect."""
    profit = random.normal(0.0, 1.0, 1000)
    profit = (profit - profit.mean()) / profit.std(ddof=1) + 0.01
    made = compare(MetricSpec("profit"), {"control": profit, "treatment": profit + 0.2})
    assert isinstance(made.absolute, Effect)
    assert made.belief == NotEstimable("the control cannot be told from zero, so nothing is relative to it")


def test_chances_to_be_best_are_those_of_draws(random):
    names = ("control", "b", "c", "d")
    rows = {name: random.normal(0.03 * place, 1.0, 1000) for place, name in enumerate(names)}
    report = analyze(evidence({"m": rows}), question("m", variants=names), after(1))
    chances = dict(report.rankings[0].chances)
    draws = np.stack([each.mean() + random.normal(size=200_000) * each.std() / 1000**0.5 for each in rows.values()])
    counts = np.bincount(draws.argmax(axis=0), minlength=4) / 200_000
    assert [chances[name] for name in names] == pytest.approx(list(counts), abs=0.005)
    down = analyze(
        evidence({"m": rows}), question(MetricSpec("m", direction="down"), variants=names), after(1)
    ).rankings[0]
    assert dict(down.chances)["control"] > 0.5


def test_an_effect_is_an_effect(random):
    rows = {"control": random.normal(size=100), "treatment": random.normal(size=100)}
    assert isinstance(compare(MetricSpec("m"), rows).absolute, Effect)

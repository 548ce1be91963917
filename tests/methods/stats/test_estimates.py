"""Estimates and contrasts: the gradient rule, CUPED with several covariates, scales, and what is not estimable."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from crossfade.errors import InvalidAnalysisError
from crossfade.methods.stats.confidence_sequence import confidence_sequence
from crossfade.methods.stats.contrast import contrast, spread
from crossfade.methods.stats.cuped import Adjustment, adjusted, adjustment
from crossfade.methods.stats.gradient import Mean, Ratio, estimate, linearize
from crossfade.methods.stats.moments import Moments
from crossfade.methods.stats.non_inferiority import NonInferiority, non_inferiority
from crossfade.methods.stats.proportions import Count, proportion
from crossfade.methods.stats.values import Contrast, Effect, Estimate, NotEstimable
from crossfade.methods.stats.welch import welch

SCALES = ("absolute", "relative", "log")


def sample(count, seed, effect=0.0):
    random = np.random.default_rng(seed)
    before = random.gamma(4.0, 1.0, size=(count, 2))
    views = 1 + random.poisson(5, size=count).astype(float)
    value = 2.0 + effect + before @ [0.8, -0.3] + random.normal(size=count)
    return np.column_stack([value, views, before])


@settings(max_examples=50)
@given(*[st.lists(st.integers(-100, 100), min_size=2, max_size=30)] * 2)
def test_scipy_agrees_on_welch(a, b):
    made = contrast(*(estimate(Moments.of(values), Mean()) for values in (a, b)))
    if isinstance(made, NotEstimable):
        assert np.var(a) + np.var(b) == 0
        return
    if not (np.var(a) and np.var(b)):
        return  # scipy warns
    for side in ("two-sided", "greater", "less"):
        found = welch(made, 0.1, side)
        theirs = stats.ttest_ind(b, a, equal_var=False, alternative=side)
        assert found.p_value == pytest.approx(theirs.pvalue, abs=1e-9)
        low, high = theirs.confidence_interval(0.9)
        assert found.interval == pytest.approx((low, high), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("statistic", [Mean(0), Ratio(0, 1), Ratio(2, 3)])
def test_gradients_are_derivatives(statistic):
    mean = np.array([2.0, 5.0, 0.3, -4.0])
    value, gradient = linearize(statistic, mean)
    for column in range(4):
        step = np.zeros(4)
        step[column] = 1e-6
        slope = (linearize(statistic, mean + step)[0] - linearize(statistic, mean - step)[0]) / 2e-6
        assert gradient[column] == pytest.approx(slope, abs=1e-8)
    assert value == (mean[0] if statistic == Mean(0) else mean[statistic.numerator] / mean[statistic.denominator])


def test_the_variance_of_a_ratio_by_the_bootstrap():
    rows = sample(2000, 4)
    random = np.random.default_rng(5)
    drawn = rows[random.integers(0, 2000, size=(1500, 2000))]
    ratios = drawn[..., 0].sum(axis=1) / drawn[..., 1].sum(axis=1)
    found = estimate(Moments.of(rows), Ratio(0, 1))
    assert found.variance == pytest.approx(ratios.var(), rel=0.15)
    assert found.value == pytest.approx(rows[:, 0].mean() / rows[:, 1].mean())


def test_cuped_is_the_regression_on_all_covariates():
    rows = sample(5000, 6)
    fitted = adjustment(Moments.of(rows), Mean(0), (Mean(2), Mean(3)))
    design = np.column_stack([np.ones(5000), rows[:, 2:]])
    expected, residual, *_ = np.linalg.lstsq(design, rows[:, 0], rcond=None)
    assert fitted.coefficients == pytest.approx(expected[1:], rel=1e-9)
    found = adjusted(Moments.of(rows), Mean(0), fitted)
    assert found.variance == pytest.approx(float(residual[0]) / 4999 / 5000, rel=1e-9)
    assert found.variance < 0.6 * found.baseline_variance
    assert found.value == pytest.approx(rows[:, 0].mean()), "adjusted values stay where they were"


def test_covariates_that_say_nothing_get_no_weight():
    rows = sample(500, 7)
    constant = np.column_stack([rows, np.ones(500), rows[:, 2] * 3 + 1])
    moments = Moments.of(constant)
    alone = adjustment(moments, Mean(0), (Mean(2),))
    for more in ((Mean(2), Mean(4)), (Mean(2), Mean(5)), (Mean(5), Mean(2), Mean(4))):
        fitted = adjustment(moments, Mean(0), more)
        same = adjusted(moments, Mean(0), fitted)
        assert same.variance == pytest.approx(adjusted(moments, Mean(0), alone).variance, rel=1e-9)
    nothing = adjustment(moments, Mean(0), (Mean(4),))
    assert nothing.coefficients == (0.0,)
    assert adjusted(moments, Mean(0), nothing).variance == pytest.approx(estimate(moments, Mean(0)).variance)


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_units_of_measurement_do_not_matter_to_cuped(of_value, of_covariate):
    rows = sample(300, 8)
    scaled = rows * [of_value, 1.0, of_covariate, 1.0]
    plain, other = (
        adjusted(moments, Mean(0), adjustment(moments, Mean(0), (Mean(2), Mean(3))))
        for moments in (Moments.of(rows), Moments.of(scaled))
    )
    assert other.variance == pytest.approx(plain.variance * of_value**2, rel=1e-6)


def test_the_effect_does_not_leak_into_the_coefficient():
    control, treatment = sample(400, 9), sample(400, 10, effect=50.0)
    treatment[:, 2] += 0.5  # by chance the treated had a little more before
    cells = Moments.stack([Moments.of(control), Moments.of(treatment)])
    within = adjustment(cells.within(), Mean(0), (Mean(2),)).coefficients[0]
    joint = adjustment(cells.total(), Mean(0), (Mean(2),)).coefficients[0]
    assert within == pytest.approx(0.8, abs=0.15)
    assert joint > 2


def test_relative_scales_are_the_delta_method():
    """Against the variance over repetitions, adjusted: here numerator and denominator vary together."""
    found, errors = {"relative": [], "log": []}, {"relative": [], "log": []}
    for seed in range(400):
        cells = [Moments.of(sample(200, 2 * seed + part, 0.5 * part)) for part in (0, 1)]
        fitted = adjustment(Moments.stack(cells).within(), Mean(0), (Mean(2),))
        arms = [adjusted(cell, Mean(0), fitted) for cell in cells]
        for scale, values in found.items():
            made = contrast(*arms, scale)
            values.append(made.value)
            errors[scale].append(made.standard_error)
    for scale, values in found.items():
        assert np.mean(errors[scale]) == pytest.approx(np.std(values), rel=0.12), scale
    assert np.expm1(np.mean(found["log"])) == pytest.approx(np.mean(found["relative"]), rel=0.1)


@given(control=st.floats(1, 1e3), effect=st.floats(-0.5, 2), noise=st.floats(1e-3, 0.05), factor=st.floats(1e-3, 1e3))
def test_relative_effects_have_no_unit(control, effect, noise, factor):
    def arms(unit):
        of_control = Estimate.plain(control * unit, (noise * control * unit) ** 2, 500)
        value = control * (1 + effect) * unit
        return of_control, Estimate.plain(value, (noise * control * unit) ** 2, 500)

    for scale in ("relative", "log"):
        one, other = (welch(contrast(*arms(unit), scale)) for unit in (1.0, factor))
        assert (one.effect, one.lower, one.p_value) == pytest.approx(
            (other.effect, other.lower, other.p_value), rel=1e-6, abs=1e-9
        )
        assert one.effect == pytest.approx(effect, abs=1e-9)


def test_up_is_up_for_a_negative_control():
    low, high = Estimate.plain(-10.0, 0.1, 100), Estimate.plain(-5.0, 0.1, 100)
    assert contrast(low, high, "relative").value == pytest.approx(0.5)
    assert contrast(high, low, "relative").value == pytest.approx(-1.0)
    assert isinstance(contrast(low, high, "log"), NotEstimable)


def test_never_below_minus_everything_on_the_log_scale():
    made = contrast(Estimate.plain(10.0, 1.0, 50), Estimate.plain(1.0, 0.1, 50), "log")
    found = welch(made, 1e-12)
    assert -1 < found.lower < found.effect < found.upper
    assert welch(made, alternative="less").interval[0] == -1
    assert welch(contrast(Estimate.plain(10.0, 1.0, 50), Estimate.plain(1.0, 0.1, 50), "relative"), 1e-12).lower < -1


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    ("control", "treatment", "reason"),
    [
        (NotEstimable("first"), Estimate.plain(1.0, 0.1, 10), "first"),
        (Estimate.plain(1.0, 0.1, 10), NotEstimable("second"), "second"),
    ],
)
def test_no_contrast_without_two_estimates(control, treatment, reason, scale):
    made = contrast(control, treatment, scale)
    assert isinstance(made, NotEstimable)
    assert reason in made.reason
    assert welch(made) is made


def test_zeros_alone_say_nothing():
    nothing = Estimate.plain(0.0, 0.0, 500)
    assert contrast(nothing, nothing) == NotEstimable("the values do not vary: all of them are zero")


def constants(value, count):
    return estimate(Moments.of(np.full(count, value)), Mean())


@pytest.mark.parametrize("infer", [welch, confidence_sequence])
@pytest.mark.parametrize(("control", "treatment"), [(0.0, 1.0), (1.0, 0.0), (30.0, 10.0), (-2.0, 2.0)])
def test_variants_that_are_apart_completely_are_told_apart(control, treatment, infer):
    found = infer(contrast(constants(control, 892), constants(treatment, 108)))
    assert found.p_value < 1e-6
    assert found.effect == treatment - control
    assert min(abs(end - found.effect) for end in found.interval) > 0, "and there is an interval around it"


@pytest.mark.parametrize("value", [1.0, 0.1, 1e9, -3.0])
def test_equal_constants_are_no_difference_within_a_bound(value):
    made = contrast(constants(value, 900), constants(value, 7 * 900), "relative")
    for infer in (welch, confidence_sequence):
        assert infer(made).p_value > 0.5
        assert non_inferiority(made, 0.05, "increase", infer).shown
        assert not non_inferiority(made, 0.001, "increase", infer).shown


def test_what_rounding_leaves_of_a_constant_is_no_difference():
    parts = [Moments.of(np.full(count, 0.1)) for count in range(2, 60)]
    several = Moments.stack(parts).total()
    found = confidence_sequence(contrast(constants(0.1, 1000), estimate(several, Mean())))
    assert found.p_value == 1


def test_a_ratio_that_is_the_same_for_every_unit_does_not_vary():
    views = 1.0 + np.random.default_rng(12).poisson(3, 500)
    all_failed = estimate(Moments.of(np.column_stack([views, views])), Ratio())
    assert all_failed.variance == 0
    for other, apart in ((0.0 * views, True), (views, False)):
        usual = estimate(Moments.of(np.column_stack([other, views])), Ratio())
        assert confidence_sequence(contrast(usual, all_failed)).significant == apart


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.01, 0.001])
def test_the_bound_of_equal_units_is_beyond_the_exact_one(alpha):
    """Against 1 - alpha^(1/n), for all units together: what is true of n was true of every number before."""
    for count in (100, 300, 1_000, 10_000, 1_000_000):
        made = contrast(constants(1.0, 10 * count), constants(1.0, count))
        exact = 1 - alpha ** (1 / count)
        assert -confidence_sequence(made, alpha, "greater").lower >= exact
        if alpha >= 0.01:
            assert -welch(made, alpha, "greater").lower >= exact


@pytest.mark.parametrize(("rate", "worse"), [(0.001, 0.0), (0.02, 0.0), (0.999, 0.0), (0.998, 0.02)])
def test_rare_and_nearly_certain_events_keep_the_error_rates(rate, worse):
    """A thousand rollouts with twenty looks each: at the edge of what is acceptable, 5 % may be let through."""
    random, alpha, looks, each = np.random.default_rng(13), 0.05, 20, 40
    harmed = passed = 0
    for _ in range(1000):
        control = random.binomial(each, rate, looks).cumsum()
        treatment = random.binomial(each, rate - worse, looks).cumsum()
        made = [
            contrast(proportion(Count(int(c), n)), proportion(Count(int(t), n)))
            for n, c, t in zip(range(each, each * looks + 1, each), control, treatment, strict=True)
        ]
        told = [confidence_sequence(one, alpha, "less") for one in made]
        harmed += any(isinstance(one, Effect) and one.significant for one in told)
        shown = [non_inferiority(one, worse, "increase", confidence_sequence, alpha) for one in made]
        passed += any(isinstance(one, NonInferiority) and one.shown for one in shown)
    assert passed <= 70, "5 %, and four standard errors of a thousand"
    if not worse:
        assert harmed <= 70


@pytest.mark.parametrize("scale", ["relative", "log"])
def test_no_relative_effect_on_a_control_that_may_be_zero(scale):
    noisy, clear = Estimate.plain(1.0, 0.2, 50), Estimate.plain(5.0, 0.2, 50)
    assert isinstance(contrast(noisy, clear, scale), NotEstimable)
    assert isinstance(contrast(Estimate.plain(0.0, 0.0, 50), clear, scale), NotEstimable)
    assert isinstance(contrast(clear, noisy, scale), NotEstimable if scale == "log" else Contrast)
    assert isinstance(contrast(noisy, clear), Contrast), "the difference itself is fine"


@pytest.mark.parametrize(
    ("values", "statistic"),
    [([], Mean()), ([1.0], Mean()), ([[1.0, 0.0]] * 5, Ratio()), ([[1.0, 1.0], [1.0, -1.1], [2.0, 0.2]], Ratio())],
)
def test_what_cannot_be_estimated_says_so(values, statistic):
    moments = Moments.of(values) if values else Moments.empty(2)
    assert isinstance(estimate(moments, statistic), NotEstimable)
    fitted = Adjustment((Mean(0),), (0.5,), (0.0,))
    assert isinstance(adjusted(moments, statistic, fitted), NotEstimable)


def test_a_covariate_whose_ratio_has_no_denominator_is_left_out():
    rows = sample(100, 3)
    rows[:, 3] = 0.0
    moments = Moments.of(rows)
    fitted = adjustment(moments, Mean(0), (Ratio(2, 3),))
    assert fitted.coefficients == (0.0,)
    assert adjusted(moments, Mean(0), fitted).value == pytest.approx(rows[:, 0].mean())


def test_degrees_of_freedom_of_tiny_variances_do_not_underflow():
    error, df = spread(1e-200, 9, 2e-200, 19)
    assert error == pytest.approx(math.sqrt(3e-200))
    assert df == pytest.approx(spread(1.0, 9, 2.0, 19)[1])


@pytest.mark.parametrize("infer", [welch, confidence_sequence])
def test_non_inferiority_needs_the_margin(infer):
    made = Contrast("relative", -0.002, 0.004, math.inf, 50_000, 50_000, 1.0)
    found = non_inferiority(made, 0.05, "increase", infer)
    assert found.shown
    assert found.worst > -0.05
    assert not non_inferiority(made, 0.003, "increase", infer).shown
    mirrored = non_inferiority(
        Contrast("relative", 0.002, 0.004, math.inf, 50_000, 50_000, 1.0), 0.05, "decrease", infer
    )
    assert (mirrored.p_value, mirrored.worst) == pytest.approx((found.p_value, -found.worst))


@given(z=st.floats(-5, 5), margin=st.floats(0, 1))
def test_non_inferiority_is_the_one_sided_interval(z, margin):
    made = Contrast("absolute", z * 0.1, 0.1, math.inf, 500, 500, 1.0)
    found, plain = non_inferiority(made, margin, "increase", welch), welch(made, alternative="greater")
    assert isinstance(plain, Effect)
    assert found.worst == pytest.approx(plain.lower, abs=1e-9)
    if abs(found.worst + margin) > 1e-9:
        assert found.shown == (found.worst > -margin)


def test_non_inferiority_refuses_and_hands_on():
    made = Contrast("log", 0.0, 0.1, math.inf, 500, 500, 1.0)
    for margin in (-0.1, math.nan, math.inf):
        with pytest.raises(InvalidAnalysisError):
            non_inferiority(made, margin, "increase", welch)
    with pytest.raises(InvalidAnalysisError, match="scale"):
        non_inferiority(made, 0.1, "increase", welch)
    reason = NotEstimable("no")
    assert non_inferiority(reason, 0.1, "increase", welch) is reason
    few = Contrast("absolute", 0.0, 0.1, math.inf, 5, 5, 1.0)
    assert isinstance(non_inferiority(few, 0.1, "increase", confidence_sequence), NotEstimable)

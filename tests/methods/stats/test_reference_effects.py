"""Effects against gbstats and tea-tasting: means, proportions, ratios, CUPED, on three scales."""

import numpy as np
import pytest

from crossfade.methods.stats.contrast import contrast
from crossfade.methods.stats.cuped import Adjustment, adjusted, adjustment
from crossfade.methods.stats.gradient import Mean, Ratio, estimate, linearize
from crossfade.methods.stats.moments import Moments
from crossfade.methods.stats.welch import welch
from tests.methods.stats.support import cases, document, estimates, moments_of, number


def bounds(effect):
    return list(effect.interval)


def close(value, expected, tolerance=1e-9):
    assert value == pytest.approx(expected, rel=tolerance, abs=tolerance)


@cases("stats/gbstats_ttest.json", "literal")
def test_the_literal_t_tests_of_gbstats(case):
    expected = case["expected"]
    effect = welch(contrast(*estimates(case["a"], case["b"]), case["difference"]), 0.05, case["alternative"])
    close(effect.effect, expected["effect"], 6e-6)
    close(bounds(effect), [number(x) for x in expected["ci"]], 6e-6)
    close([effect.standard_error, effect.p_value], [expected["se"], expected["p"]], 6e-6)


@cases("stats/gbstats_ttest.json", "generated")
def test_the_t_tests_that_gbstats_computes(case):
    expected = case["expected"]
    made = contrast(*estimates(case["a"], case["b"]), case["difference"])
    effect = welch(made, case["alpha"], case["alternative"])
    close(effect.effect, expected["effect"])
    if case["a"]["kind"] == "cuped" and case["difference"] == "relative":
        close(effect.standard_error, expected["se"], 0.05)  # gbstats drops a term of the delta method
        return
    close(effect.standard_error, expected["se"])
    close(bounds(effect), [number(x) for x in expected["ci"]])
    close(effect.p_value, expected["p"])


@cases("stats/gbstats_cuped.json", "mean")
def test_cuped_coefficients_of_gbstats(case):
    arms = [moments_of(case[arm]) for arm in "ab"]
    fitted = adjustment(Moments.stack(arms).total(), Mean(0), (Mean(1),))
    close(fitted.coefficients[0], case["theta"])
    for arm, moments in zip("ab", arms, strict=True):
        found = adjusted(moments, Mean(0), fitted)
        # gbstats centers at zero
        close(found.value - fitted.coefficients[0] * fitted.centers[0], case[f"adj_mean_{arm}"])
        close(found.variance * found.n, case[f"adj_var_{arm}"])
        close(found.baseline_variance * found.n, case[f"unadj_var_{arm}"])


def test_cuped_of_a_ratio():
    case = document("stats/gbstats_cuped.json")["ratio"]
    arms = [moments_of(case[arm]) for arm in "ab"]
    post, pre = Ratio(0, 1), Ratio(2, 3)
    top = bottom = 0.0
    for moments in arms:  # gbstats linearizes each variant at its own means
        (_, of_post), (_, of_pre) = linearize(post, moments.mean), linearize(pre, moments.mean)
        top += of_pre @ moments.covariance @ of_post
        bottom += of_pre @ moments.covariance @ of_pre
    fitted = adjustment(Moments.stack(arms).within(), post, (pre,))
    close(fitted.coefficients[0], top / bottom, 1e-3)
    theirs = Adjustment((pre,), (float(top / bottom),), (0.0,))
    effect = welch(contrast(*(adjusted(moments, post, theirs) for moments in arms), "relative"))
    expected = case["computed"]
    close([effect.effect, effect.standard_error, effect.p_value], [expected["effect"], expected["se"], expected["p"]])
    close(bounds(effect), expected["ci"])


COLUMNS = ("y", "s", "yx", "sx")


def moments_of_columns(document):
    names = [name for name in COLUMNS if name in document["mean"]]
    covariance = np.empty((len(names), len(names)))
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            pairs = document.get("cov", {})
            covariance[i, j] = document["var"][a] if i == j else pairs.get(f"{a}|{b}", pairs.get(f"{b}|{a}", 0.0))
    return Moments(
        np.asarray(document["n"]),
        np.array([document["mean"][name] for name in names]),
        covariance * (document["n"] - 1),
    )


@cases("stats/tea_tasting_mean.json", "cases")
def test_tea_tasting(case):
    arms = [moments_of_columns(case[arm]) for arm in ("control", "treatment")]
    statistic = Ratio(0, 1) if case["metric"].startswith("ratio") else Mean(0)
    if case["metric"].endswith("cuped"):
        covariate = Ratio(2, 3) if "denom_covariate" in case["columns"] else Mean(2)
        fitted = adjustment(Moments.stack(arms).total(), statistic, (covariate,))
        found = [adjusted(moments, statistic, fitted) for moments in arms]
    else:
        found = [estimate(moments, statistic) for moments in arms]
    expected, alpha = case["expected"], 1 - case["confidence_level"]
    absolute, relative = (
        welch(contrast(*found, scale, equal_variance=case["equal_var"]), alpha, case["alternative"])
        for scale in ("absolute", "log")
    )
    close([each.value for each in found], [expected["control"], expected["treatment"]])
    close(absolute.effect, expected["effect_size"])
    close(bounds(absolute), [number(expected[f"effect_size_ci_{end}"]) for end in ("lower", "upper")])
    close(absolute.p_value, expected["pvalue"])
    close(absolute.effect / absolute.standard_error, expected["statistic"])
    close(relative.effect, expected["rel_effect_size"])
    lower, upper = (number(expected[f"rel_effect_size_ci_{end}"]) for end in ("lower", "upper"))
    close(bounds(relative), [max(lower, -1.0), upper])  # a relative effect is never below -100 %

"""Confidence sequences: against gbstats, against their own definition, and at the edges."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.errors import InvalidAnalysisError
from crossfade.methods.stats.confidence_sequence import (
    confidence_sequence,
    log_evidence,
    mixture,
    p_value,
    running,
    width,
)
from crossfade.methods.stats.contrast import contrast
from crossfade.methods.stats.values import Contrast, Effect, NotEstimable
from tests.methods.stats.support import cases, estimates, number


def contrast_of(z=1.0, n=1000, scale="absolute"):
    return Contrast(scale, z * 0.1, 0.1, math.inf, n // 2, n // 2, 1.0)


@cases("sequential/gbstats_asymptotic_cs.json", "halfwidth")
def test_half_widths_of_gbstats(case):
    n, alpha = float(case["n"]), case["alpha"]
    ratio = mixture(alpha, case["tuning"])
    assert 1 / math.sqrt(ratio) == pytest.approx(case["rho"], rel=1e-9)
    assert width(n, alpha, ratio) * math.sqrt(case["s2"] / n) == pytest.approx(case["halfwidth"], rel=1e-9)


def check(case, expected, alternative, alpha, tolerance):
    made = contrast(*estimates(case["a"], case["b"]), case["difference"])
    effect = confidence_sequence(made, alpha, alternative, tuning=case["tuning"], smallest=2)
    for name, found in (("effect", effect.effect), ("se", effect.standard_error), ("p", effect.p_value)):
        if name in expected and not (name == "p" and alternative != "two-sided"):
            assert found == pytest.approx(expected[name], rel=tolerance, abs=tolerance), name
    if "ci" in expected:
        ends = [number(end) for end in expected["ci"]]
        assert effect.interval == pytest.approx(ends, rel=tolerance, abs=tolerance)
    return effect


@cases("sequential/gbstats_asymptotic_cs.json", "literal")
def test_the_literal_sequences_of_gbstats(case):
    # the relative error with CUPED: gbstats drops a small term of the delta method
    check(case, case["expected"], "two-sided", 0.05, 6e-6 if case["name"] != "cuped" else 3e-5)


@cases("sequential/gbstats_asymptotic_cs.json", "literal_one_sided")
def test_the_literal_one_sided_sequences_of_gbstats(case):
    effect = check(case, case["expected"], case["alternative"], 0.05, 1e-9)
    if "p" in case["expected"]:  # their bisection stops early
        assert effect.p_value == pytest.approx(case["expected"]["p"], abs=2e-4)


@cases("sequential/gbstats_asymptotic_cs.json", "generated")
def test_the_sequences_that_gbstats_computes(case):
    cuped = case["a"]["kind"] == "cuped" and case["difference"] == "relative"
    if cuped:  # gbstats drops a term of the delta method
        effect = check(case, {"effect": case["two_sided"]["effect"]}, "two-sided", case["alpha"], 1e-9)
        assert effect.standard_error == pytest.approx(case["two_sided"]["se"], rel=0.05)
        return
    check(case, case["two_sided"], "two-sided", case["alpha"], 1e-9)
    above = check(case, {}, "greater", case["alpha"], 1e-9)
    below = check(case, {}, "less", case["alpha"], 1e-9)
    assert (above.lower, below.upper) == pytest.approx((case["greater_lower"], case["less_upper"]), rel=1e-9)
    ratio = mixture(case["alpha"], case["tuning"], "greater")
    assert 1 / math.sqrt(ratio) == pytest.approx(case["rho_one_sided"], rel=1e-9)


def test_the_one_sided_p_value_is_the_closed_form():
    for z in (1.5, 3.0, 6.0):
        ratio = mixture(0.05, 5000, "greater")
        # by definition: the alpha at which the lower end of the interval is zero
        low, high = 1e-30, 1.0
        for _ in range(200):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if width(1000.0, middle, ratio, "greater") > z else (low, middle)
        found = p_value(z, 1000, ratio, "greater")
        assert found == pytest.approx(min(1.0, high), rel=1e-9)
        assert p_value(-z, 1000, ratio, "less") == found
        assert p_value(-z, 1000, ratio, "greater") == 1.0


@given(
    z=st.floats(-40, 40),
    n=st.integers(200, 10**9),
    tuning=st.floats(10, 1e8),
    alpha=st.floats(1e-6, 0.5),
    side=st.sampled_from(["two-sided", "greater", "less"]),
    scale=st.sampled_from(["absolute", "relative", "log"]),
)
def test_interval_and_p_value_always_agree(z, n, tuning, alpha, side, scale):
    effect = confidence_sequence(contrast_of(z, n, scale), alpha, side, tuning=tuning)
    assert 0 <= effect.p_value <= 1
    lower, upper = effect.interval
    assert lower <= effect.effect <= upper
    excludes = lower > 0 or upper < 0
    if abs(effect.p_value / alpha - 1) > 1e-6:
        assert excludes == effect.significant


@given(z=st.floats(-6, 6), n=st.floats(100, 1e7))
def test_evidence_is_the_reciprocal_of_the_p_value(z, n):
    ratio = mixture(0.05)
    evidence = math.exp(log_evidence(z, n, ratio))
    assert p_value(z, n, ratio) == pytest.approx(min(1.0, 1 / evidence), rel=1e-9)


def test_evidence_is_fair_when_there_is_no_effect():
    z, ratio = np.linspace(-60, 60, 20_001), mixture(0.05)
    log_density = -z * z / 2 - math.log(2 * math.pi) / 2
    for n in (100.0, 5_000.0):
        expected = np.trapezoid(np.exp(log_evidence(z, n, ratio) + log_density), z)
        assert expected == pytest.approx(1, abs=1e-6)


def test_few_units_have_no_interval_yet():
    few = Contrast("absolute", 5.0, 0.1, 50.0, 99, 5000, 1.0)
    assert "99 units" in confidence_sequence(few).reason
    assert isinstance(confidence_sequence(few, smallest=50), Effect)
    reason = NotEstimable("no")
    assert confidence_sequence(reason) is reason


def test_looks_together_are_narrower():
    first, second = (confidence_sequence(contrast_of(z, n)) for z, n in ((1.0, 1000), (4.6, 2000)))
    both = running(first, second)
    assert both.p_value == second.p_value
    assert (both.lower, both.upper) == (max(first.lower, second.lower), min(first.upper, second.upper))
    back = running(both, confidence_sequence(contrast_of(0.1, 3000)))
    assert back.p_value == both.p_value, "evidence that was there once is not taken back"


def test_an_effect_that_turns_around_is_said():
    up, down = (confidence_sequence(contrast_of(z, 1000)) for z in (12, -12))
    assert "changes over time" in running(up, down).reason


def test_looks_that_do_not_belong_together_are_refused():
    with pytest.raises(InvalidAnalysisError):
        running(confidence_sequence(contrast_of()), confidence_sequence(contrast_of(), 0.01))


@pytest.mark.parametrize("tuning", [0, -1, math.nan, math.inf])
def test_a_tuning_that_is_no_number_of_units_is_refused(tuning):
    with pytest.raises(InvalidAnalysisError):
        confidence_sequence(contrast_of(), tuning=tuning)


def test_a_large_alpha_works_one_sided():
    assert mixture(0.5, 5000, "greater") > 0
    assert mixture(0.999, 5000, "less") > 0

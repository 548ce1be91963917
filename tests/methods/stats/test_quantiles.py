"""Quantiles, their standard errors, the sketch, and winsorising."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.errors import InvalidAnalysisError
from crossfade.methods.stats import quantiles
from crossfade.methods.stats.moments import Moments
from crossfade.methods.stats.sketch import Sketch
from crossfade.methods.stats.values import NotEstimable
from crossfade.methods.stats.winsorize import Caps, caps, winsorize
from tests.methods.stats.support import cases

VALUES = st.lists(st.floats(-1e9, 1e9).filter(lambda x: x == 0 or abs(x) > 1e-9), min_size=1, max_size=80)


@cases("stats/gbstats_quantile.json", "cases")
def test_gbstats(case):
    found = quantiles.from_order_statistics(case["q"], case["lo"], case["hi"], level=case["nu"], n=case["n"])
    if case["zero_variance"] and case["n"] < 1000:
        assert isinstance(found, NotEstimable)
        return
    # gbstats gives the variance of one value, and divides by n - 1 on the way
    assert found.variance * (case["n"] - 1) == pytest.approx(case["variance"], rel=1e-9)


def test_the_standard_error_is_that_of_repetitions():
    random = np.random.default_rng(1)
    samples = random.gamma(2.0, size=(600, 2000))
    for level in (0.5, 0.95):
        found = [quantiles.of_values(sample, level) for sample in samples]
        spread = np.std([each.value for each in found])
        assert np.sqrt(np.mean([each.variance for each in found])) == pytest.approx(spread, rel=0.12)


def test_values_of_the_same_unit_widen_it():
    random = np.random.default_rng(2)

    def units():
        count = random.integers(1, 20, size=400)
        level = random.normal(size=400)
        return count, [level[i] + 0.3 * random.normal(size=count[i]) for i in range(400)]

    medians, naive, clustered = [], [], []
    for _ in range(150):
        count, values = units()
        flat = np.concatenate(values)
        plain = quantiles.of_values(flat, 0.5)
        below = [float((value <= plain.value).sum()) for value in values]
        factor = quantiles.design_effect(Moments.of(np.column_stack([below, count])), 0.5)
        wide = quantiles.of_values(flat, 0.5, design_effect=factor)
        medians.append(plain.value)
        naive.append(plain.variance)
        clustered.append(wide.variance)
    assert math.sqrt(np.mean(clustered)) == pytest.approx(np.std(medians), rel=0.2)
    assert math.sqrt(np.mean(naive)) < 0.5 * np.std(medians)


def test_the_standard_error_is_known_no_better_than_the_values_around_it():
    plain, wide = (
        quantiles.from_order_statistics(5.0, 4.8, 5.3, level=0.9, n=5000, design_effect=each) for each in (1.0, 4.0)
    )
    assert plain.df == pytest.approx(1.96 * math.sqrt(5000 * 0.9 * 0.1), rel=1e-3)
    assert wide.df == pytest.approx(plain.df / 2)


def test_one_value_each_has_no_design_effect():
    values = np.random.default_rng(3).normal(size=20_000)
    below = (values <= np.median(values)).astype(float)
    factor = quantiles.design_effect(Moments.of(np.column_stack([below, np.ones_like(below)])), 0.5)
    assert factor == pytest.approx(1, abs=0.01)
    assert isinstance(quantiles.design_effect(Moments.empty(2), 0.5), NotEstimable)


@pytest.mark.parametrize(("level", "n"), [(0.5, 3), (0.99, 380), (0.01, 380), (0.999, 3000), (0.5, 0)])
def test_few_values_do_not_enclose_a_quantile(level, n):
    assert isinstance(quantiles.levels(level, n), NotEstimable)
    assert isinstance(quantiles.of_values(np.arange(n), level), NotEstimable)
    assert isinstance(quantiles.of_sketch(Sketch.of(np.arange(n)), level), NotEstimable)


def test_equal_values_have_no_standard_error():
    found = quantiles.of_values(np.ones(1000), 0.9)
    assert "all the same" in found.reason


@pytest.mark.parametrize("level", [0, 1, -0.5, math.nan])
def test_levels_that_are_none_are_refused(level):
    with pytest.raises(InvalidAnalysisError):
        quantiles.of_values(np.arange(1000), level)
    with pytest.raises(InvalidAnalysisError):
        quantiles.design_effect(Moments.empty(2), level)


def test_order_statistics_out_of_order_are_refused():
    for quantile, lower, upper in ((1.0, 2.0, 3.0), (4.0, 2.0, 3.0), (math.nan, 1.0, 2.0)):
        with pytest.raises(InvalidAnalysisError):
            quantiles.from_order_statistics(quantile, lower, upper, level=0.5, n=100)


@given(VALUES, VALUES, st.floats(0, 1))
def test_sketches_merge_without_loss(a, b, level):
    merged, whole = Sketch.of(a).merge(Sketch.of(b)), Sketch.of(a + b)
    assert merged.keys.tolist() == whole.keys.tolist()
    assert merged.counts.tolist() == whole.counts.tolist()
    assert Sketch.of(b).merge(Sketch.of(a)).quantile(level) == merged.quantile(level)


@given(VALUES, st.floats(0, 1))
def test_a_sketch_is_right_to_half_a_percent(values, level):
    found = Sketch.of(values).quantile(level)
    ordered = sorted(values)
    below, above = (
        ordered[max(math.ceil(level * len(values)) - 1, 0)],
        ordered[min(int(level * len(values)), len(values) - 1)],
    )
    slack = 2.1 * Sketch.ACCURACY
    assert min(below, above) - slack * abs(below) - 1e-12 <= found <= max(below, above) + slack * abs(above) + 1e-12


def test_a_sketch_gives_the_same_standard_error_as_the_values():
    values = np.random.default_rng(4).lognormal(size=200_000)
    sketch = Sketch.of([])
    for part in np.array_split(values, 37):
        sketch = sketch.merge(Sketch.of(part))
    assert sketch.n == 200_000
    assert len(sketch.keys) < 2000
    for level in (0.5, 0.9, 0.99):
        exact, found = quantiles.of_values(values, level), quantiles.of_sketch(sketch, level)
        assert found.value == pytest.approx(exact.value, rel=2 * Sketch.ACCURACY)
        assert found.variance == pytest.approx(exact.variance, rel=0.25)
        assert sketch.share_at_most(exact.value) == pytest.approx(level, abs=0.003)


def test_zero_and_negative_values():
    sketch = Sketch.of([-5.0, -1e-15, 0.0, 1e-15, 5.0])
    assert sketch.quantile(0.5) == 0.0
    assert sketch.quantile(0.0) == pytest.approx(-5, rel=0.02)
    assert sketch.quantile(1.0) == pytest.approx(5, rel=0.02)
    assert sketch.share_at_most(0.0) == pytest.approx(0.8)
    assert sketch.share_at_most(-6) == 0
    assert sketch.share_at_most(6) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_cannot_be_used_are_refused(bad):
    for call in (Sketch.of, lambda values: quantiles.of_values(values, 0.5), caps):
        with pytest.raises(InvalidAnalysisError):
            call([1.0, bad])


def test_an_empty_sketch_has_no_quantiles():
    for call in (lambda sketch: sketch.quantile(0.5), lambda sketch: sketch.share_at_most(0.5)):
        with pytest.raises(InvalidAnalysisError):
            call(Sketch.of([]))
    with pytest.raises(InvalidAnalysisError):
        Sketch.of([1.0]).quantile(1.5)


def test_winsorising_pulls_in_the_extremes():
    values = np.concatenate([np.arange(100.0), [1e6, -1e6]])
    found = caps(values, lower_share=0.02, upper_share=0.02)
    pulled = winsorize(values, found)
    assert (pulled.min(), pulled.max()) == (found.lower, found.upper)
    assert (found.lower, found.upper) == (1.0, 98.0)
    assert winsorize(values, Caps()).tolist() == values.tolist()
    assert np.isnan(winsorize([math.nan, 5.0], Caps(0.0, 1.0))).tolist() == [True, False]
    assert values[-1] == -1e6, "the values themselves are left alone"


@given(VALUES, st.floats(0, 0.49), st.floats(0, 0.49))
def test_caps_are_values_in_order(values, lower, upper):
    found = caps(values, lower, upper)
    lower, upper = found.ends
    assert lower <= upper
    assert {lower, upper} <= {*values, -math.inf, math.inf}
    assert (winsorize(values, found) <= upper).all()


@pytest.mark.parametrize("shares", [(0.5, 0.0), (0.0, 0.6), (-0.1, 0.0), (math.nan, 0.0)])
def test_shares_that_make_no_sense_are_refused(shares):
    with pytest.raises(InvalidAnalysisError):
        caps([1.0, 2.0], *shares)
    with pytest.raises(InvalidAnalysisError):
        Caps(2.0, 1.0)
    with pytest.raises(InvalidAnalysisError):
        caps([])

"""Group sequential bounds: against references and simulation; crossing probabilities; repeated intervals."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from crossfade.errors import InvalidAnalysisError
from crossfade.methods.stats.group_sequential import boundaries, crossing, group_sequential, looks, normal_score, spent
from crossfade.methods.stats.values import Contrast, NotEstimable
from crossfade.methods.stats.welch import welch
from tests.methods.stats.support import cases


@cases("sequential/group_sequential_reference.json", "cases")
def test_reference_bounds(case):
    spending = case["spending"].removesuffix("_lan_demets")
    assert boundaries(case["information"], case["alpha"], spending) == pytest.approx(case["bounds"], abs=1e-4)


def test_one_look_is_the_fixed_test():
    assert boundaries([1.0]) == pytest.approx([stats.norm.isf(0.025)], abs=1e-9)
    assert boundaries([1.0], alternative="greater") == pytest.approx([stats.norm.isf(0.05)], abs=1e-9)
    assert crossing([1.96], [1.0], drift=2.8).sum() == pytest.approx(
        stats.norm.sf(1.96 - 2.8) + stats.norm.cdf(-1.96 - 2.8), abs=1e-9
    )


def test_two_looks_against_the_bivariate_normal():
    bounds, times = [2.2, 2.1], [0.4, 1.0]
    for drift in (0.0, 1.5):
        mean = [drift * math.sqrt(0.4), drift]
        both = stats.multivariate_normal(mean, [[1, math.sqrt(0.4)], [math.sqrt(0.4), 1]])
        inside = both.cdf([2.2, 2.1], lower_limit=[-2.2, -2.1])
        assert crossing(bounds, times, drift).sum() == pytest.approx(1 - inside, abs=1e-4)


@settings(max_examples=25)
@given(
    times=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=12, unique=True),
    alpha=st.floats(0.001, 0.2),
    spending=st.sampled_from(["obrien_fleming", "pocock", "power"]),
    side=st.sampled_from(["two-sided", "greater", "less"]),
)
def test_all_looks_together_spend_what_may_be_spent(times, alpha, spending, side):
    times = sorted(times)
    if min(np.diff(times, prepend=0)) < 1e-3:
        return
    bounds = boundaries(times, alpha, spending, side)
    sides = 1 if side != "two-sided" else 2
    allowed = sides * spent(np.array([times[-1]]), alpha / sides, spending)[0]
    assert crossing(bounds, times, 0.0, side).sum() == pytest.approx(allowed, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("step", [0.1, 0.02, 1e-3, 3e-5])
def test_looks_close_to_each_other(step):
    """The quadrature must not miss the narrow steps between them, nor lose paths on the way."""
    times = [0.5 * (1 - step), 0.5, 0.5 * (1 + step)]
    found = crossing([2.0, 2.0, 2.0], times)
    assert found[0] == pytest.approx(2 * stats.norm.sf(2.0), abs=1e-9)
    for looked in (2, 3):
        correlations = [[math.sqrt(min(a, b) / max(a, b)) for a in times[:looked]] for b in times[:looked]]
        joint = stats.multivariate_normal(np.zeros(looked), correlations)
        inside = joint.cdf([2.0] * looked, lower_limit=[-2.0] * looked, rng=np.random.default_rng(1))
        assert found[:looked].sum() == pytest.approx(1 - inside, abs=2e-5)


def test_a_hundred_looks_by_simulation():
    times = looks(100)
    random = np.random.default_rng(7)
    paths = np.cumsum(random.normal(size=(20_000, 100)) / 10, axis=1) / np.sqrt(times)
    for spending in ("obrien_fleming", "pocock", "power"):
        rate = (np.abs(paths) > boundaries(times, 0.05, spending)).any(axis=1).mean()
        assert rate == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 20_000))


def test_drift_by_simulation_and_direction():
    times, drift = looks(10), 2.5
    bounds = boundaries(times)
    random = np.random.default_rng(8)
    paths = np.cumsum(random.normal(drift / 10, math.sqrt(0.1), size=(20_000, 10)), axis=1) / np.sqrt(times)
    first = (np.abs(paths) > bounds).argmax(axis=1)[(np.abs(paths) > bounds).any(axis=1)]
    expected = np.bincount(first, minlength=10) / 20_000
    assert crossing(bounds, times, drift) == pytest.approx(expected, abs=0.01)
    one = boundaries(times, alternative="greater")
    assert crossing(one, times, drift, "greater") == pytest.approx(crossing(one, times, -drift, "less"))
    assert crossing(one, times, drift, "less").sum() < 0.001


def test_more_information_than_planned_spends_no_more():
    bounds = boundaries([0.5, 1.0, 1.4])
    assert bounds[-1] == pytest.approx(40.0), "nothing is left after the planned end"
    assert crossing(bounds, [0.5, 1.0, 1.4]).sum() == pytest.approx(0.05, abs=1e-6)


def contrast_of(z, side=1):
    return Contrast("absolute", z * 0.1 * side, 0.1, math.inf, 500, 500, 1.0)


@pytest.mark.parametrize("side", ["two-sided", "greater", "less"])
@pytest.mark.parametrize("z", [0.0, 1.0, 2.2, 2.6, 3.5, 9.0])
def test_repeated_interval_and_p_value_agree_with_the_bound(z, side):
    sign = -1 if side == "less" else 1
    information = [0.25, 0.5, 0.75]
    bound = boundaries(information, 0.05, "obrien_fleming", side)[-1]
    effect = group_sequential(contrast_of(z, sign), information, alternative=side)
    assert (z >= bound) == (effect.interval[0] >= 0 or effect.interval[1] <= 0)
    assert (effect.p_value <= 0.05) == (z >= bound)
    if side != "less":
        assert effect.lower == pytest.approx(effect.effect - bound * 0.1)


def test_few_degrees_of_freedom_widen_the_interval():
    known, estimated = (
        group_sequential(Contrast("absolute", 0.3, 0.1, df, 10, 10, 1.0), [0.5, 1.0]) for df in (math.inf, 8.0)
    )
    assert estimated.upper > known.upper
    assert estimated.p_value > known.p_value
    fixed = group_sequential(Contrast("absolute", 0.3, 0.1, 8.0, 10, 10, 1.0), [1.0])
    assert fixed.interval == pytest.approx(welch(Contrast("absolute", 0.3, 0.1, 8.0, 10, 10, 1.0)).interval, rel=1e-9)
    assert fixed.p_value == pytest.approx(2 * stats.t.sf(3.0, 8), rel=2e-3)
    assert normal_score(-3.0, 8.0) == pytest.approx(stats.norm.isf(stats.t.sf(3.0, 8)) * -1)
    assert normal_score(0.0, 8.0) == 0
    assert math.isfinite(normal_score(1e6, math.inf))


def test_not_estimable_is_handed_on():
    reason = NotEstimable("no")
    assert group_sequential(reason, [0.5]) is reason


@pytest.mark.parametrize(
    "times", [[], [0.0, 1.0], [0.5, 0.5], [1.0, 0.5], [math.nan], [0.5, math.inf], [-1.0], [0.5, 0.5 + 1e-9]]
)
def test_looks_that_do_not_ascend_are_refused(times):
    with pytest.raises(InvalidAnalysisError):
        boundaries(times)


@pytest.mark.parametrize("count", [0, -1, 1001])
def test_too_few_or_too_many_looks_are_refused(count):
    with pytest.raises(InvalidAnalysisError):
        looks(count)

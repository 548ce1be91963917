"""Power: against GrowthBook, tea-tasting, statsmodels and simulation; fixed and sequential; its inverses."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.power import NormalIndPower, TTestIndPower

from crossfade.errors import InvalidAnalysisError
from crossfade.methods.stats.confidence_sequence import mixture, width
from crossfade.methods.stats.group_sequential import looks
from crossfade.methods.stats.power import Design, Population, detectable, power, signal, units_needed
from crossfade.methods.stats.sequential_power import (
    always_valid_power,
    always_valid_power_at_end,
    group_sequential_power,
)
from crossfade.methods.stats.values import NotEstimable
from tests.methods.stats.support import cases, document

THIRDS = Design(scale="relative", control_share=1 / 3, treatment_share=1 / 3)


def test_a_single_metric_of_growthbook():
    first, second = document("power/growthbook_power.json")["single"]
    population = Population(first["mean"], first["sd"] ** 2)
    found = power(population, first["effect_rel"] * first["mean"], first["n_total"], THIRDS)
    assert found == pytest.approx(first["power"], abs=6e-6)
    found = detectable(population, second["n_total"], THIRDS, second["target_power"])
    assert found / second["mean"] == pytest.approx(second["mde"], abs=6e-6)


def test_nine_weeks_of_growthbook():
    case = document("power/growthbook_power.json")["weekly"]
    ctr, revenue = case["metrics"]
    populations = (
        (Population(ctr["rate"], ctr["rate"] * (1 - ctr["rate"])), ctr["effect"]),
        (Population(revenue["mean"], revenue["sd"] ** 2), revenue["effect"]),
    )
    expected = zip(case["power"], case["mde"], strict=True)
    for week in range(1, case["weeks"] + 1):
        n = case["users_per_week"] * week
        for population, effect in populations:
            reached, smallest = next(expected)
            assert power(population, effect * population.mean, n, THIRDS) == pytest.approx(reached, abs=6e-6)
            assert detectable(population, n, THIRDS) / population.mean == pytest.approx(smallest, abs=6e-6)
    needed = units_needed(populations[1][0], revenue["effect"] * revenue["mean"], THIRDS)
    assert math.ceil(needed / case["users_per_week"]) == case["weeks_needed"]["revenue"]
    assert units_needed(populations[0][0], ctr["effect"] * ctr["rate"], THIRDS) > 9 * case["users_per_week"]


def test_the_variance_of_growthbook():
    """Two variants of different variance: that of the difference, absolute and relative."""
    for case in document("power/growthbook_power.json")["variance"]:
        of_a, of_b = case["vara"] / case["na"], case["varb"] / case["nb"]
        variance = of_a + of_b
        if case["relative"]:
            variance = of_b / case["meana"] ** 2 + of_a * case["meanb"] ** 2 / case["meana"] ** 4
        assert variance == pytest.approx(case["expected"], abs=6e-6)


@cases("power/growthbook_power.json", "sequential_exact")
def test_sequential_power_is_not_that_of_an_inflated_error(case):
    single = document("power/growthbook_power.json")["single"][0]
    population, effect = Population(single["mean"], single["sd"] ** 2), single["effect_rel"] * single["mean"]
    assert signal(population, effect, case["n_total"], THIRDS) == pytest.approx(case["theta"], rel=1e-9)
    ratio = mixture(case["alpha"], case["tuning"])
    assert width(case["compared_n"], case["alpha"], ratio) == pytest.approx(case["z_seq"], rel=1e-9)
    at_end = always_valid_power_at_end(population, effect, case["n_total"], THIRDS, tuning=case["tuning"])
    assert at_end == pytest.approx(case["power_final_look"], rel=1e-6)
    any_look = always_valid_power(population, effect, case["n_total"], THIRDS, times=200, tuning=case["tuning"])
    assert any_look == pytest.approx(case["power_any_of_200_looks"], abs=0.003)


@cases("power/tea_tasting_power.json", "cases")
def test_tea_tasting(case):
    data = case["data"]
    left = 1.0
    if case["covariate"]:
        left -= data["cov"]["y|yx"] ** 2 / data["var"]["yx"] / data["var"]["y"]
    population, share = (
        Population(data["mean"]["y"], data["var"]["y"], unexplained=left),
        case["ratio"] / (1 + case["ratio"]),
    )
    design = Design(case["alpha"], case["alternative"], 1 - share, share, small=True)
    for expected in case["expected"]:
        effect, n = expected["effect_size"], expected["n_obs"]
        if case["solve"] == "power":
            assert power(population, effect, n, design) == pytest.approx(expected["power"], rel=1e-6)
        elif case["solve"] == "n_obs":
            assert units_needed(population, effect, design, case["power"]) == n
        else:
            assert detectable(population, n, design, case["power"]) == pytest.approx(effect, rel=1e-6)


@pytest.mark.parametrize(("side", "theirs"), [("two-sided", "two-sided"), ("greater", "larger"), ("less", "smaller")])
@pytest.mark.parametrize(("n", "ratio"), [(8, 1.0), (40, 0.5), (4000, 3.0)])
def test_statsmodels_agrees(n, ratio, side, theirs):
    total, effect = n * (1 + ratio), 0.5 if side != "less" else -0.5
    for small, other in ((True, TTestIndPower()), (False, NormalIndPower())):
        design = Design(0.05, side, 1 / (1 + ratio), ratio / (1 + ratio), small=small)
        found = power(Population(10.0, 4.0), effect, total, design)
        expected = other.power(effect / 2, n, 0.05, ratio=ratio, alternative=theirs)
        # statsmodels pools the variances, which for unequal variants leaves other degrees of freedom
        assert found == pytest.approx(expected, rel=1e-6 if not small or ratio == 1 else 2e-2)


@settings(max_examples=40)
@given(
    mean=st.floats(0.02, 0.5),
    relative=st.floats(0.01, 0.5),
    target=st.floats(0.3, 0.95),
    side=st.sampled_from(["two-sided", "greater"]),
    scale=st.sampled_from(["absolute", "relative"]),
    kind=st.sampled_from(["mean", "proportion"]),
)
def test_the_inverses_invert(mean, relative, target, side, scale, kind):
    population = Population(mean, 1.0, kind)
    design = Design(0.05, side, 0.3, 0.5, scale)
    effect = mean * relative
    n = units_needed(population, effect, design, target)
    assert power(population, effect, n, design) >= target
    if n > 10:
        assert power(population, effect, n - max(1, n // 10**8), design) < target + 1e-6
    smallest = detectable(population, n, design, target)
    assert smallest == pytest.approx(effect, rel=0.05 if n < 100 else 1e-2)


def test_a_decrease_is_found_below():
    design = Design(alternative="less")
    found = detectable(Population(0.2, kind="proportion"), 5000, design)
    assert found < 0
    assert power(Population(0.2, kind="proportion"), found, 5000, design) == pytest.approx(0.8)


@pytest.mark.parametrize(("side", "effect"), [("less", 0.02), ("greater", -0.02)])
def test_no_number_of_units_shows_what_is_not_looked_for(side, effect):
    with pytest.raises(InvalidAnalysisError, match="turn its sign"):
        units_needed(Population(0.2, kind="proportion"), effect, Design(alternative=side))


def simulated(bounds, information, drift, count=20_000):
    random = np.random.default_rng(2)
    steps = np.diff(information, prepend=0)
    paths = np.cumsum(random.normal(drift * steps, np.sqrt(steps), size=(count, len(steps))), axis=1)
    return (np.abs(paths / np.sqrt(information)) > bounds).any(axis=1).mean()


def test_sequential_power_by_simulation():
    population, n, design = Population(1.0, 4.0), 20_000, Design()
    times = looks(50)
    for effect in (0.05, 0.1):
        drift = signal(population, effect, n, design)
        bounds = width(times * n, 0.05, mixture(0.05))
        kept = times * n / 2 >= 100
        expected = simulated(bounds[kept], times[kept], drift)
        assert always_valid_power(population, effect, n, design) == pytest.approx(expected, abs=0.012)


def test_sequential_power_lies_between():
    population, effect, n = Population(1.0, 4.0), 0.08, 20_000
    fixed = power(population, effect, n, Design())
    planned = group_sequential_power(population, effect, n, Design())
    streaming = always_valid_power(population, effect, n, Design())
    at_end = always_valid_power_at_end(population, effect, n, Design())
    assert at_end < streaming < planned < fixed
    for side, sign in (("greater", 1), ("less", -1)):
        design = Design(alternative=side)
        one = always_valid_power(population, effect * sign, n, design)
        assert one > streaming
        assert always_valid_power(population, -effect * sign, n, design) < 0.05
        assert always_valid_power_at_end(population, effect * sign, n, design) < one


def test_no_look_before_there_are_enough_units():
    assert always_valid_power(Population(1.0, 1.0), 5.0, 150, Design()) == 0.0
    assert always_valid_power(Population(1.0, 1.0), 5.0, 250, Design()) > 0.99


def test_units_needed_for_sequential_power():
    population, effect = Population(0.1, kind="proportion"), 0.01
    fixed = units_needed(population, effect, Design())

    def reach(n):
        return always_valid_power(population, effect, n, Design(), times=20)

    needed = units_needed(population, effect, Design(), reach=reach)
    assert 1.2 * fixed < needed < 3 * fixed
    assert reach(needed) >= 0.8 > reach(needed * 0.99)


def test_what_cannot_be_seen():
    assert isinstance(units_needed(Population(1.0, 1.0), 1e-9, Design()), NotEstimable)
    assert isinstance(detectable(Population(0.99, kind="proportion"), 20, Design()), NotEstimable)


@pytest.mark.parametrize(
    "call",
    [
        lambda: Population(0.0, kind="proportion"),
        lambda: Population(1.0, kind="proportion"),
        lambda: Population(math.nan, 1.0),
        lambda: Population(1.0, 0.0),
        lambda: Population(1.0, math.inf),
        lambda: Design(alpha=0.0),
        lambda: Design(alpha=math.nan),
        lambda: Design(control_share=0.0),
        lambda: Design(control_share=0.7, treatment_share=0.7),
        lambda: power(Population(0.5, kind="proportion"), 0.6, 100, Design()),
        lambda: power(Population(1.0, 1.0), 0.1, 3, Design()),
        lambda: power(Population(1.0, 1.0), 0.1, math.inf, Design()),
        lambda: power(Population(0.0, 1.0), 0.1, 100, Design(scale="relative")),
        lambda: units_needed(Population(1.0, 1.0), 0.0, Design()),
        lambda: units_needed(Population(1.0, 1.0), math.nan, Design()),
        lambda: units_needed(Population(1.0, 1.0), 0.1, Design(), target=0.01),
        lambda: units_needed(Population(1.0, 1.0), 0.1, Design(), target=1.0),
        lambda: detectable(Population(1.0, 1.0), 100, Design(), target=math.nan),
        lambda: always_valid_power(Population(1.0, 1.0), 0.1, 1000, Design(), times=0),
        lambda: always_valid_power_at_end(Population(1.0, 1.0), 0.1, 0, Design()),
    ],
)
def test_designs_that_make_no_sense_are_refused(call):
    with pytest.raises(InvalidAnalysisError):
        call()

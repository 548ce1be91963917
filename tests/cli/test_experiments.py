"""`crossfade experiments power`: what it finds, what it shows, what it refuses; no server, no platform."""

import json
import sys

import pytest
from statsmodels.stats.power import TTestIndPower

from crossfade.methods.stats import distributions
from tests.cli.test_main import modules_after


@pytest.fixture
def power(cli):
    def run(*options):
        return cli("experiments", "power", *options)

    return run


@pytest.fixture
def report(power):
    def run(*options):
        result = power(*options, "--format", "json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


def test_units_for_an_effect(report):
    found = report("--baseline", 0.1, "--effect", "10%", "--mode", "fixed", "--per-day", 1000)
    assert found["solved"] == "units"
    assert found["units"] == sum(found["units_by_variant"])
    assert found["effect"] == pytest.approx(0.01)
    assert found["relative_effect"] == pytest.approx(0.1)
    assert 0.8 <= found["power"] < 0.801
    assert found["days"] == pytest.approx(found["units"] / 1000)
    # the textbook: 16 p (1 - p) / effect^2 in each variant
    assert found["units"] == pytest.approx(2 * 16 * 0.1 * 0.9 / 0.01**2, rel=0.05)


def test_a_percentage_and_an_amount_are_the_same(report):
    options = ("--kind", "mean", "--baseline", -20, "--sd", 30, "--mode", "fixed", "--effect")
    assert report(*options, "5%") == report(*options, "1")


def test_a_fall_takes_as_many_units_as_a_rise(report):
    options = ("--kind", "mean", "--baseline", 20, "--sd", 30, "--mode", "fixed")
    found = report(*options, "--effect", "-5%", "--alternative", "less")
    assert found["effect"] == -1.0
    assert found["units"] == report(*options, "--effect", "5%", "--alternative", "greater")["units"]


def test_the_smallest_effect_and_the_power(report):
    options = ("--kind", "mean", "--baseline", 12, "--sd", 30, "--units", 40000, "--mode", "fixed")
    found = report(*options)
    assert found["solved"] == "effect"
    expected = TTestIndPower().solve_power(nobs1=20000, alpha=0.05, power=0.8) * 30
    assert found["effect"] == pytest.approx(expected, rel=1e-5)  # as far as the solver of statsmodels goes
    again = report(*options, "--effect", found["effect"])
    assert again["solved"] == "power"
    assert again["power"] == pytest.approx(0.8, abs=1e-6)


def test_treatments_and_metrics_share_alpha(report, power):
    options = ("--kind", "mean", "--baseline", 12, "--sd", 30, "--effect", 1, "--mode", "fixed")
    among = report(*options, "--weights", "1,1,1", "--metrics", 2)
    assert among["comparisons"] == 4
    each = TTestIndPower().solve_power(effect_size=1 / 30, alpha=0.05 / 4, power=0.8)
    assert among["units"] == pytest.approx(3 * each, rel=1e-3)
    assert "0.05, two-sided, shared by 4 comparisons" in power(*options, "--weights", "1,1,1", "--metrics", 2).stdout


def test_looking_more_often_costs_units(report):
    options = ("--baseline", 0.1, "--effect", "10%", "--mode")
    fixed, planned, streaming = (report(*options, mode) for mode in ("fixed", "group_sequential", "always_valid"))
    assert fixed["units"] < planned["units"] < 1.1 * fixed["units"]
    assert 1.2 * fixed["units"] < streaming["units"] < 3 * fixed["units"]
    assert (fixed["looks"], planned["looks"], streaming["looks"]) == (1, 5, 20)
    assert report("--baseline", 0.1, "--effect", "10%") == streaming, "the default survives looking at any time"


def test_what_was_known_before_saves_units(report):
    options = ("--kind", "ratio", "--baseline", 0.3, "--sd", 1.1, "--effect", "2%", "--mode", "fixed")
    plain, adjusted = report(*options), report(*options, "--covariate", 0.7)
    assert adjusted["units"] / plain["units"] == pytest.approx(1 - 0.7**2, rel=0.01)


def test_weights_count_the_smallest_treatment(report):
    options = ("--baseline", 0.1, "--effect", "10%", "--mode", "fixed", "--weights")
    even, three = report(*options, "50,50"), report(*options, "60,30,10")
    assert [round(count / three["units"], 3) for count in three["units_by_variant"]] == [0.6, 0.3, 0.1]
    assert three["units"] > 2 * even["units"]


def test_people_see_a_sheet(power):
    result = power("--baseline", 0.1, "--effect", "5%", "--mode", "fixed", "--per-day", 20000)
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert set(lines) == {"units", "control", "treatment", "days", "effect", "power", "alpha", "mode"}
    assert lines["effect"] == "0.005 (+5.000% of the baseline)"
    assert lines["mode"] == "one look at the end"
    assert int(lines["days"]) == -(-int(lines["units"].replace(",", "")) // 20000)
    assert "hint: see what looking every day costs" in result.stderr
    assert "treatment 2" in power("--baseline", 0.1, "--effect", "5%", "--weights", "1,1,1").stdout


def test_scripts_get_the_number_that_was_looked_for(power, report):
    options = ("--baseline", 0.1, "--effect", "5%", "--mode", "fixed")
    assert int(power(*options, "--format", "quiet").stdout) == report(*options)["units"]
    assert 0 < float(power(*options, "--units", 5000, "--format", "quiet").stdout) < 0.5


def test_what_cannot_be_seen_is_said(power):
    result = power("--baseline", 0.99, "--units", 20, "--mode", "fixed")
    assert result.exit_code == 1
    assert "not estimable" in result.stdout
    assert "no effect is large enough" in result.stdout
    assert json.loads(power("--baseline", 0.99, "--units", 20, "--format", "json").stdout)["type"] == "not_estimable"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--baseline", 0.1), "give `--effect`, `--units`, or both"),
        (("--baseline", 0.1, "--effect", "5%", "--alternative", "less"), "looks for effects below zero"),
        (("--baseline", 0.1, "--effect", "-5%", "--alternative", "greater", "--units", 500), "turn its sign"),
        (("--baseline", 0.1, "--effect", "1%", "--units", 5000, "--power", 0.8), "nothing for `--power`"),
        (("--baseline", 0.1, "--effect", "much"), "neither a number nor a percentage"),
        (("--baseline", 0.1, "--effect", "1%", "--weights", "a,b"), "not a list of numbers"),
        (("--baseline", 0.1, "--effect", "1%", "--weights", "100"), "weights are two or more numbers above zero"),
        (("--baseline", 0.1, "--effect", "1%", "--weights", "50,0"), "weights are two or more numbers above zero"),
        (("--baseline", 0.1, "--effect", "1%", "--weights", "nan,1"), "weights are two or more numbers above zero"),
        (("--baseline", 1.5, "--effect", "1%"), "a rate of 1.5 is not between 0 and 1"),
        (("--baseline", 0.9, "--effect", "50%"), "the rate would be 1.35"),
        (("--baseline", "nan", "--effect", "1%"), "a rate of nan"),
        (("--baseline", 0.1, "--effect", "0%"), "an effect of 0.0 cannot be looked for"),
        (("--baseline", 0.1, "--effect", "nan%"), "an effect of nan cannot be looked for"),
        (("--baseline", 0.1, "--effect", "1%", "--alpha", 0), "alpha is 0.0, which is not between 0 and 1"),
        (("--baseline", 0.1, "--effect", "1%", "--power", 1), "the power is 1.0, which is not between 0 and 1"),
        (("--baseline", 0.1, "--effect", "1%", "--power", 0.01), "a power of 0.01 is no more than alpha"),
        (("--baseline", 0.1, "--effect", "1%", "--looks", 0), "0 looks"),
        (("--baseline", 0.1, "--effect", "1%", "--looks", 10**9), "1000000000 looks"),
        (("--baseline", 0.1, "--effect", "1%", "--per-day", 0), "0.0 units do not come in a day"),
        (("--baseline", 0.1, "--units", -5), "-5 is no number of units"),
        (("--baseline", 0.1, "--units", 0, "--effect", "1%"), "0 is no number of units"),
        (("--baseline", 0.1, "--units", 1), "leave a variant fewer than two"),
        (("--baseline", 0.1, "--effect", "1%", "--sd", 2), "leave out `--sd`"),
        (("--kind", "mean", "--baseline", 5, "--effect", "1%"), "a mean needs `--sd`"),
        (("--kind", "mean", "--baseline", 5, "--effect", "1%", "--sd", 0), "a variance of 0.0 is not above zero"),
        (("--baseline", 0.1, "--effect", "1%", "--covariate", 1), "between -1 and 1"),
    ],
)
def test_plans_that_make_no_sense_are_refused(power, options, sentence):
    result = power(*options)
    assert result.exit_code == 2, result.output
    assert sentence in result.stderr
    assert result.stderr.count("hint: ") == 1


def test_it_needs_no_platform(cli, power):
    assert power("--baseline", 0.1, "--effect", "5%").exit_code == 0
    assert not cli.home.exists()


def test_without_scipy_it_says_what_to_install(power, monkeypatch):
    distributions.special.cache_clear()
    monkeypatch.setitem(sys.modules, "scipy", None)
    result = power("--baseline", 0.1, "--effect", "5%")
    assert result.exit_code == 7
    assert "hint: pip install 'crossfade[experiments]'" in result.stderr


def test_its_help_imports_neither_numpy_nor_scipy():
    assert {"numpy", "scipy", "scipy.special"} & modules_after("experiments", "power", "--help") == set()

"""A smaller, seeded part of `make calibrate`, and that its shortcuts are the product."""

import numpy as np
import pytest

from crossfade.methods.stats.error_rate import ErrorRate
from tests.calibration import checks, pipeline
from tests.calibration.streams import KINDS, simulate

pytestmark = pytest.mark.slow


def keep(figures):
    broken = [figure for figure in figures if not figure.kept]
    assert not broken


@pytest.mark.parametrize("name", KINDS)
def test_false_positives(name):
    keep(checks.false_positives(name, 150))


@pytest.mark.parametrize("name", KINDS)
def test_coverage_and_power(name):
    keep(checks.coverage_and_power(name, 150))


@pytest.mark.parametrize("name", pipeline.METRICS)
def test_from_units_to_reports(name):
    keep(pipeline.pipeline(name, 15, methods=("always_valid", "fixed")))


def test_from_units_to_reports_at_planned_looks():
    keep(pipeline.pipeline("mean", 8, methods=("group_sequential",)))


def test_weights_that_change():
    keep(pipeline.ramp(10))


@pytest.mark.parametrize("name", pipeline.RARE)
def test_unequal_variants(name):
    keep(pipeline.unequal(name, 6))


def test_guardrails():
    keep(pipeline.guardrail(20))


def test_arrivals_as_they_should():
    keep(pipeline.arrivals_as_they_should(100))


def test_many_metrics():
    keep(checks.many_metrics(200))


def test_sample_ratio():
    keep(checks.sample_ratio(100))


@pytest.mark.parametrize("rate", [0.01, 0.1])
def test_healthy_canaries_stay(rate):
    keep(checks.healthy_canary(rate, 100))


@pytest.mark.parametrize(("factor", "most"), [(10, 7), (3, 20)])
def test_sick_canaries_go(factor, most):
    keep(checks.sick_canary(factor, most, 60))


def test_looking_at_plain_p_values_would_fail():
    """The check can fail: what everybody does, looking at a fixed-horizon test 50 times, breaks the limit far."""
    stream = simulate("mean", experiments=200, seed=1)
    rate = (np.abs(stream.z) > 1.96).any(axis=1).mean()
    assert rate > 0.2
    assert not checks.at_most("peeking", rate, 0.05, 200).kept


def test_the_evidence_of_many_canaries_is_that_of_one():
    random = np.random.default_rng(1)
    canary, baseline = random.integers(1, 50, (1, 30)), random.integers(1, 400, (1, 30))
    bad_canary, bad_baseline = random.binomial(canary, 0.1), random.binomial(baseline, 0.05)
    test = ErrorRate.worse()
    together = checks._evidence(canary, baseline, bad_canary, bad_baseline)[0]
    for look, expected in enumerate(together):
        window = (canary, baseline, bad_canary, bad_baseline)
        names = ("canary", "baseline", "bad_canary", "bad_baseline")
        test = test.observe(**{name: int(each[0, look]) for name, each in zip(names, window, strict=True)})
        assert np.exp(test.log_evidence) == pytest.approx(expected)

"""How soon a plan would see that errors double, against simulated rollouts."""

import numpy as np
import pytest

from crossfade.methods.stats.error_rate import ErrorRate
from crossfade.releases.checks.spec import ErrorRateCheck
from crossfade.releases.forecast import ASSUMED_RATE, forecast, requests_to_see
from crossfade.releases.plan import PRESETS, RolloutPlan, Step
from crossfade.releases.requests import RolloutRequest
from tests.releases.life import PLAN, answered


def seen_after(random, ratio, weight, rate, alpha, look=20):
    """Return how many requests of the new version a simulated rollout took to see it."""
    test, requests, old = ErrorRate.worse(), 0, round(look * (1 - weight) / weight)
    while test.p_value > alpha:
        requests += look
        bad, before = random.binomial(look, ratio * rate), random.binomial(old, rate)
        test = test.observe(canary=look, baseline=old, bad_canary=int(bad), bad_baseline=int(before))
    return requests


@pytest.mark.parametrize(("ratio", "weight", "rate"), [(2.0, 0.1, 0.02), (3.0, 0.1, 0.02), (2.0, 0.5, 0.05)])
def test_about_half_of_simulated_rollouts_see_it_by_then(ratio, weight, rate):
    random = np.random.default_rng(5)
    foreseen = requests_to_see(ratio, weight, rate, 0.01)
    found = np.array([seen_after(random, ratio, weight, rate, 0.01) for _ in range(60)])
    assert 0.25 < (found <= foreseen).mean() < 0.85
    assert 0.5 < np.median(found) / foreseen < 1.5


def test_more_of_the_same_takes_fewer_requests():
    by_ratio = [requests_to_see(ratio, 0.1, 0.01, 0.01) for ratio in (1.5, 2.0, 3.0, 10.0)]
    by_rate = [requests_to_see(2.0, 0.1, rate, 0.01) for rate in (0.001, 0.01, 0.1)]
    by_alpha = [requests_to_see(2.0, 0.1, 0.01, alpha) for alpha in (0.001, 0.01, 0.1)]
    for found in (by_ratio, by_rate, by_alpha):
        assert found == sorted(found, reverse=True)
        assert len(set(found)) == len(found)


def test_what_cannot_be_seen_is_said_to_be_so():
    assert requests_to_see(2.0, 0.1, 1e-9, 0.01) is None
    assert requests_to_see(1.0, 0.1, 0.01, 0.01) is None


def of(stage, plan):
    rehearsed = stage.store.create(RolloutRequest("m", "1.0.1", plan), dry_run=True)
    return forecast(rehearsed, stage.health)


def test_without_traffic_a_rate_is_assumed_and_no_time_is_said(stage):
    found = of(stage, PLAN)
    assert (found.base_rate, found.assumed, found.requests_per_second) == (ASSUMED_RATE, True, 0.0)
    assert (found.stable, found.candidate, found.seconds) == ("1.0.0", "1.0.1", 20.0)
    assert found.steps[0].requests_to_see > 0
    assert found.steps[0].seconds_to_see is None
    assert found.steps[-1].requests_to_see is None, "at the end there is nothing to compare with"


def test_the_present_traffic_says_how_long_it_takes(stage):
    for _ in range(60):
        stage.clock.advance(1)
        stage.serve(v0=answered(100, 5))
    found = of(stage, PLAN)
    assert found.base_rate == pytest.approx(0.05)
    assert not found.assumed
    assert found.requests_per_second == pytest.approx(100.0), "of the minute since the first came"
    step = found.steps[0]
    assert step.seconds_to_see == pytest.approx(step.requests_to_see / 10.0)


def test_long_traffic_is_that_of_the_last_five_minutes_and_one_request_is_no_traffic(stage):
    stage.clock.advance(1)
    stage.serve(v0=answered(5))
    assert of(stage, PLAN).requests_per_second == pytest.approx(0.5), "the first ten seconds count as ten"
    stage.clock.advance(240)
    stage.serve(v0=answered(59))
    assert of(stage, PLAN).requests_per_second == pytest.approx(64 / 241)
    stage.clock.advance(100)
    assert of(stage, PLAN).requests_per_second == pytest.approx(59 / 101)


def test_that_nothing_has_failed_is_not_said_to_be_a_rate(stage):
    stage.clock.advance(1)
    stage.serve(v0=answered(500))
    found = of(stage, PLAN)
    assert (found.assumed, found.base_rate) == (True, ASSUMED_RATE)


def test_a_plan_without_such_a_check_sees_nothing(stage):
    assert [step.requests_to_see for step in of(stage, RolloutPlan((Step(0.1), Step(1.0)))).steps] == [None, None]
    only_slow = RolloutPlan((Step(0.1), Step(1.0)), checks=(ErrorRateCheck("slow", events=("slow",)),))
    assert of(stage, only_slow).steps[0].requests_to_see is None


def test_a_shadow_sees_as_much_as_half_of_the_traffic(stage):
    found = of(stage, PRESETS["shadow-first"])
    assert found.steps[0].requests_to_see == found.steps[2].requests_to_see

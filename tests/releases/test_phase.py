"""What the results of a check add up to."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.releases.checks.phase import CheckCounts, CheckResult, Limits, worst

CASES = Path(__file__).parents[3] / "shared" / "cases" / "canary" / "argo_metric_phase.json"
_NAMES = {
    "Failed": CheckResult.FAIL,
    "Inconclusive": CheckResult.INCONCLUSIVE,
    "Error": CheckResult.ERROR,
    "Successful": CheckResult.PASS,
    "Running": CheckResult.PENDING,
    "Pending": CheckResult.PENDING,
}


@pytest.mark.skipif(not CASES.exists(), reason=f"{CASES} is not there")
def test_it_agrees_with_argo_rollouts_while_a_step_runs():
    for case in json.loads(CASES.read_text())["cases"]:
        metric, result = case["metric"], case["result"]
        limits = Limits(
            metric.get("failure_limit", 0),
            metric.get("inconclusive_limit", 0),
            metric.get("error_limit", 4),
            metric.get("count", 0),
            metric.get("consecutive_success_limit", 0),
        )
        counts = CheckCounts(
            result.get("successful", 0),
            result.get("failed", 0),
            result.get("inconclusive", 0),
            result.get("error", 0),
            result.get("consecutive_success", 0),
            result.get("consecutive_error", 0),
        )
        assert counts.phase(limits) is _NAMES[case["expected"]], case["name"]


def counted(*results):
    counts = CheckCounts()
    for result in results:
        counts = counts.count(result)
    return counts


def test_nothing_measured_is_no_pass():
    assert CheckCounts().phase(Limits()) is CheckResult.PENDING
    assert counted(CheckResult.NO_TRAFFIC, CheckResult.PENDING).phase(Limits()) is CheckResult.PENDING


def test_errors_count_only_in_a_row():
    error, passed = CheckResult.ERROR, CheckResult.PASS
    assert counted(*[error] * 5).phase(Limits()) is CheckResult.ERROR
    assert counted(*[error] * 4, passed, *[error] * 4).phase(Limits()) is CheckResult.PASS


def test_an_error_never_hides_a_failure():
    assert counted(CheckResult.FAIL, *[CheckResult.ERROR] * 9).phase(Limits()) is CheckResult.FAIL


def test_enough_in_a_row_is_as_good_as_enough_in_all():
    limits = Limits(failures=9, successes=10, successes_in_a_row=3)
    passed, failed = CheckResult.PASS, CheckResult.FAIL
    assert counted(passed, passed, failed, passed, passed).phase(limits) is CheckResult.PENDING
    assert counted(passed, failed, passed, passed, passed).phase(limits) is CheckResult.PASS


@given(st.lists(st.sampled_from(CheckResult)))
def test_more_measurements_never_turn_a_failure_into_anything_else(results):
    counts, seen = CheckCounts(), []
    for result in results:
        counts = counts.count(result)
        seen.append(counts.phase(Limits()))
    if CheckResult.FAIL in seen:
        assert set(seen[seen.index(CheckResult.FAIL) :]) == {CheckResult.FAIL}


@given(st.lists(st.sampled_from(CheckResult), min_size=1))
def test_the_worst_of_several_is_one_of_them(results):
    order = list(CheckResult)
    assert worst(results) is max(results, key=order.index)

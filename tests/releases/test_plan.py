"""What can be planned."""

import math
from datetime import UTC, datetime

import msgspec
import pytest

from crossfade.errors import InvalidPlanError
from crossfade.ledger.metrics import MetricSpec
from crossfade.releases.checks.spec import ErrorRateCheck, ExperimentCheck, MetricCheck, ThresholdCheck, WebhookCheck
from crossfade.releases.plan import PRESETS, RolloutPlan, Step, preset

END = Step(1.0)
ERRORS = ErrorRateCheck("errors")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_can_be(name):
    plan = preset(name)
    assert plan.checked() == plan
    assert plan.checks or name == "immediate", "a preset watches something"


def test_there_are_no_other_presets():
    with pytest.raises(InvalidPlanError, match="careful, fast"):
        preset("reckless")


def test_a_plan_survives_json():
    plan = RolloutPlan(
        (Step(0.1, hold_seconds=5, not_before=datetime(2026, 1, 1, tzinfo=UTC), checks=("errors",)), END),
        checks=(
            ERRORS,
            MetricCheck("late", MetricSpec("late", kind="proportion", direction="down", margin=0.1)),
            ThresholdCheck("p99", series="p99_seconds", maximum=0.2),
            ThresholdCheck("burn", query="sum(rate(x[5m]))", minimum=1),
            ExperimentCheck("trial", "late_flights"),
            WebhookCheck("gate", "https://example.com/gate"),
        ),
    )
    assert msgspec.json.decode(msgspec.json.encode(plan), type=RolloutPlan) == plan
    assert plan.checked() == plan


def test_a_step_can_name_the_checks_that_count_in_it():
    plan = RolloutPlan((Step(0.1, checks=()), Step(0.5, checks=("b",)), END), checks=(ERRORS, ErrorRateCheck("b")))
    assert [tuple(check.name for check in plan.checks_of(step)) for step in range(3)] == [(), ("b",), ("errors", "b")]


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (RolloutPlan(()), "0 steps"),
        (RolloutPlan((END,) * 101), "101 steps"),
        (RolloutPlan((Step(0.5),)), "last step"),
        (RolloutPlan((Step(0.5), Step(0.4), END)), "less than the step before"),
        (RolloutPlan((Step(math.nan), END)), "weight of step 1"),
        (RolloutPlan((Step(-0.1), END)), "weight of step 1"),
        (RolloutPlan((Step(0.1, shadow=True), END)), "is a shadow, and has a weight"),
        (RolloutPlan((Step(0.1, hold_seconds=-1), END)), "hold_seconds"),
        (RolloutPlan((Step(0.1, hold_seconds=math.inf), END)), "hold_seconds"),
        (RolloutPlan((Step(0.1, minimum_units=-1), END)), "units"),
        (RolloutPlan((Step(0.1, minimum_units=10**20), END)), "step 1 wants 1(0){20} units"),
        (RolloutPlan((END,), checks=(ErrorRateCheck("e", success_count=10**20),)), "`success_count`"),
        (RolloutPlan((END,), checks=(ErrorRateCheck("e", error_limit=10**20),)), "`error_limit`"),
        (
            RolloutPlan((END,), checks=(ThresholdCheck("t", query="x", minimum=2, maximum=1),)),
            "at least 2 and at most 1",
        ),
        (
            RolloutPlan((Step(0.1, 40), Step(1.0, 40)), deadline_seconds=79),
            "hold for 80 seconds, and `deadline_seconds` is 79, less than that",
        ),
        (RolloutPlan((Step(0.1, checks=("other",)), END)), "does not have"),
        (RolloutPlan((END,), checks=(ERRORS, ERRORS)), "2 times"),
        (RolloutPlan((END,), checks=(ErrorRateCheck("Not a slug"),)), "Not a slug"),
        (RolloutPlan((END,), checks=(ErrorRateCheck("e", events=()),)), "at least one"),
        (RolloutPlan((END,), checks=(ErrorRateCheck("e", alpha=0),)), "alpha"),
        (RolloutPlan((END,), checks=(ErrorRateCheck("e", tolerated=math.nan),)), "tolerates"),
        (RolloutPlan((END,), checks=(ErrorRateCheck("e", margin=0),)), "margin"),
        (RolloutPlan((END,), checks=(ErrorRateCheck("e", interval_seconds=0),)), "every 0"),
        (RolloutPlan((END,), checks=(ErrorRateCheck("e", failure_limit=-1),)), "`failure_limit` -1, and 0 to 1000000"),
        (RolloutPlan((END,), checks=(ThresholdCheck("t", maximum=1),)), "either a `series` or a `query`"),
        (RolloutPlan((END,), checks=(ThresholdCheck("t", series="error_rate"),)), "`maximum`"),
        (RolloutPlan((END,), checks=(ThresholdCheck("t", series="error_rate", maximum=math.inf),)), "no number"),
        (RolloutPlan((END,), checks=(ThresholdCheck("t", query="x" * 10_001, maximum=1),)), "10000 characters"),
        (RolloutPlan((END,), checks=(MetricCheck("m", MetricSpec("q", kind="quantile", level=0.9)),)), "quantile"),
        (RolloutPlan((END,), checks=(MetricCheck("m", MetricSpec("NO")),)), "metric that cannot be"),
        (RolloutPlan((END,), deadline_seconds=math.nan), "deadline_seconds"),
        (RolloutPlan((END,), no_traffic_seconds=-1), "no_traffic_seconds"),
        (RolloutPlan(("x",)), "no plan"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_words(plan, words):
    with pytest.raises(InvalidPlanError, match=words):
        plan.checked()


@pytest.mark.parametrize(
    "plan",
    [
        RolloutPlan((Step(0.1, 40), Step(1.0, 40)), deadline_seconds=80),
        RolloutPlan((Step(0.1, 40), Step(1.0, 40)), deadline_seconds=0),
        RolloutPlan((Step(0.1, 40, approval=True), Step(1.0, 40)), deadline_seconds=40),
        RolloutPlan((END,), checks=(ThresholdCheck("t", query="x", minimum=1, maximum=1),)),
    ],
)
def test_a_plan_that_can_end_is_let_through(plan):
    assert plan.checked() == plan


def test_a_return_needs_no_steps():
    assert PRESETS["immediate"].checked().steps == (END,)

"""Experiments as people see them."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from crossfade.cli.experiment_sheets import bandit_sheet, experiment_sheet, one_experiment
from crossfade.cli.output import moment
from crossfade.core.clock import utc_now
from crossfade.experiments.analysis_spec import DecisionSpec
from crossfade.experiments.learned import BanditReport
from crossfade.experiments.record import Experiment, Status, Verdict
from crossfade.experiments.spec import BanditSpec, ExperimentSpec, Variant
from crossfade.methods.bandits.beta_thompson import BetaThompson
from crossfade.methods.bandits.contextual import Feature
from crossfade.methods.bandits.lin_ucb import LinUCB
from crossfade.traffic.allocation.segments import Segment
from crossfade.traffic.allocation.specs import RampStep

NOW = datetime(2026, 3, 2, tzinfo=UTC)
BOTH = (Variant("old", 0.5, "1.0.0"), Variant("new", 0.5, "1.1.0"))
BY_CONTEXT, BY_SLOTS = LinUCB(features=(Feature("age"),)), BetaThompson()


def experiment(policy, weights):
    spec = ExperimentSpec("offers", BOTH, model="m", sticky=False, bandit=BanditSpec(policy, "click"))
    return Experiment("offers", "m", "bandit", Status.DRAFT, spec, 0, weights, 1.0, {}, NOW, "ada")


def test_weights_are_told_where_there_are_some():
    item = experiment(BY_SLOTS, {"old": 0.25, "new": 0.75})
    assert "old 0.25, new 0.75" in experiment_sheet([item]).rows[0]
    assert dict(one_experiment(item).rows)["variant new"] == "0.75, 1.1.0"


def test_where_the_context_decides_there_are_none():
    item = experiment(BY_CONTEXT, {})
    assert "by context" in experiment_sheet([item]).rows[0]
    assert dict(one_experiment(item).rows)["variant new"] == "by context, 1.1.0"


@pytest.mark.parametrize(("variant", "told"), [("", "keep: latched"), ("new", "keep new: latched")])
def test_a_decision_may_be_about_no_variant(variant, told):
    decided = Verdict("keep", variant, "latched", "auto")
    item = msgspec.structs.replace(experiment(BY_SLOTS, {}), verdict=decided)
    assert dict(one_experiment(item).rows)["decision"] == told


@pytest.mark.parametrize(("weights", "told"), [({}, "by context"), ({"old": 0.25, "new": 0.75}, None)])
def test_of_a_bandit_too(weights, told):
    report = BanditReport("offers", "lin_ucb", weights, {}, 7, 0, NOW)
    assert dict(bandit_sheet(report).rows).get("weights") == told


def test_why_there_are_no_chances():
    report = BanditReport("offers", "ucb1", {"old": 1.0}, {}, 7, 0, NOW, reason="nothing is known")
    assert dict(bandit_sheet(report).rows)["chances"] == "not estimable: nothing is known"


def shown(status=Status.RUNNING, **fields):
    spec = ExperimentSpec("offers", BOTH, model="m", **fields)
    return dict(one_experiment(Experiment("offers", "m", "split", status, spec, 0, {}, 1.0, {}, NOW, "ada")).rows)


def test_when_which_units_take_part_and_what_follows_is_shown_where_it_was_said():
    rows = shown(
        start_at=NOW,
        end_at=NOW + timedelta(days=7),
        ramp=(RampStep(NOW + timedelta(days=1), 0.5), RampStep(NOW + timedelta(days=2), 1.0)),
        segment=Segment({"country": "DE"}),
        overrides={"eve": "new", "ada": "old"},
        dimensions=("country", "device"),
        decision=DecisionSpec(auto=True, minimum_runtime_seconds=7200.0, plan="fast"),
    )
    assert (rows["starts"], rows["ends"]) == (moment(NOW), moment(NOW + timedelta(days=7)))
    assert rows["ramp"] == f"0.5 from {moment(NOW + timedelta(days=1))}, 1 from {moment(NOW + timedelta(days=2))}"
    assert rows["segment"] == '{"country":"DE"}'
    assert rows["overrides"] == "2 units get a variant by name"
    assert rows["dimensions"] == "country, device"
    assert (rows["decides"], rows["minimum runtime"]) == ("by itself", "2 hours")
    assert rows["ships by"] == "a rollout with the plan `fast`"
    plain = shown(decision=DecisionSpec(minimum_runtime_seconds=0.0))
    assert set(plain) == {"experiment", "status", "kind", "model", "variant old", "variant new"} | {
        "coverage",
        "analysis",
        "created",
    }


def test_a_schedule_by_which_nobody_takes_part_is_told():
    hour = timedelta(hours=1)
    before, after = utc_now() - hour, utc_now() + hour
    assert shown(start_at=after)["schedule"] == f"not started yet, starts at {moment(after)}: nobody takes part"
    assert shown(end_at=before)["schedule"] == f"over since {moment(before)} by its schedule: nobody takes part"
    assert "schedule" not in shown(start_at=before, end_at=after)
    assert "schedule" not in shown(Status.DRAFT, start_at=after), "it is the status that says so"

"""Experiments as people see them."""

from datetime import UTC, datetime

import msgspec
import pytest

from crossfade.cli.experiment_sheets import bandit_sheet, experiment_sheet, one_experiment
from crossfade.experiments.learned import BanditReport
from crossfade.experiments.record import Experiment, Status, Verdict
from crossfade.experiments.spec import BanditSpec, ExperimentSpec, Variant
from crossfade.methods.bandits.beta_thompson import BetaThompson
from crossfade.methods.bandits.contextual import Feature
from crossfade.methods.bandits.lin_ucb import LinUCB

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

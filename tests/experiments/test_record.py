"""What people are shown of an experiment."""

from datetime import timedelta

import msgspec
import pytest

from crossfade.errors import ExperimentConflictError
from crossfade.experiments.judging import Judge
from crossfade.experiments.requests import DecideRequest
from crossfade.experiments.spec import BanditSpec
from crossfade.methods.bandits.contextual import Feature
from crossfade.methods.bandits.lin_ucb import LinUCB
from crossfade.traffic.allocation.specs import RampStep
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.switch import AliasSwitch
from tests.experiments.life import plan
from tests.experiments.support import START
from tests.traffic.support import FAST


def test_where_the_context_decides_no_variant_has_a_weight_and_each_can_be_shipped(store, registry, database):
    bandit = BanditSpec(LinUCB(features=(Feature("age"),)), "click")
    made, _ = store.create(plan(sticky=False, bandit=bandit))
    assert (made.weights, made.spec.contextual) == ({}, True)
    assert store.start("late").weights == {}
    judge = Judge(store, database, AliasSwitch(registry, Fleet(database, FAST), FAST))
    with pytest.raises(ExperimentConflictError, match="has no variant `none`"):
        judge.decide("late", DecideRequest("ship", "none"))
    assert judge.decide("late", DecideRequest("ship", "new")).verdict.variant == "new"


def test_other_weights_are_those_of_the_allocation(store):
    made, _ = store.create(plan())
    assert (made.weights, made.spec.contextual) == ({"old": 0.5, "new": 0.5}, False)


def test_time_counts_from_when_units_can_take_part():
    """Otherwise who starts it on Monday for Friday has had the minimum runtime before anybody came."""
    friday, saturday, ended = (START + timedelta(days=days) for days in (4, 5, 9))
    ramp = (RampStep(START + timedelta(days=1), 0.0), RampStep(saturday, 0.1))
    for changes, begins in (
        ({}, START),
        ({"start_at": START - timedelta(days=9)}, START),
        ({"start_at": friday}, friday),
        ({"coverage": 0.0, "ramp": ramp}, saturday),
        ({"coverage": 0.2, "ramp": ramp}, START),
        ({"start_at": friday, "coverage": 0.0, "ramp": ramp}, saturday),
    ):
        spec = msgspec.structs.replace(plan(), **changes)
        assert spec.question(START).started_at == begins
    assert not plan().question(START).cut_short
    assert plan().question(START, ended).cut_short
    assert not msgspec.structs.replace(plan(), end_at=friday).question(START, ended).cut_short

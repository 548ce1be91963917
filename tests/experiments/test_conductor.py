"""Bandits learn and decisions act by themselves, in one process at a time, and nothing that fails stops the others."""

import logging
import threading
from datetime import timedelta

import msgspec
import numpy as np
import pytest

from crossfade.errors import DatabaseUnavailableError, LatchedError
from crossfade.experiments.analysis_spec import DecisionSpec
from crossfade.experiments.conductor import Conductor
from crossfade.experiments.judging import AUTO, Judge
from crossfade.experiments.record import Status
from crossfade.experiments.spec import ExperimentSpec, Variant
from crossfade.ledger.metrics import MetricSpec
from crossfade.settings import ExperimentSettings, ServingSettings
from crossfade.storage.lease import Lease
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.switch import AliasSwitch
from tests.experiments.bandits import spec


class Theatre:
    """Conductors over one casino."""

    def __init__(self, casino):
        self.casino = casino
        registry = casino.store._registry
        switch = AliasSwitch(registry, Fleet(casino.database, ServingSettings()), ServingSettings())
        self.judge = Judge(casino.store, casino.database, switch, casino.clock)

    def conductor(self, seconds=30.0, poll=0.01):
        lease = Lease(self.casino.database, "experiments", seconds, self.casino.clock)
        settings = ExperimentSettings(poll_seconds=poll)
        return Conductor(self.casino.store, self.judge, self.casino.learner, lease, settings)


@pytest.fixture
def theatre(casino):
    return Theatre(casino)


def automatic(name="auto", **fields):
    """An experiment that decides by itself as soon as the numbers say so."""
    metric = MetricSpec("click", kind="proportion")
    both = (Variant("a", 0.5), Variant("b", 0.5))
    decision = DecisionSpec(auto=True, minimum_runtime_seconds=0)
    return ExperimentSpec(name, both, metrics=(metric,), decision=decision, **fields)


def test_a_bandit_learns_by_itself(casino, theatre):
    casino.begin(spec())
    casino.wait(10)
    casino.play("a", 50, 0)
    casino.play("b", 0, 50)
    casino.wait(10)
    theatre.conductor().turn()
    assert casino.weights()["a"] > casino.weights()["b"]
    assert casino.learner.report("coins").decisions == 100


def test_it_learns_only_as_often_as_it_was_told(casino, theatre):
    wanted = spec()
    wanted = msgspec.structs.replace(wanted, bandit=msgspec.structs.replace(wanted.bandit, update_seconds=3600.0))
    casino.begin(wanted)
    conductor = theatre.conductor()
    casino.wait(10)
    casino.play("a", 5, 5)
    casino.wait(10)
    conductor.turn()
    casino.play("a", 5, 5)
    casino.wait(10)
    conductor.turn()
    assert casino.learner.report("coins").decisions == 10


def test_a_decision_acts_once_and_says_who_and_why(casino, theatre):
    casino.begin(automatic())
    conductor = theatre.conductor()
    casino.wait(10)
    conductor.turn()
    assert casino.store.find("auto").status is Status.RUNNING
    casino.play("a", 50, 350, name="auto")
    casino.play("b", 150, 250, name="auto")
    casino.wait(10)
    conductor.turn()
    found = casino.store.find("auto")
    assert found.status is Status.DECIDED
    assert (found.verdict.action, found.verdict.variant, found.verdict.by) == ("ship", "b", AUTO)
    assert "`b` is significantly better on `click`" in found.verdict.reason
    conductor.turn()
    assert casino.store.find("auto") == found


def test_without_auto_nothing_is_decided(casino, theatre):
    wanted = msgspec.structs.replace(automatic(), decision=DecisionSpec(minimum_runtime_seconds=0))
    casino.begin(wanted)
    casino.play("a", 50, 350, name="auto")
    casino.play("b", 150, 250, name="auto")
    casino.wait(10)
    theatre.conductor().turn()
    assert casino.store.find("auto").status is Status.RUNNING


def test_one_process_at_a_time(casino, theatre):
    casino.begin(spec())
    first, second = theatre.conductor(), theatre.conductor()
    first.turn()
    casino.wait(10)
    casino.play("a", 5, 5)
    casino.wait(10)
    second.turn()  # the first one holds the lease
    assert casino.learner.report("coins").decisions == 0
    casino.wait(31)
    second.turn()
    assert casino.learner.report("coins").decisions == 10
    first.turn()
    second.close()
    casino.play("a", 5, 5)
    casino.wait(10)
    theatre.conductor().turn()
    assert casino.learner.report("coins").decisions == 20


def test_one_that_cannot_be_attended_to_does_not_stop_the_others(casino, theatre, monkeypatch, caplog):
    casino.begin(spec())
    casino.begin(automatic())
    casino.wait(10)
    casino.play("a", 5, 5)
    casino.wait(10)
    real = theatre.judge.decide

    def fail(name, *args, **kwargs):
        if name == "auto":
            raise DatabaseUnavailableError(problem="the disk is on fire")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(theatre.judge, "decide", fail)
    conductor = theatre.conductor()
    with caplog.at_level(logging.WARNING):
        conductor.turn()
        conductor.turn()
    assert casino.learner.report("coins").decisions == 10
    told = [record.message for record in caplog.records if "the disk is on fire" in record.message]
    assert len(told) == 1  # once, until it changes


def test_a_bug_that_one_experiment_meets_does_not_starve_the_others(casino, theatre, monkeypatch, caplog):
    casino.begin(spec())
    casino.begin(automatic())  # the newest is attended to first
    casino.wait(10)
    casino.play("a", 5, 5)
    casino.wait(10)

    def fail(*_arguments, **_options):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(theatre.judge, "decide", fail)
    conductor = theatre.conductor()
    with caplog.at_level(logging.WARNING):
        conductor.turn()
        conductor.turn()
    assert casino.learner.report("coins").decisions == 10
    told = [record for record in caplog.records if "a bug" in record.message]
    assert len(told) == 1
    assert told[0].exc_info
    assert "a bug" in casino.store.find("auto").problem


def test_why_nothing_happens_by_itself_is_kept_until_it_does(casino, theatre, monkeypatch):
    casino.begin(automatic())
    revision = casino.database.revision()

    def fail(*_arguments, **_options):
        raise LatchedError(name="m", version="1.0.1", rollout="m-1", problem="it was slow", kind="model", first="")

    monkeypatch.setattr(theatre.judge, "decide", fail)
    conductor = theatre.conductor()
    conductor.turn()
    assert casino.store.find("auto").problem == "version 1.0.1 of `m` was rolled back by `m-1`: it was slow"
    assert casino.database.revision() == revision, "no process has to follow that"
    monkeypatch.undo()
    conductor.turn()
    assert casino.store.find("auto").problem == ""


def test_what_waits_for_a_person_is_a_problem_until_it_is_over(casino, theatre):
    casino.begin(automatic())
    conductor = theatre.conductor()
    casino.play("a", 50, 350, name="auto")
    casino.play("b", 1, 9, name="auto")
    casino.wait(10)
    conductor.turn()
    problem = casino.store.find("auto").problem
    assert "is not decided (review): units do not arrive in the proportions of the weights" in problem
    conductor.turn()
    assert casino.store.find("auto").problem == problem
    casino.store.pause("auto")
    assert casino.store.find("auto").problem == ""


@pytest.mark.parametrize("change", [{"decision": DecisionSpec()}, {"description": "still wrong"}])
def test_an_experiment_that_was_changed_is_looked_at_anew(casino, theatre, change):
    casino.begin(automatic())
    casino.play("a", 50, 350, name="auto")
    casino.play("b", 1, 9, name="auto")
    casino.wait(10)
    conductor = theatre.conductor()
    conductor.turn()
    assert casino.store.find("auto").problem
    casino.store.amend(msgspec.structs.replace(automatic(), **change))
    assert casino.store.find("auto").problem == ""
    conductor.turn()
    assert bool(casino.store.find("auto").problem) == ("decision" not in change)


def test_what_only_needs_more_data_is_no_problem(casino, theatre):
    casino.begin(automatic())
    casino.wait(10)
    theatre.conductor().turn()
    assert casino.store.find("auto").problem == "", "no units yet"


def test_a_healthy_experiment_without_an_effect_is_not_decided(casino, theatre):
    casino.begin(automatic())
    conductor = theatre.conductor()
    rng = np.random.default_rng(1)
    for _ in range(5):
        for arm in ("a", "b"):
            wins = int(rng.binomial(100, 0.3))
            casino.play(arm, wins, 100 - wins, name="auto")
        casino.wait(60)
        conductor.turn()
    assert casino.store.find("auto").status is Status.RUNNING


def test_it_turns_on_its_thread_and_ends(casino, theatre, monkeypatch):
    conductor = theatre.conductor()
    turned, failures = threading.Event(), []

    def turn():
        failures.append(None)
        if len(failures) == 1:
            raise RuntimeError("a bug")
        if len(failures) == 2:
            raise DatabaseUnavailableError(problem="it is away")
        turned.set()

    monkeypatch.setattr(conductor, "turn", turn)
    with conductor:
        assert turned.wait(20)
    assert not conductor._thread.is_alive()


def test_closing_without_the_database_is_no_error(casino, theatre):
    conductor = theatre.conductor()
    casino.begin(spec())
    conductor.turn()
    casino.database.away = True
    conductor.close()
    casino.database.away = False
    casino.wait(timedelta(minutes=5).total_seconds())
    theatre.conductor().turn()

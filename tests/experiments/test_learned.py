"""What a bandit says that it knows."""

import pytest

from crossfade.experiments.learning import Learner
from crossfade.experiments.spec import BanditSpec
from crossfade.methods.bandits.beta_thompson import BetaThompson
from crossfade.methods.bandits.contextual import Feature
from crossfade.methods.bandits.epsilon_greedy import EpsilonGreedy
from crossfade.methods.bandits.lin_ucb import LinUCB
from tests.experiments.bandits import spec
from tests.experiments.life import plan


@pytest.mark.parametrize(
    ("policy", "reason"), [(BetaThompson(), ""), (EpsilonGreedy(floor=0.05), "no two different rewards yet")]
)
def test_where_nothing_can_be_said_of_the_best_it_is_told_why(casino, policy, reason):
    casino.begin(spec(policy=policy))
    report = casino.learner.report("coins")
    assert reason in report.reason
    assert bool(report.chances) == (not report.reason)


def test_where_the_context_decides_there_is_no_best_one(store, database):
    store.create(plan(sticky=False, bandit=BanditSpec(LinUCB(features=(Feature("age"),)), "click")))
    store.start("late")
    report = Learner(store, database).report("late")
    assert (report.weights, report.chances) == ({}, {})
    assert "another one for each context" in report.reason

"""A smaller, seeded part of what `make calibrate` measures of bandits and off-policy evaluation."""

import numpy as np
import pytest

from crossfade.methods.bandits.policy import start
from tests.calibration import policies
from tests.calibration.policies import CONTEXT_FREE, LINEAR, NOW

pytestmark = pytest.mark.slow


def keep(figures):
    broken = [figure for figure in figures if not figure.kept]
    assert not broken


def test_regret_without_context():
    keep(policies.regret(policies.bernoulli_regret, CONTEXT_FREE, runs=1, horizon=60_000))


def test_regret_with_context():
    keep(policies.regret(policies.linear_regret, LINEAR, runs=2, horizon=1_000))


def test_the_check_of_regret_can_fail():
    """Never exploring, which is epsilon-greedy with an epsilon of 1, loses far more."""
    never = {"uniform": policies.EpsilonGreedy(floor=0.0, epsilon=1.0)}
    [figure] = policies.regret(policies.bernoulli_regret, never, runs=1, horizon=5_000)
    assert figure.value > 2
    assert not figure.kept


def test_intervals_cover():
    keep(policies.coverage(60))


@pytest.mark.parametrize("horizon", [1, 57, 1000])
def test_batches_are_the_horizon(horizon):
    assert sum(policies.batches(horizon)) == horizon


def test_a_simulated_batch_is_what_learning_gives():
    """The simulation adds tallies; the product learns from rows."""
    rewards = np.array([1.0, 0.0, 1.0, 1.0])
    learned = start(CONTEXT_FREE["beta_thompson"], ["0"], NOW).learn(
        policies.Outcomes(["0"] * 4, rewards, np.zeros(4)), NOW
    )
    added = start(CONTEXT_FREE["beta_thompson"], ["0"], NOW).warm({"0": policies.Tally.estimated(4, 0.75, 0.75 * 0.25)})
    assert learned.evidence[0].n == added.evidence[0].n
    assert learned.evidence[0].variance == pytest.approx(added.evidence[0].variance)

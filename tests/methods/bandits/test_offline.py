"""Policies on logs of other decisions."""

from datetime import UTC, datetime

import numpy as np
import pytest

from crossfade.errors import InvalidDecisionLogError
from crossfade.methods.bandits.offline import Trial, learned_from_half
from crossfade.methods.bandits.policy import start
from crossfade.methods.off_policy.evaluation import evaluate
from crossfade.methods.off_policy.log import Log
from tests.methods.bandits.support import (
    CONTEXT_FREE,
    CONTEXTUAL,
    NAMES,
    BetaThompson,
    LinUCB,
    contexts,
    history,
    learned,
    made,
    part,
)

START = datetime(1970, 1, 1, tzinfo=UTC)


def log_of(outcomes):
    return Log.of(outcomes.variants, outcomes.rewards, outcomes.propensities)


@pytest.mark.parametrize("kind", CONTEXT_FREE)
def test_a_stored_policy_is_its_weights(kind):
    log, policy = log_of(history(500, seed=3)), learned(kind)
    target = Trial(policy, log).target()
    weights = policy.weights()
    assert target.taken == pytest.approx([weights[log.names[place]] for place in log.actions])


@pytest.mark.parametrize("kind", CONTEXTUAL)
def test_a_policy_with_context_is_asked_for_every_row(kind):
    outcomes, policy = history(50, seed=3), learned(kind)
    log = log_of(outcomes)
    target = Trial(policy, log, outcomes.contexts).target()
    chances = policy.scorer().many(outcomes.contexts)
    assert target.taken == pytest.approx(
        [row[NAMES.index(name)] for row, name in zip(chances, outcomes.variants, strict=True)]
    )
    with pytest.raises(InvalidDecisionLogError, match="contexts"):
        Trial(policy, log).target()


@pytest.mark.parametrize("kind", [BetaThompson, LinUCB])
def test_a_new_policy_learns_from_the_first_half_alone(kind):
    outcomes = history(600)
    log, spec = log_of(outcomes), made(kind)
    trial = learned_from_half(spec, log, outcomes.contexts)
    first = part(outcomes, list(range(300)))
    assert trial.log.count == 300
    assert [trial.log.names[place] for place in trial.log.actions] == outcomes.variants[300:]
    expected = start(spec, trial.policy.variants, START).learn(first, START)
    assert trial.policy.known() == expected.known()
    report = evaluate(trial.log, trial.target())
    assert report.value("snips").value > report.logged.value


def test_learning_on_the_rows_that_one_is_judged_by_flatters():
    """Nothing differs at all; only the policy that saw the rows beforehand seems to know better."""
    flattered, honest = [], []
    for seed in range(20):
        random = np.random.default_rng(seed)
        asked = random.normal(size=(400, 4))
        names = [NAMES[each] for each in random.integers(3, size=400)]
        log = Log.of(names, random.normal(size=400), np.full(400, 1 / 3))
        trial = learned_from_half(made(LinUCB, alpha=0.0), log, asked)
        honest.append(evaluate(trial.log, trial.target(), least=10).value("snips").value)
        first = log.part(0, 200)
        seen = Trial(trial.policy, first, asked[:200]).target()
        flattered.append(evaluate(first, seen, least=10).value("snips").value)
    assert np.mean(flattered) > 0.15
    assert abs(np.mean(honest)) < 0.08


def test_one_row_is_too_few():
    with pytest.raises(InvalidDecisionLogError):
        learned_from_half(made(BetaThompson), Log.of(["a"], [1.0], [0.5]))


def test_contexts_are_left_out_where_nobody_looks_at_them():
    outcomes = history(100)
    trial = learned_from_half(made(BetaThompson), log_of(outcomes), contexts(100))
    assert trial.contexts is None

"""One decision of a contextual policy, and learning from one: d = 10 features, K = 5 variants, beside MABWiser.

MABWiser has no SquareCB; its LinGreedy, which has the same models and only takes the largest, stands beside it.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import numpy as np
from mabwiser.mab import MAB, LearningPolicy

from benchmarks.harness import Result
from crossfade.methods.bandits.beta_thompson import BetaThompson
from crossfade.methods.bandits.contextual import ContextualSpec, Feature
from crossfade.methods.bandits.draw import draw, number_of
from crossfade.methods.bandits.gaussian_thompson import GaussianThompson
from crossfade.methods.bandits.lin_ts import LinTS
from crossfade.methods.bandits.lin_ucb import LinUCB
from crossfade.methods.bandits.outcomes import Outcomes
from crossfade.methods.bandits.policy import ContextualPolicy, start
from crossfade.methods.bandits.square_cb import SquareCB
from crossfade.methods.bandits.tallies import Tally
from crossfade.methods.stats.best_arm import probability_best

FEATURES, VARIANTS, LEARNED = 10, 5, 2_000
GOAL_DECISION, GOAL_BEST = 8.0, 2.0
"""Microseconds, milliseconds."""
GOAL_RATIO = 0.25
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = [f"v{number}" for number in range(VARIANTS)]
FIELDS = tuple(Feature(f"f{number}") for number in range(FEATURES))


def best_of(call: Callable[[], object], number: int, repeat: int = 15) -> float:
    """Seconds of one call, in the best of several rounds: what it costs when nobody else wants the processor."""
    return min(timeit.repeat(call, number=number, repeat=repeat)) / number


def history() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    contexts = random.normal(size=(LEARNED, FEATURES))
    chosen = random.integers(VARIANTS, size=LEARNED)
    truth = random.normal(size=(VARIANTS, FEATURES)) / 3
    rewards = (contexts * truth[chosen]).sum(axis=1) + random.normal(size=LEARNED)
    return contexts, chosen, rewards


def outcomes(contexts: np.ndarray, chosen: np.ndarray, rewards: np.ndarray) -> Outcomes:
    return Outcomes([NAMES[each] for each in chosen], rewards, np.zeros(len(rewards)), contexts=contexts)


def contextual(spec: ContextualSpec, theirs: MAB, name: str) -> Iterator[Result]:
    contexts, chosen, rewards = history()
    policy = start(spec, NAMES, NOW).learn(outcomes(contexts, chosen, rewards), NOW)
    assert isinstance(policy, ContextualPolicy)
    theirs.fit(decisions=[NAMES[each] for each in chosen], rewards=rewards.tolist(), contexts=contexts)
    fresh = ContextualPolicy.scorer(start(spec, NAMES, NOW))
    ask, ids = policy.scorer(), [f"request-{number}" for number in range(100)]
    asked = [{field.name: float(value) for field, value in zip(FIELDS, row, strict=True)} for row in contexts[:100]]
    rows = [row[None, :] for row in contexts[:100]]

    def ours() -> None:
        for context, decision in zip(asked, ids, strict=True):
            draw(ask(context), number_of(decision, 7))

    def predict() -> None:
        for row in rows:
            theirs.predict(row)

    def ours_knowing_nothing() -> None:
        for context, decision in zip(asked, ids, strict=True):
            draw(fresh(context), number_of(decision, 7))

    value, baseline = best_of(ours, 10) / 100 * 1e6, best_of(predict, 1) / 100 * 1e6
    yield Result(f"{name}_decision", value, "us", goal=GOAL_DECISION)
    yield Result(f"{name}_decision_beside_mabwiser", value, "us", baseline, GOAL_RATIO)
    yield Result(f"{name}_decision_knowing_nothing", best_of(ours_knowing_nothing, 10) / 100 * 1e6, "us")
    batch = outcomes(contexts[:100], chosen[:100], rewards[:100])
    decisions = [NAMES[each] for each in chosen[:100]]
    learn = best_of(lambda: policy.learn(batch, NOW), 5) / 100 * 1e6
    fit = best_of(lambda: theirs.partial_fit(decisions, rewards[:100].tolist(), contexts[:100]), 1) / 100 * 1e6
    yield Result(f"{name}_learning_of_100_each", learn, "us", fit, 1.0)
    yield Result(f"{name}_compiling", best_of(policy.scorer, 20) * 1e3, "ms")


def run() -> Iterator[Result]:
    settings = {"features": FIELDS, "intercept": False}
    for spec, policy, name in (
        (LinUCB(**settings), LearningPolicy.LinUCB(alpha=1.0), "lin_ucb"),
        (LinTS(**settings), LearningPolicy.LinTS(alpha=1.0), "lin_ts"),
        (SquareCB(**settings), LearningPolicy.LinGreedy(epsilon=0.1), "square_cb"),
    ):
        yield from contextual(spec, MAB(NAMES, policy), name)

    random = np.random.default_rng(2)
    tallies = tuple(Tally.estimated(200 + 50 * each, 0.1 + 0.01 * each, 0.1) for each in range(VARIANTS))
    means, errors = random.normal(size=VARIANTS), random.uniform(0.5, 2.0, VARIANTS)
    yield Result("best_of_normals", best_of(lambda: probability_best(means, errors), 20) * 1e3, "ms", goal=GOAL_BEST)
    for name, kind in (("betas", BetaThompson()), ("student_t", GaussianThompson())):
        yield Result(f"best_of_{name}", best_of(lambda k=kind: k.chances(tallies), 20) * 1e3, "ms", goal=GOAL_BEST)

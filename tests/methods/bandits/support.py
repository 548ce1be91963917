"""What tests of bandits share: a moment, features, outcomes."""

from datetime import UTC, datetime, timedelta

import numpy as np

from crossfade.methods.bandits.beta_thompson import BetaThompson
from crossfade.methods.bandits.contextual import Feature
from crossfade.methods.bandits.epsilon_greedy import EpsilonGreedy
from crossfade.methods.bandits.gaussian_thompson import GaussianThompson
from crossfade.methods.bandits.kl_ucb import KLUCB
from crossfade.methods.bandits.lin_ts import LinTS
from crossfade.methods.bandits.lin_ucb import LinUCB
from crossfade.methods.bandits.outcomes import Outcomes
from crossfade.methods.bandits.policy import start
from crossfade.methods.bandits.square_cb import SquareCB
from crossfade.methods.bandits.ucb1 import UCB1

NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)
DAY = 86_400.0
WIDTH = 4
FEATURES = tuple(Feature(f"f{number}") for number in range(WIDTH))
CONTEXT_FREE = (BetaThompson, GaussianThompson, UCB1, KLUCB, EpsilonGreedy)
CONTEXTUAL = (LinUCB, LinTS, SquareCB)
NAMES = ("a", "b", "c")


def later(days):
    return NOW + timedelta(days=days)


def made(kind, **settings):
    """A specification of any kind."""
    return kind(**({"features": FEATURES} if kind in CONTEXTUAL else {}) | settings)


def history(count=300, seed=0, variants=NAMES, days=10.0):
    """Outcomes with contexts, rewards of 0 and 1, and times in the days before now."""
    random = np.random.default_rng(seed)
    chosen = random.integers(len(variants), size=count)
    contexts = random.normal(size=(count, WIDTH))
    rates = 0.2 + 0.2 * chosen + 0.1 * np.tanh(contexts[:, 0])
    return Outcomes(
        [variants[place] for place in chosen],
        (random.random(count) < rates).astype(float),
        NOW.timestamp() - random.uniform(0, days * DAY, count),
        np.full(count, 1 / len(variants)),
        contexts,
    )


def part(outcomes, rows):
    """Some rows of outcomes, in the order of `rows`."""
    return Outcomes(
        [outcomes.variants[row] for row in rows],
        outcomes.rewards[rows],
        outcomes.decided_at[rows],
        None if outcomes.propensities is None else outcomes.propensities[rows],
        None if outcomes.contexts is None else outcomes.contexts[rows],
    )


def learned(kind, **settings):
    """A policy of any kind that has learned something."""
    return start(made(kind, **settings), NAMES, NOW).learn(history(), NOW)


def contexts(count, seed=1):
    return np.random.default_rng(seed).normal(size=(count, WIDTH))


def as_context(row):
    return {feature.name: float(value) for feature, value in zip(FEATURES, row, strict=True)}

"""What bandits and off-policy evaluation promise: less regret than epsilon-greedy, and intervals that cover."""

from datetime import UTC, datetime

import numpy as np

from crossfade.methods.bandits.beta_thompson import BetaThompson
from crossfade.methods.bandits.contextual import Feature
from crossfade.methods.bandits.epsilon_greedy import EpsilonGreedy
from crossfade.methods.bandits.gaussian_thompson import GaussianThompson
from crossfade.methods.bandits.kl_ucb import KLUCB
from crossfade.methods.bandits.lin_ts import LinTS
from crossfade.methods.bandits.lin_ucb import LinUCB
from crossfade.methods.bandits.outcomes import Outcomes
from crossfade.methods.bandits.policy import ContextFreePolicy, start
from crossfade.methods.bandits.square_cb import SquareCB
from crossfade.methods.bandits.tallies import Tally
from crossfade.methods.bandits.ucb1 import UCB1
from crossfade.methods.off_policy.evaluation import evaluate
from crossfade.methods.off_policy.log import Log
from crossfade.methods.off_policy.target import Target
from tests.calibration.checks import Figure

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RATES = np.array([0.1, 0.2, 0.3, 0.3, 0.5])
GREEDY = EpsilonGreedy(floor=0.0, epsilon=0.1)
CONTEXT_FREE = {
    "beta_thompson": BetaThompson(floor=0.0),
    "gaussian_thompson": GaussianThompson(floor=0.0),
    "ucb1": UCB1(floor=0.0),
    "kl_ucb": KLUCB(floor=0.0),
}
FEATURES = tuple(Feature(f"f{number}") for number in range(5))
LINEAR = {
    "lin_ucb": LinUCB(features=FEATURES, floor=0.0),
    "lin_ts": LinTS(features=FEATURES, floor=0.0),
    "square_cb": SquareCB(features=FEATURES, floor=0.0),
}


def batches(horizon):
    """Sizes of batches that grow with what is known: learning is behind by 1 % of all there was."""
    done = 0
    while done < horizon:
        size = min(1 + done // 100, horizon - done)
        yield size
        done += size


def bernoulli_regret(spec, horizon, random):
    """What is lost against always choosing the best of five rates."""
    policy, lost = start(spec, [str(place) for place in range(len(RATES))], NOW), 0.0
    for size in batches(horizon):
        weights = np.array(list(policy.weights().values()))
        lost += size * (RATES.max() - weights @ RATES)
        shown = random.multinomial(size, weights / weights.sum())
        earned = random.binomial(shown, RATES) / np.maximum(shown, 1)
        tallies = (Tally.estimated(n, mean, mean * (1 - mean)) for n, mean in zip(shown, earned, strict=True))
        policy = policy.warm(dict(zip(policy.variants, tallies, strict=True)))
    return lost


def linear_regret(spec, horizon, random, variants=4):
    """What is lost against always choosing the best of four linear functions of five features."""
    truth = random.normal(size=(variants, len(FEATURES))) / np.sqrt(len(FEATURES))
    policy, lost = start(spec, [str(place) for place in range(variants)], NOW), 0.0
    for size in batches(horizon):
        contexts = random.normal(size=(size, len(FEATURES)))
        if isinstance(policy, ContextFreePolicy):
            chances = np.tile(list(policy.weights().values()), (size, 1))
        else:
            chances = policy.scorer().many(contexts)
        expected = contexts @ truth.T
        lost += (expected.max(axis=1) - (chances * expected).sum(axis=1)).sum()
        chosen = np.minimum((random.random((size, 1)) > chances.cumsum(axis=1)).sum(axis=1), variants - 1)
        rewards = expected[np.arange(size), chosen] + random.normal(size=size)
        names = [policy.variants[place] for place in chosen]
        policy = policy.learn(Outcomes(names, rewards, np.zeros(size), contexts=contexts), NOW)
    return lost


def regret(problem, specs, runs, horizon, seed=7):
    """Mean regret of each policy over that of epsilon-greedy in runs of the same length."""
    random = np.random.default_rng(seed)
    base = np.mean([problem(GREEDY, horizon, random) for _ in range(runs)])
    for name, spec in specs.items():
        lost = np.mean([problem(spec, horizon, random) for _ in range(runs)])
        yield Figure(f"{problem.__name__} of {name} over that of epsilon-greedy", float(lost / base), 0.0, 1.0)


def decisions(random, count):
    """A log of three actions with known propensities, and what a much greedier policy would do there."""
    features = random.normal(size=(count, 3))
    logits = np.column_stack([features[:, 0], features[:, 1], -features[:, 2]])
    logged, wanted = (np.exp(sharp * logits) for sharp in (1.0, 2.0))
    logged = 0.1 + 0.7 * logged / logged.sum(axis=1, keepdims=True)
    wanted /= wanted.sum(axis=1, keepdims=True)
    actions = (random.random((count, 1)) > logged.cumsum(axis=1)).sum(axis=1)
    expected = np.array([0.0, 0.2, 0.1]) + np.column_stack(
        [0.5 * features[:, 0], 0.5 * features[:, 1] + 0.2 * features[:, 2], 0.1 * features[:, 0] - 0.3 * features[:, 2]]
    )
    rows = np.arange(count)
    rewards = expected[rows, actions] + random.normal(size=count)
    names = [str(action) for action in actions]
    log = Log.of(names, rewards, logged[rows, actions], features=features)
    return log, Target.each(log, ["0", "1", "2"], wanted), (wanted * expected).sum(axis=1), actions


def coverage(experiments, count=1500, seed=8, alpha=0.05):
    """How often intervals of the value, and of the gain, hold the truth."""
    random = np.random.default_rng(seed)
    _, _, worth, _ = decisions(random, 500_000)
    truth = float(worth.mean())
    log, _, _, _ = decisions(random, 500_000)
    earned = float(log.rewards.mean())
    held, held_gain = {}, {}
    for _ in range(experiments):
        log, target, _, _ = decisions(random, count)
        for method, found in evaluate(log, target, alpha=alpha).values.items():
            held.setdefault(method, []).append(found.lower <= truth <= found.upper)
            held_gain.setdefault(method, []).append(found.gain_lower <= truth - earned <= found.gain_upper)
    slack = 0.01 + 3 * np.sqrt(alpha * (1 - alpha) / experiments)
    for method, each in held.items():
        yield Figure(f"off-policy {method}: coverage of the value", float(np.mean(each)), 1 - alpha - slack, 1.0)
        gained = float(np.mean(held_gain[method]))
        yield Figure(f"off-policy {method}: coverage of the gain", gained, 1 - alpha - slack, 1.0)

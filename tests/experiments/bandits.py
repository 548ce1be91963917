"""A bandit on a database, decisions with rewards that reach it as the journal would write them, and a clock."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from crossfade.core.identity import first_id
from crossfade.experiments.learning import Learner
from crossfade.experiments.spec import BanditSpec, ExperimentSpec, Variant
from crossfade.experiments.store import ExperimentStore
from crossfade.ledger.events import Exposure, Outcome
from crossfade.ledger.rollups import fold
from crossfade.methods.bandits.beta_thompson import BetaThompson
from crossfade.settings import ServingSettings
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.readiness import Readiness
from tests.ledger.support import store

START = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


def spec(name="coins", arms=("a", "b", "c"), policy=None, **fields):
    """A bandit among flags; `fields` are those of the bandit, or of the experiment."""
    own = {"maturity_seconds": 0.0, "update_seconds": 1.0}
    own |= {key: fields.pop(key) for key in ("maturity_seconds", "warm_from", "trust") if key in fields}
    bandit = BanditSpec(policy or BetaThompson(floor=0.05), fields.pop("reward", "click"), **own)
    variants = tuple(Variant(arm, 1 / len(arms)) for arm in arms)
    return ExperimentSpec(name, variants, sticky=False, bandit=bandit, **fields)


class Casino:
    """Everything that a bandit needs, at a time that stands still."""

    def __init__(self, registry):
        self.now = START
        self.database = registry.backend.database
        fleet = Fleet(self.database, ServingSettings())
        self.store = ExperimentStore(registry, self.database, Readiness(fleet, 5), self.clock)
        self.learner = Learner(self.store, self.database, self.clock)
        self._numbers = itertools.count()

    def clock(self):
        return self.now

    def begin(self, wanted):
        self.store.create(wanted)
        return self.store.start(wanted.name)

    def wait(self, seconds):
        self.now += timedelta(seconds=seconds)

    def play(self, arm, wins, losses, *, name="coins", reward=1.0, context=None, late_seconds=0.0):
        """Decide for an arm so many times now, and report what it earned."""
        at = self.now - timedelta(seconds=late_seconds)
        milliseconds = int(at.timestamp() * 1000)
        exposures, outcomes = [], []
        propensity = 1 / len(self.store.find(name).spec.variants)
        for number in range(wins + losses):
            unique = next(self._numbers)
            decision = f"{first_id(milliseconds)}-7000-8000-{unique:012x}"
            exposures.append(
                Exposure(decision, milliseconds * 1000, name, 1, arm, f"u{unique}", propensity, context=context or {})
            )
            if number < wins:
                outcomes.append(Outcome(f"o{unique}", milliseconds * 1000, "click", reward, decision))
        with self.database.write() as connection:
            store(connection, exposures, outcomes)
            fold(connection, exposures, outcomes)
        return exposures

    def learn(self, name="coins", **options):
        return self.learner.learn(name, **options)

    def weights(self, name="coins"):
        return self.store.find(name).weights

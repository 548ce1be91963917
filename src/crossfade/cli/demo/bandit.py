"""Act 3: a bandit gives more of the flights to whichever version tells best, while it finds out which one that is."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from crossfade.cli.demo.stage import Stage
from crossfade.cli.demo.tables import BanditTable
from crossfade.cli.demo.traffic import Answer
from crossfade.cli.demo.verdict import FIRST, SECOND, THIRD
from crossfade.experiments.learned import BanditReport
from crossfade.experiments.reports import words
from crossfade.experiments.spec import BanditSpec, ExperimentSpec, Variant
from crossfade.ledger.metrics import MetricSpec
from crossfade.methods.bandits.gaussian_thompson import GaussianThompson
from crossfade.registry.packaging import Draft
from crossfade.solutions.flights.dataset import Flights
from crossfade.solutions.flights.quality import skill
from crossfade.solutions.flights.training import NAME, Candidate

BANDIT = "best_teller"
GAIN = "gain"
"""The reward: how much closer a probability came to what happened than always saying the same rate would have."""
VERSIONS = {"weather": SECOND, "schedule": FIRST, "recent": THIRD}
"""Variant -> version; the first is the champion."""
FLOOR = 0.05
LOOK_SECONDS = 1.0
LAST_SECONDS = 15.0
"""After the last flight was asked about, how long it is waited for what is learned from it."""
IN_THE_AIR = 320
"""Of a thousand flights one lands only after so many others, every second being replayed, were asked about."""


def specification(maturity_seconds: float) -> ExperimentSpec:
    """Return the experiment.

    Args:
        maturity_seconds: How long a flight takes to land, at most.
    """
    # hard days are hard for every version, and the weights change meanwhile: so rewards are weighed by propensity
    policy = GaussianThompson(floor=FLOOR, scale=0.05, weigh_by_propensity=True)
    return ExperimentSpec(
        BANDIT,
        tuple(Variant(name, 1 / len(VERSIONS), version) for name, version in VERSIONS.items()),
        model=NAME,
        description="Which of three versions tells best?",
        metrics=(MetricSpec(GAIN, missing="skip"),),
        bandit=BanditSpec(policy, GAIN, maturity_seconds=maturity_seconds, update_seconds=1.0),
    )


@dataclass(frozen=True)
class Account:
    """What was earned, and what other ways to share the same flights would have earned.

    Args:
        flights: How many landed.
        earned: The sum of all gains.
        by_version: Version -> what it would have earned with all of the flights.
    """

    flights: int
    earned: float
    by_version: dict[str, float]

    @property
    def even(self) -> float:
        """What an even split would have earned, on average over all ways to draw."""
        return sum(self.by_version.values()) / len(self.by_version)

    @property
    def avoided(self) -> float:
        """Share of the regret of an even split that was avoided: 1 for always the best, 0 for no better than even."""
        regret = max(self.by_version.values()) - self.even
        return (self.earned - self.even) / regret if regret > 0 else 0.0

    @property
    def best(self) -> str:
        """The version that would have earned most."""
        return max(self.by_version, key=lambda version: self.by_version[version])

    @property
    def worst(self) -> str:
        """The version that would have earned least."""
        return min(self.by_version, key=lambda version: self.by_version[version])


def account(answers: list[Answer], candidates: list[Candidate], replay: Flights, usual: float) -> Account:
    """Reckon up: with outcomes known, every version can be asked about the same flights once more.

    Args:
        answers: About flights that have landed.
        candidates: All versions.
        replay: The flights.
        usual: The rate in training.
    """
    names = [answer.question.flight for answer in answers]
    if not names:
        return Account(0, 0.0, {each.version: 0.0 for each in candidates})
    asked = Flights(replay.frame.set_index("flight").loc[names])
    would = {each.version: skill(asked.late, each.probabilities(asked.inputs), usual).sum() for each in candidates}
    earned = skill(asked.late, [answer.probability for answer in answers], usual).sum()
    return Account(len(names), float(earned), {version: float(gain) for version, gain in would.items()})


class Bandit:
    """Lets three versions compete for the flights.

    Args:
        stage: Where.
        usual: The rate of late flights in training, which is what one would say without any model.
        decisions: Of how many flights it shall have learned before it ends.
    """

    def __init__(self, stage: Stage, usual: float, decisions: int) -> None:
        self.report: BanditReport | None = None
        """What it knew last."""
        self.lowest = 1.0
        """The smallest weight that any variant ever had."""
        self._stage = stage
        self._usual = usual
        self._decisions = decisions
        self._earned = dict.fromkeys(VERSIONS.values(), (0, 0.0))
        self._watch = stage.watch(self.table)

    @property
    def answers(self) -> list[Answer]:
        """Those about flights that it decided and that have landed."""
        return self._stage.landings.landed[BANDIT]

    @property
    def heaviest(self) -> str:
        """The version with the largest weight."""
        weights = {} if self.report is None else self.report.weights
        return VERSIONS[max(weights, key=lambda variant: weights[variant])] if weights else ""

    def table(self) -> BanditTable:
        """Return the state of now."""
        board = self._stage.scorer.board()
        return BanditTable(board, self.report, VERSIONS, dict(self._earned))

    def run(self, draft: Draft) -> None:
        """Publish the third version, start the bandit, and watch until it has learned enough.

        Args:
            draft: What 1.2.0 is published with.
        """
        client, screen, stage = self._stage.client, self._stage.screen, self._stage
        if stage.traffic.ran_out:
            screen.bad("no flight is left for it")
            return
        screen.step(f"Publish {THIRD}, trained on the two newest months alone, and let three versions compete")
        screen.say(
            f"  each gets flights in proportion to the chance that it is the best (Thompson), and {FLOOR:.0%} at least"
        )
        screen.say(f"  it gains what its squared error is smaller than that of always saying {self._usual:.1%}")
        screen.head(self.table())
        self._watch.while_doing(lambda: client.register_draft(NAME, draft, version=THIRD))
        spec = specification(IN_THE_AIR / stage.traffic.pace() + 1.0)
        stage.landings.measure(BANDIT, GAIN, self._gain)
        screen.command(f"crossfade experiments create {stage.write(spec)}")
        self._watch.while_doing(lambda: client.create_experiment(spec))
        screen.command(f"crossfade experiments start {BANDIT}")
        self._watch.while_doing(lambda: client.start_experiment(BANDIT, reason="to find the best while using it"))
        self._follow()
        self._watch.while_doing(lambda: client.stop_experiment(BANDIT, reason="the demo ends"))

    def _gain(self, answer: Answer) -> float:
        gain = float(skill([answer.question.late], [answer.probability], self._usual)[0])
        count, total = self._earned[answer.version]
        self._earned[answer.version] = (count + 1, total + gain)
        return gain

    def _follow(self) -> None:
        client, until = self._stage.client, math.inf
        while time.monotonic() < until:
            self.report = self._watch.while_doing(lambda: client.bandit(BANDIT))
            self.lowest = min(self.lowest, *self.report.weights.values())
            if self.report.decisions >= self._decisions:
                return
            if self._stage.traffic.ran_out:
                until = min(until, time.monotonic() + LAST_SECONDS)
            self._watch.during(LOOK_SECONDS)

    def tell(self, found: Account) -> None:
        """Say what it came to."""
        screen, report = self._stage.screen, self.report
        if report is None or not found.flights:
            return
        for variant, version in VERSIONS.items():
            weight, chance = report.weights[variant], words.chance(report.chances.get(variant))
            mean = found.by_version[version] / max(found.flights, 1)
            screen.say(
                f"  {version}  weight {weight:.3f}  best with a chance of {chance:>8}  would gain {mean:+.4f} a flight"
            )
        screen.say(
            f"  learned from {report.decisions:,} flights; {found.flights:,} landed and gained {found.earned:+.1f}"
        )
        screen.say(
            f"  on the same flights an even split would have gained {found.even:+.1f}, and always {found.best} "
            f"{found.by_version[found.best]:+.1f}"
        )
        lost = f"of what an even split would have lost against {found.best}"
        if found.avoided > 0:
            screen.good(f"{lost}, {found.avoided:.0%} was avoided")
        else:
            screen.say(f"  {lost}, nothing was avoided: flights were few, or bad luck")

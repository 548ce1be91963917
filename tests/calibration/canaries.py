"""Simulated rollouts: reports of processes go in, and the product decides, look by look (`Measurer`, `next_action`).

Time stands still between looks, which are a second apart. The old and the new version are asked in the same seconds,
by chance, with the weight of the step that the rollout is in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
from scipy.stats import norm

from crossfade.releases.checks.measuring import Measurer
from crossfade.releases.checks.spec import ErrorRateCheck
from crossfade.releases.moves import entering
from crossfade.releases.plan import RolloutPlan, Step
from crossfade.releases.policy import Enter, RollBack, Situation, next_action
from crossfade.releases.rollout import Rollout, RolloutEvidence, RolloutState, RolloutStatus
from crossfade.traffic.health import LATENCY_BOUNDS, Counts, Health, HealthReport

OLD, NEW = "1.0.0", "1.0.1"
WEIGHTS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5)
LOOKS = 1000
START = datetime(2026, 3, 2, tzinfo=UTC)
CHECK = ErrorRateCheck("errors")
MEDIAN_SECONDS, SPREAD = 0.010, 0.5
"""Of latency, which is lognormal."""
P99_SECONDS = 0.032
"""Its 99th percentile."""
PLACES = range(60, 192, 8)
"""Places among the bounds of latency that answers fall on: enough to tell 30 % more from as much."""
P99_BUCKET = next(bucket for bucket, place in enumerate(PLACES) if LATENCY_BOUNDS[place] >= P99_SECONDS)
"""Which of them the 99th percentile falls on."""
_SECONDS = 4 * LOOKS
"""How long the longest rollout is looked at."""
_BLOCK = 200
"""Looks whose traffic is drawn at once."""


@dataclass(frozen=True)
class Circumstances:
    """What a rollout is about.

    Attributes:
        rate: Of failures of the old version.
        per_minute: Requests.
        times: How many times as often the new version fails.
        slower: How many times as long it takes.
        unsafe, fallbacks: Rates of the old and of the new version.
        processes: How many report.
        drift: How far the rate wanders, as the standard deviation of its logarithm at the end.
        incident: Whether half of all requests fail for a minute, whoever is asked.
        uneven: Whether one process gets most requests, and another one fails three times as often.
        late: Seconds that the reports of one process are late.
        stalls: The fraction of seconds in which everything takes three times as long.
        batch: Answers of a version that are slow together.
    """

    rate: float = 0.01
    per_minute: float = 500.0
    times: float = 1.0
    slower: float = 1.0
    unsafe: tuple[float, float] = (0.001, 0.001)
    fallbacks: tuple[float, float] = (0.0005, 0.0005)
    processes: int = 2
    drift: float = 0.0
    incident: bool = False
    uneven: bool = False
    late: int = 0
    stalls: float = 0.0
    batch: int = 1


@dataclass
class Played:
    """What became of a rollout.

    Attributes:
        reason: Why it was rolled back; empty when it was not.
        looks: How many there were until then.
        bad: Bad events of the new version until then, by their kind.
    """

    reason: str = ""
    looks: int = 0
    bad: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("errors", "unsafe", "fallbacks", "slow"), 0))

    @property
    def rolled_back(self) -> bool:
        """Whether it was rolled back."""
        return bool(self.reason)


class Traffic:
    """Requests of one rollout: an endless row of seconds, each a report of every process."""

    def __init__(self, about: Circumstances, random: np.random.Generator) -> None:
        self._about = about
        self._random = random
        self._rates = wandering(about, random)
        self._shares = np.full(about.processes, 1 / about.processes)
        self._harm = np.ones(about.processes)
        if about.uneven:
            self._shares = random.dirichlet(np.full(about.processes, 0.5))
            self._harm[-1] = 3.0
        self._shapes = latencies(1.0), latencies(about.slower), latencies(3.0), latencies(3.0 * about.slower)
        self._held: list[list[HealthReport]] = []

    def seconds(self, first: int, weight: float) -> Iterator[list[HealthReport]]:
        """Return what is reported second by second from one on, while the new version has this weight."""
        while True:
            for reports in self._block(first, weight):
                yield self._delayed(reports)
            first += _BLOCK

    def _block(self, first: int, weight: float) -> Iterator[list[HealthReport]]:
        about, random = self._about, self._random
        size = (_BLOCK, about.processes)
        requests = random.poisson(about.per_minute / 60 * self._shares, size=size)
        rates = self._rates[first : first + _BLOCK, None] * self._harm
        stalled = random.random(_BLOCK) < about.stalls
        new = random.binomial(requests, weight)
        sides = [
            self._side(count, np.clip(rates * times, 0, 1), place, stalled)
            for place, (count, times) in enumerate(((requests - new, 1.0), (new, about.times)))
        ]
        for offset in range(_BLOCK):
            at_us = int((START.timestamp() + first + offset + 1) * 1e6)
            old_ones, new_ones = sides[0][offset], sides[1][offset]
            yield [
                HealthReport(f"p{process}", at_us, _versions(old_ones[process], new_ones[process]))
                for process in range(about.processes)
                if old_ones[process] is not None or new_ones[process] is not None
            ]

    def _side(self, count: np.ndarray, rates: np.ndarray, place: int, stalled: np.ndarray) -> list[list[Counts | None]]:
        """Return the counts of one version: second by second, process by process."""
        about, random = self._about, self._random
        errors = random.binomial(count, rates)
        answered = count - errors
        shapes = np.where(stalled[:, None, None], self._shapes[2 + place], self._shapes[place])
        batches = answered // about.batch
        latency = random.multinomial(batches, shapes) * about.batch
        if about.batch > 1:
            latency += random.multinomial(answered - batches * about.batch, shapes)
        unsafe = random.binomial(answered, about.unsafe[place])
        fallbacks = random.binomial(count, about.fallbacks[place])
        where = [[{} for _ in range(about.processes)] for _ in range(len(count))]
        for second, process, bucket in zip(*np.nonzero(latency), strict=True):
            where[second][process][PLACES[bucket]] = int(latency[second, process, bucket])
        columns = zip(count.tolist(), errors.tolist(), unsafe.tolist(), fallbacks.tolist(), where, strict=True)
        return [
            [
                Counts(requests=n, errors=bad, unsafe=odd, fallbacks=missed, latency=took) if n else None
                for n, bad, odd, missed, took in zip(*of_second, strict=True)
            ]
            for of_second in columns
        ]

    def _delayed(self, reports: list[HealthReport]) -> list[HealthReport]:
        """Hold back the reports of the first process for a while; they keep their time."""
        if not self._about.late:
            return reports
        self._held.append([report for report in reports if report.process == "p0"])
        due = self._held.pop(0) if len(self._held) > self._about.late else []
        return [*due, *(report for report in reports if report.process != "p0")]


def _versions(old: Counts | None, new: Counts | None) -> dict[str, Counts]:
    return {version: counts for version, counts in ((OLD, old), (NEW, new)) if counts is not None}


def wandering(about: Circumstances, random: np.random.Generator) -> np.ndarray:
    """Return the old version's rate of failures, second by second."""
    steps = random.normal(scale=about.drift / math.sqrt(LOOKS), size=_SECONDS)
    rates = about.rate * np.exp(np.cumsum(steps))
    if about.incident:
        begins = int(random.integers(LOOKS))
        rates[begins : begins + 60] = 0.5
    return np.clip(rates, 0.0, 0.5)


def latencies(slower: float) -> np.ndarray:
    """Return how likely an answer falls on each of the places."""
    bounds = np.array([LATENCY_BOUNDS[place] for place in PLACES])
    reached = norm.cdf(np.log(bounds / (MEDIAN_SECONDS * slower)) / SPREAD)
    return np.diff(np.append(np.concatenate([[0.0], reached[:-1]]), 1.0))


class Feed:
    """What a `HealthLog` is to a `Measurer`: the reports of the second that is looked at."""

    def __init__(self) -> None:
        self.reports: list[HealthReport] = []

    def since(self, _cursors: object, _first_us: int, *, model: str) -> list[HealthReport]:
        """Return them."""
        return self.reports if model else []

    def window(self, _seconds: float, *, model: str, version: str) -> Health:
        """Return that nothing is known of before the rollout."""
        return Health()


def begun(check: ErrorRateCheck = CHECK, looks: int = LOOKS) -> Rollout:
    """Return a rollout in its first step, on the way from 1 to 50 %."""
    steps = [Step(weight, hold_seconds=looks / len(WEIGHTS)) for weight in WEIGHTS[:-1]]
    plan = RolloutPlan(
        (*steps, Step(WEIGHTS[-1], hold_seconds=1e6), Step(1.0)),
        checks=(check,),
        no_traffic_seconds=1e6,
        deadline_seconds=0,
    )
    state = RolloutState(step=0, entered_at=START)
    return Rollout(
        "m-1", "model", "m", RolloutStatus.PROGRESSING, plan.checked(), state, OLD, NEW, "digest", WEIGHTS[0],
        fast=False, latched=False, reason="", evidence=RolloutEvidence(), seen=0, created_at=START, created_by="ann",
    )  # fmt: skip


def play(about: Circumstances, seed: int, check: ErrorRateCheck = CHECK, looks: int = LOOKS) -> Played:
    """Look at a rollout again and again until it is rolled back, or has been looked at so often.

    Args:
        about: What it is about.
        seed: Of everything that is random.
        check: That is made.
        looks: How many.
    """
    traffic, feed, played = Traffic(about, np.random.default_rng([seed, 11])), Feed(), Played()
    measurer = Measurer(None, feed, None)
    rollout = begun(check, looks)
    seconds = traffic.seconds(0, rollout.weight)
    for look in range(1, looks + 1):
        feed.reports = next(seconds)
        before = rollout.state.step
        rollout = turn(measurer, rollout, START + timedelta(seconds=look), played)
        _count(played, feed.reports)
        played.looks = look
        if played.rolled_back:
            break
        if rollout.state.step != before:
            seconds = traffic.seconds(look, rollout.weight)
    return played


def turn(measurer: Measurer, rollout: Rollout, now: datetime, played: Played) -> Rollout:
    """Do what a turn of the controller does, without a database."""
    seen = Situation(now, processes=("p0",), stable=OLD)
    evidence, state = measurer.look(rollout, seen)
    rollout = msgspec.structs.replace(rollout, evidence=evidence, state=state)
    match next_action(rollout, seen):
        case RollBack(reason):
            played.reason = reason
        case Enter(step, reason):
            change = entering(rollout, step, reason, now)
            kept = msgspec.json.decode(str(change.values["evidence"]), type=RolloutEvidence)
            return msgspec.structs.replace(rollout, state=change.state, evidence=kept, weight=change.weight or 0.0)
    return rollout


def _count(played: Played, reports: list[HealthReport]) -> None:
    for report in reports:
        counts = report.versions.get(NEW)
        if counts is not None:
            played.bad["errors"] += counts.errors
            played.bad["unsafe"] += counts.unsafe
            played.bad["fallbacks"] += counts.fallbacks
            played.bad["slow"] += counts.slower_than(LATENCY_BOUNDS[PLACES[P99_BUCKET]])

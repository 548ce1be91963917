"""Thousands of rollouts at once: the sums that `error_rate.gather` makes of reports, over all of them together.

A test compares each look of it with `gather` and `measure` on the same traffic, so what is found here is found of them.
The weight goes from 1 to 50 % by time: nobody waits for anybody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from crossfade.methods.stats.error_rate import WORSE, stakes
from crossfade.releases.checks.error_rate import ENOUGH, alphas
from crossfade.releases.checks.spec import ErrorRateCheck, Event
from tests.calibration.canaries import (
    CHECK,
    LOOKS,
    P99_BUCKET,
    WEIGHTS,
    Circumstances,
    latencies,
    wandering,
)

Counted = dict[str, np.ndarray]
"""Of one version in one second, rollout by rollout: requests, errors, unsafe, fallbacks, and latency by its bucket."""


def weight_at(look: int, looks: int = LOOKS) -> float:
    """Return the weight of a second, from 0."""
    return WEIGHTS[min(look * len(WEIGHTS) // looks, len(WEIGHTS) - 1)]


class Crowd:
    """The traffic of many rollouts.

    Args:
        abouts: What each is about; they differ in rates and amounts only.
        random: Where chance comes from.
        looks: Seconds in which the weight grows.
    """

    def __init__(self, abouts: Sequence[Circumstances], random: np.random.Generator, looks: int = LOOKS) -> None:
        self._about, self._random, self._looks = abouts[0], random, looks
        self._rates = np.array([wandering(about, random) for about in abouts])
        count, processes = len(abouts), self._about.processes
        shares = np.full((count, processes), 1 / processes)
        self._harm = np.ones(processes)
        if self._about.uneven:
            shares = random.dirichlet(np.full(processes, 0.5), size=count)
            self._harm[-1] = 3.0
        self._expected = np.array([[about.per_minute / 60] for about in abouts]) * shares
        self._shapes = [latencies(slower) for slower in (1.0, self._about.slower, 3.0, 3.0 * self._about.slower)]
        self._held: deque[list[Counted]] = deque()

    def seconds(self) -> Iterator[tuple[Counted, Counted]]:
        """Return what is reported of the old and the new version, second by second."""
        look = 0
        while True:
            yield self._second(look)
            look += 1

    def _second(self, look: int) -> tuple[Counted, Counted]:
        random, about = self._random, self._about
        requests = random.poisson(self._expected)
        new = random.binomial(requests, weight_at(look, self._looks))
        stalled = random.random(len(requests)) < about.stalls
        rates = self._rates[:, look, None] * self._harm
        sides = [
            self._side(asked, np.clip(rates * times, 0, 1), place, stalled)
            for place, (asked, times) in enumerate(((requests - new, 1.0), (new, about.times)))
        ]
        if about.late:
            self._held.append([{name: each[:, :1] for name, each in side.items()} for side in sides])
            none = [{name: np.zeros_like(each[:, :1]) for name, each in side.items()} for side in sides]
            due = self._held.popleft() if len(self._held) > about.late else none
            sides = [
                {name: np.concatenate([late[name], each[:, 1:]], axis=1) for name, each in side.items()}
                for late, side in zip(due, sides, strict=True)
            ]
        old_side, new_side = ({name: each.sum(axis=1) for name, each in side.items()} for side in sides)
        return old_side, new_side

    def _side(self, count: np.ndarray, rates: np.ndarray, place: int, stalled: np.ndarray) -> Counted:
        """Return the counts of one version, (rollout, process)."""
        about, random = self._about, self._random
        errors = random.binomial(count, rates)
        answered = count - errors
        shapes = self._shapes[place]
        if about.stalls:
            shapes = np.where(stalled[:, None, None], self._shapes[2 + place], shapes)
        batches = answered // about.batch
        latency = random.multinomial(batches, shapes) * about.batch
        if about.batch > 1:
            latency += random.multinomial(answered - batches * about.batch, shapes)
        return {
            "requests": count,
            "errors": errors,
            "unsafe": random.binomial(answered, about.unsafe[place]),
            "fallbacks": random.binomial(count, about.fallbacks[place]),
            "latency": latency,
        }


@dataclass
class Judged:
    """What a judge made of many rollouts.

    Attributes:
        looks: After how many it was rolled back; 0: it was not.
        bad: What the new version had done by then.
        reasons: By which event.
    """

    looks: np.ndarray
    bad: dict[str, np.ndarray]
    reasons: np.ndarray

    @classmethod
    def of(cls, count: int) -> Judged:
        """Begin with rollouts that are under way."""
        bad = {event: np.zeros(count, dtype=int) for event in ("errors", "slow", "unsafe", "fallbacks")}
        return cls(np.zeros(count, dtype=int), bad, np.full(count, "", dtype=object))

    @property
    def rolled_back(self) -> np.ndarray:
        """Which of them were."""
        return self.looks > 0

    def count(self, new: Counted) -> None:
        """Count what the new version does where it is still there."""
        there = ~self.rolled_back
        slow = new["latency"][:, P99_BUCKET + 1 :].sum(axis=1)
        for event, each in (*((name, new[name]) for name in ("errors", "unsafe", "fallbacks")), ("slow", slow)):
            self.bad[event] += each * there


@dataclass
class AlwaysValid:
    """The product's tests, over many rollouts.

    Attributes:
        count: How many.
        check: Which.
        p_values: Event -> of each rollout.
    """

    count: int
    check: ErrorRateCheck = CHECK
    p_values: dict[Event, np.ndarray] = field(init=False)
    judged: Judged = field(init=False)

    def __post_init__(self) -> None:
        self.p_values = {event: np.ones(self.count) for event in self.check.events}
        self.judged = Judged.of(self.count)
        self._bets = {event: np.zeros((self.count, len(WORSE))) for event in self.check.events}
        self._waiting = {event: np.zeros((self.count, 4)) for event in self.check.events}
        self._known: np.ndarray | None = None
        self._limit = np.full(self.count, -1)

    def look(self, old: Counted, new: Counted, look: int, *, stepped: bool = False) -> None:
        """Look at another second, the `look`-th; `stepped` when the weight has changed before it."""
        self.judged.count(new)
        for event in self.check.events:
            if stepped:
                self._waiting[event][:] = 0
            self._observe(event, self._window(event, old, new))
            wrong = (self.p_values[event] <= alphas(self.check)[event]) & ~self.judged.rolled_back
            self.judged.looks[wrong], self.judged.reasons[wrong] = look, event
        self._freeze(old["latency"])

    def _window(self, event: Event, old: Counted, new: Counted) -> np.ndarray:
        if event in {"errors", "fallbacks"}:
            return np.stack([new[event], new["requests"], old[event], old["requests"]], axis=1)
        answered = [side["latency"].sum(axis=1) for side in (new, old)]
        if event == "unsafe":
            return np.stack([new[event], answered[0], old[event], answered[1]], axis=1)
        beyond = np.arange(old["latency"].shape[1]) > self._limit[:, None]
        slow = [(side["latency"] * beyond).sum(axis=1) for side in (new, old)]
        return np.stack([slow[0], answered[0], slow[1], answered[1]], axis=1) * (self._limit >= 0)[:, None]

    def _observe(self, event: Event, window: np.ndarray) -> None:
        waiting = self._waiting[event]
        waiting += window
        whole = (waiting[:, 1] > 0) & (waiting[:, 3] > 0)
        told = np.flatnonzero(whole & (waiting[:, 0] + waiting[:, 2] > 0))
        if told.size:
            bad, of, before, of_before = waiting[told].T[..., None]
            mine, others = stakes(of, of_before, np.array(WORSE) * self.check.tolerated, self.check.tolerated)
            bets = self._bets[event][told] + bad * mine + before * others
            self._bets[event][told] = bets
            top = bets.max(axis=1)
            evidence = top + np.log(np.exp(bets - top[:, None]).mean(axis=1))
            self.p_values[event][told] = np.minimum(self.p_values[event][told], np.exp(-np.maximum(evidence, 0)))
        waiting[whole] = 0

    def _freeze(self, latency: np.ndarray) -> None:
        """Find out what is slow where enough is known for the first time."""
        self._known = latency.copy() if self._known is None else self._known + latency
        answered = self._known.sum(axis=1)
        fresh = (self._limit < 0) & (answered >= ENOUGH)
        reached = np.cumsum(self._known[fresh], axis=1)
        self._limit[fresh] = np.argmax(reached >= (0.99 * answered[fresh])[:, None], axis=1)


@dataclass
class Thresholds:
    """A loop as Flagger has it: fixed limits for an interval, and a number of failed intervals that is too many.

    Every minute the new version's success rate and its 99th percentile are held against fixed limits. A minute in which
    either is broken, or in which nothing is known, counts as failed, for good; at the tick after the one that counts up
    to the threshold, everything is rolled back.

    Source: github.com/fluxcd/flagger, pkg/controller/scheduler.go (`advanceCanary`) and scheduler_metrics.go
    (`runBuiltinMetricChecks`); limits and interval are those of its documentation.

    Attributes:
        count: How many rollouts are judged.
        failures: How many failed intervals are too many.
        success: The success rate that is good enough.
        bucket: Of latency that the 99th percentile may fall on.
        interval: In seconds.
    """

    count: int
    failures: int = 5
    success: float = 0.99
    bucket: int = P99_BUCKET + 2
    interval: int = 60
    judged: Judged = field(init=False)

    def __post_init__(self) -> None:
        self.judged = Judged.of(self.count)
        self._failed = np.zeros(self.count, dtype=int)
        self._sums: Counted = {}

    def look(self, new: Counted, look: int) -> None:
        """Take notice of another second, the `look`-th."""
        self.judged.count(new)
        self._sums = {name: each + self._sums.get(name, 0) for name, each in new.items()}
        if look % self.interval:
            return
        over = (self._failed >= self.failures) & ~self.judged.rolled_back
        self.judged.looks[over], self.judged.reasons[over] = look, "intervals"
        sums, self._sums = self._sums, {}
        answered = sums["latency"].sum(axis=1)
        slow = sums["latency"][:, self.bucket + 1 :].sum(axis=1) > 0.01 * answered
        success = 1 - sums["errors"] / np.maximum(sums["requests"], 1)
        self._failed += (answered == 0) | slow | (success < self.success)


def judge(
    abouts: Sequence[Circumstances],
    seed: int,
    check: ErrorRateCheck = CHECK,
    looks: int = LOOKS,
    beside: Sequence[Thresholds] = (),
    longest: int | None = None,
) -> Judged:
    """Look at many rollouts, second by second, until all are over or have been looked at so often.

    Args:
        abouts: What they are about.
        seed: Of everything that is random.
        check: That is made.
        looks: In which the weight grows.
        beside: Who judges the same traffic, too.
        longest: How many looks there are in all; `looks` by default.
    """
    tests = AlwaysValid(len(abouts), check)
    seconds = Crowd(abouts, np.random.default_rng([seed, 13]), looks).seconds()
    for look in range(1, (longest or looks) + 1):
        old, new = next(seconds)
        stepped = weight_at(look - 1, looks) != weight_at(max(look - 2, 0), looks)
        tests.look(old, new, look, stepped=stepped)
        for other in beside:
            other.look(new, look)
        if tests.judged.rolled_back.all() and all(other.judged.rolled_back.all() for other in beside):
            break
    return tests.judged

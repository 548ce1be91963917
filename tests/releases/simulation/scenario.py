"""What happens in one simulated life of a model: drawn from a seed, as a list that can be made shorter."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import NamedTuple

from crossfade.releases.checks.spec import ErrorRateCheck, ThresholdCheck, WebhookCheck
from crossfade.releases.plan import PRESETS, RolloutPlan, Step

ROUNDS = 24
"""For which faults happen and people act; then all is quiet, and time goes on."""
CONTROLLERS = 3
BOUNDARIES = 14
"""Beginnings and ends of transactions that one turn of a controller has, at most about so many."""

ERRORS = ErrorRateCheck("errors")
LIMITS = {"no_traffic_seconds": 25, "deadline_seconds": 240, "hold_down_seconds": 15, "fast_rollback_seconds": 60}
PLANS = {
    "canary": RolloutPlan(
        (Step(0.1, hold_seconds=3, minimum_units=20), Step(0.5, hold_seconds=2, minimum_units=20), Step(1.0)),
        checks=(ERRORS,),
        **LIMITS,
    ),
    "blind": RolloutPlan((Step(0.2), Step(0.6, hold_seconds=1), Step(1.0)), kind="staged", **LIMITS),
    "shadow": RolloutPlan(
        (Step(0.0, shadow=True, minimum_units=10), Step(0.3, hold_seconds=2, minimum_units=10), Step(1.0)),
        kind="shadow_first",
        checks=(ERRORS,),
        **LIMITS,
    ),
    "approved": RolloutPlan(
        (Step(0.25, hold_seconds=1, minimum_units=10, approval=True), Step(1.0)), checks=(ERRORS,), **LIMITS
    ),
    "rolling": RolloutPlan(
        (Step(0.25, minimum_units=5), Step(0.5, minimum_units=5), Step(1.0)),
        kind="rolling",
        checks=(ERRORS,),
        **LIMITS,
    ),
    "watched": RolloutPlan(
        (Step(0.2, hold_seconds=2), Step(1.0)),
        checks=(
            ERRORS,
            WebhookCheck("service", "https://example.org/check", interval_seconds=2, success_count=2),
            ThresholdCheck("limit", series="error_rate", maximum=0.5, interval_seconds=2),
        ),
        **LIMITS,
    ),
    "endless": RolloutPlan((Step(0.1, hold_seconds=100_000), Step(1.0)), **LIMITS),
    "nothing": RolloutPlan(
        (Step(0.0, hold_seconds=2, checks=()), Step(0.1, minimum_units=5), Step(1.0)), checks=(ERRORS,), **LIMITS
    ),
    "fast": PRESETS["fast"],
}
TRUTHS = ("good", "good", "bad", "bad", "silent", "broken")
"""Of the new version: does no harm; fails nine of ten requests; is never asked; cannot be loaded somewhere."""


class Happening(NamedTuple):
    """One thing that happens: in which round, what, to whom, and how."""

    round: int
    kind: str
    who: int = 0
    place: int = 0
    amount: float = 0.0
    what: str = ""

    def __str__(self) -> str:
        details = f" {self.what}" if self.what else ""
        return f"round {self.round}: {self.kind}{details} who={self.who} place={self.place} amount={self.amount:g}"


class Scenario(NamedTuple):
    """One life."""

    seed: int
    plan: str
    truth: str
    replicas: int
    happenings: tuple[Happening, ...]

    def without(self, places: Collection[int]) -> Scenario:
        """Return the same with fewer happenings."""
        return self._replace(happenings=tuple(h for place, h in enumerate(self.happenings) if place not in places))


FAULTS = (
    *("pause", "pause", "pause", "pause", "crash", "crash", "lost", "partition", "clock", "clock"),
    *("stop", "die", "join", "stuck", "frozen", "mute", "twice", "late", "drought", "emergency", "service", "hostile"),
)
VERBS = (
    *("pause", "resume", "resume", "promote", "promote", "promote_to_end", "abort", "rollback", "rollback"),
    *("retry", "retry_override", "create", "create_override", "move", "move", "unalias", "reject", "delete"),
)


def draw(seed: int) -> Scenario:
    """Return the life that belongs to a seed."""
    random_ = random.Random(seed)
    happenings = [_fault(random_) for _ in range(random_.choice((0, 1, 2, 3, 5, 8)))]
    happenings += [_verb(random_) for _ in range(random_.choice((0, 1, 2, 4)))]
    happenings += [each for fault in happenings if fault.kind == "pause" for each in _meanwhile(random_, fault)]
    return Scenario(
        seed,
        random_.choice(tuple(PLANS)),
        random_.choice(TRUTHS),
        random_.choice((2, 2, 3)),
        tuple(sorted(happenings)),
    )


def _fault(random_: random.Random) -> Happening:
    kind, round_, rounds = random_.choice(FAULTS), random_.randrange(ROUNDS), random_.randint(1, 12)
    who = random_.randrange(CONTROLLERS)
    if kind in {"pause", "crash", "lost"}:
        return Happening(round_, kind, who, random_.randrange(BOUNDARIES), rounds)
    if kind == "clock":
        seconds = random_.choice((-4000.0, -30.0, -5.0, 5.0, 30.0, 4000.0))
        return Happening(
            round_, kind, who, random_.choice((0, 0, rounds)), seconds, random_.choice(("", "", "serving"))
        )
    if kind == "service":
        answer = random_.choice(("fail", "inconclusive", "error", "nonsense"))
        return Happening(round_, kind, amount=rounds, what=answer)
    return Happening(round_, kind, who, random_.randrange(2), rounds)


def _meanwhile(random_: random.Random, pause: Happening) -> list[Happening]:
    """Return what happens while a controller is paused: what makes its view a stale one."""
    if random_.random() < 0.6:
        return [_verb(random_)._replace(round=pause.round + random_.randint(1, 4))]
    if random_.random() < 0.5:  # whoever takes over dies before it does anything
        round_, who = pause.round + random_.randint(3, 6), (pause.who + random_.choice((1, 2))) % CONTROLLERS
        return [Happening(round_, "crash", who, random_.randint(5, 10), 8)]
    return []


def _verb(random_: random.Random) -> Happening:
    again = random_.choice((0, 0, random_.randint(1, 6)))
    version = random_.choice(("1.0.0", "1.0.1", "1.0.1", "1.0.2"))
    return Happening(
        random_.randrange(ROUNDS), "person", random_.randrange(2), again, 0, f"{random_.choice(VERBS)} {version}"
    )

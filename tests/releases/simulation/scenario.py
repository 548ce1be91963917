"""What happens in one simulated life of a subject: drawn from a seed, as a list that can be made shorter."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import NamedTuple

from tests.releases.simulation.subjects.kinds import KINDS
from tests.releases.simulation.subjects.port import Script

ROUNDS = 24
"""For which faults happen and people act; then all is quiet, and time goes on."""
CONTROLLERS = 3
BOUNDARIES = 14
"""Beginnings and ends of transactions that one turn of a controller has, at most about so many."""


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
    kind: str
    plan: str
    truth: str
    replicas: int
    happenings: tuple[Happening, ...]

    def without(self, places: Collection[int]) -> Scenario:
        """Return the same with fewer happenings."""
        return self._replace(happenings=tuple(h for place, h in enumerate(self.happenings) if place not in places))


FAULTS = (
    *("pause", "pause", "pause", "pause", "crash", "crash", "lost", "partition", "clock", "clock"),
    *("stop", "die", "join", "stuck", "frozen", "mute", "twice", "late", "drought", "emergency", "service"),
)
VERBS = (
    *("pause", "resume", "resume", "promote", "promote", "promote_to_end", "abort", "rollback", "rollback"),
    *("retry", "retry_override", "create", "create_override"),
)
"""Of rollouts; what is done to the subject itself is part of its script."""


def draw(seed: int) -> Scenario:
    """Return the life that belongs to a seed; each third one is that of a config."""
    random_, kind = random.Random(seed), "config" if seed % 3 == 2 else "model"
    script = KINDS[kind].script
    happenings = [_fault(random_, script) for _ in range(random_.choice((0, 1, 2, 3, 5, 8)))]
    happenings += [_verb(random_, script) for _ in range(random_.choice((0, 1, 2, 4)))]
    happenings += [each for fault in happenings if fault.kind == "pause" for each in _meanwhile(random_, script, fault)]
    return Scenario(
        seed,
        kind,
        random_.choice(tuple(script.plans)),
        random_.choice(script.truths),
        random_.choice((2, 2, 3)),
        tuple(sorted(happenings)),
    )


def _fault(random_: random.Random, script: Script) -> Happening:
    kind, round_, rounds = random_.choice((*FAULTS, script.fault)), random_.randrange(ROUNDS), random_.randint(1, 12)
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


def _meanwhile(random_: random.Random, script: Script, pause: Happening) -> list[Happening]:
    """Return what happens while a controller is paused: what makes its view a stale one."""
    if random_.random() < 0.6:
        return [_verb(random_, script)._replace(round=pause.round + random_.randint(1, 4))]
    if random_.random() < 0.5:  # whoever takes over dies before it does anything
        round_, who = pause.round + random_.randint(3, 6), (pause.who + random_.choice((1, 2))) % CONTROLLERS
        return [Happening(round_, "crash", who, random_.randint(5, 10), 8)]
    return []


def _verb(random_: random.Random, script: Script) -> Happening:
    again = random_.choice((0, 0, random_.randint(1, 6)))
    version = random_.choice(script.versions)
    round_, who = random_.randrange(ROUNDS), random_.randrange(2)
    return Happening(round_, "person", who, again, 0, f"{random_.choice((*VERBS, *script.verbs))} {version}")

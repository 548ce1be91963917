"""Many lives: one after another or on two processes, and the fewest happenings with which one still goes wrong."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.releases.simulation.mutations import MUTATIONS
from tests.releases.simulation.places import Memory
from tests.releases.simulation.scenario import Scenario, draw
from tests.releases.simulation.world import Outcome, World

PROCESSES = 2
_AT_ONCE = 50


@functools.cache
def _memory() -> Memory:
    return Memory()


def live(scenario: Scenario) -> Outcome:
    """Live through a scenario."""
    return World(scenario, _memory()).run()


def shrink(outcome: Outcome) -> Outcome:
    """Leave out whatever can be left out while the same promise breaks."""
    place = 0
    while place < len(outcome.scenario.happenings):
        shorter = live(outcome.scenario.without({place}))
        if _kind(shorter) == _kind(outcome):
            outcome = shorter
        else:
            place += 1
    return outcome


def _kind(outcome: Outcome) -> str:
    """Return what is wrong without numbers, so that a smaller example is recognised."""
    return "".join(letter for letter in outcome.problem if not letter.isdigit())


def _batch(first: int, count: int) -> list[Outcome]:
    outcomes = [live(draw(seed)) for seed in range(first, first + count)]
    return [outcome if outcome.problem else outcome._replace(trace=()) for outcome in outcomes]


def campaign(first: int, seeds: int) -> Iterator[Outcome]:
    """Live through many seeds, on two processes, in order."""
    starts = range(first, first + seeds, _AT_ONCE)
    counts = [min(_AT_ONCE, first + seeds - start) for start in starts]
    with ProcessPoolExecutor(PROCESSES) as pool:
        for outcomes in pool.map(_batch, starts, counts):
            yield from outcomes


def caught(mutation: str, seeds: int, first: int = 0) -> Outcome | None:
    """Make a deliberate mistake, and return the first life in which the oracle notices it."""
    with MUTATIONS[mutation]():
        for seed in range(first, first + seeds):
            outcome = live(draw(seed))
            if outcome.problem:
                return outcome
    return None

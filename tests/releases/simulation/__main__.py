"""`make simulate`: thousands of simulated lives of a model or a config, each from a seed; fails when a promise broke.

`ARGS="--seeds 500"` takes fewer, `ARGS="--first 4711 --seeds 1 --trace"` shows one, `ARGS=--mutations` shows that the
oracle notices deliberate mistakes. What went wrong is printed with its seed and the fewest happenings that do it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.releases.simulation.campaign import campaign, caught, live, shrink
from tests.releases.simulation.mutations import MUTATIONS
from tests.releases.simulation.scenario import draw
from tests.releases.simulation.world import Outcome

_TOLD_EVERY = 500
_SHOWN = 5
"""Broken lives that are shrunk and shown; the others are counted."""


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="make simulate")
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--mutations", action="store_true")
    options = parser.parse_args()
    if options.mutations:
        return _mutations(options.first, options.seeds)
    if options.trace:
        outcomes = [live(draw(seed)) for seed in range(options.first, options.first + options.seeds)]
        for outcome in outcomes:
            _show(outcome)
        return int(any(outcome.problem for outcome in outcomes))
    return _campaign(options.first, options.seeds)


def _campaign(first: int, seeds: int) -> int:
    started, ends, problems = time.monotonic(), Counter[str](), Counter[str]()
    for number, outcome in enumerate(campaign(first, seeds), 1):
        ends.update(outcome.ends)
        if number % _TOLD_EVERY == 0:
            print(f"{number} seeds, {problems.total()} broken, {time.monotonic() - started:.0f} s", flush=True)
        if outcome.problem:
            problems[outcome.problem] += 1
            print(f"seed {outcome.scenario.seed}: {outcome.problem}", flush=True)
            if problems.total() <= _SHOWN:
                _show(shrink(outcome))
    seconds = time.monotonic() - started
    print(f"{seeds} seeds, {problems.total()} broken, {seeds / seconds:.1f} a second; {dict(ends.most_common())}")
    return int(bool(problems))


def _mutations(first: int, seeds: int) -> int:
    missed = 0
    for name in MUTATIONS:
        found = caught(name, seeds, first)
        missed += found is None
        words = "NOT CAUGHT" if found is None else f"caught by seed {found.scenario.seed}: {found.problem}"
        print(f"{name}: {words}", flush=True)
    return int(missed > 0)


def _show(outcome: Outcome) -> None:
    scenario = outcome.scenario
    drawn = f"a {scenario.kind}, plan {scenario.plan}, truth {scenario.truth}, {scenario.replicas} processes"
    print(f"--- seed {scenario.seed}: {drawn}")
    for line in (*outcome.trace, outcome.problem or "nothing is wrong"):
        print(line)


if __name__ == "__main__":
    sys.exit(main())

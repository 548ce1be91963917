"""`make takeovers`: three controllers in processes of their own, one of which is killed or stopped wherever it writes.

A stopped one goes on when another has taken over. `ARGS="sqlite"` or `ARGS="postgres"` takes one database,
`--places 10` fewer places. Fails when a promise broke.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections import Counter
from itertools import product

from tests.releases.takeovers.campaign import Case, postgres, sqlite, strike
from tests.releases.takeovers.children import Strike

HOMES = {"sqlite": sqlite, "postgres": postgres}
PLACES = 60
"""Each turn of whoever leads has six: a rollout is over before the last of them."""
_TOLD_EVERY = 40


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="make takeovers")
    parser.add_argument("databases", nargs="*", choices=[*HOMES, []])
    parser.add_argument("--places", type=int, default=PLACES)
    options = parser.parse_args()
    counts, started = Counter[str](), time.monotonic()
    with contextlib.ExitStack() as stack:
        homes = {name: stack.enter_context(HOMES[name]()) for name in options.databases or HOMES}
        cases = product(range(1, options.places + 1), ("good", "bad"), ("KILL", "STOP"), homes)
        for number, (place, truth, fault, name) in enumerate(cases, 1):
            outcome = strike(homes[name], Case(truth, Strike(place, fault)))
            counts += Counter(
                cases=1, struck=outcome.struck, taken_over=outcome.taken_over, broken=bool(outcome.problem)
            )
            if outcome.problem:
                print(f"{name}, {outcome.case}: {outcome.problem}", flush=True)
            if number % _TOLD_EVERY == 0:
                _tell(counts, started)
    _tell(counts, started)
    return int(counts["broken"] > 0 or not counts["struck"])


def _tell(counts: Counter[str], started: float) -> None:
    names = ("cases", "struck", "taken_over", "broken")
    words = ", ".join(f"{counts[name]} {name.replace('_', ' ')}" for name in names)
    print(f"{words}; {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""`make takeovers`: three controllers in processes of their own, one of which is killed or stopped wherever it writes.

A stopped one goes on when another has taken over. `ARGS="sqlite"` or `ARGS="postgres"` takes one database;
`--rounds 3` does everything three times. Fails when a promise broke.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.releases.takeovers.campaign import Outcome, postgres, sqlite, strike_everywhere

HOMES = {"sqlite": sqlite, "postgres": postgres}


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="make takeovers")
    parser.add_argument("databases", nargs="*", choices=[*HOMES, []], default=list(HOMES))
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    broken = 0
    for name in options.databases:
        with HOMES[name]() as home:
            for _ in range(options.rounds):
                for truth in ("good", "bad"):
                    for fault in ("KILL", "STOP"):
                        started = time.monotonic()
                        outcomes = list(strike_everywhere(home, truth, fault))
                        broken += _report(f"{name}, {truth} version, {fault}", outcomes, time.monotonic() - started)
    return int(broken > 0)


def _report(name: str, outcomes: list[Outcome], seconds: float) -> int:
    wrong = [outcome for outcome in outcomes if outcome.problem]
    taken = sum(outcome.taken_over for outcome in outcomes)
    print(f"{name}: {len(outcomes)} places, {taken} seen taken over, {len(wrong)} broken, {seconds:.0f} s", flush=True)
    for outcome in wrong:
        print(f"  {outcome.case}: {outcome.problem}", flush=True)
    return len(wrong) + (not outcomes)


if __name__ == "__main__":
    sys.exit(main())

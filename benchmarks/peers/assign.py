"""What every library of a comparison is asked, and how: runs in its environment, so it needs nothing but Python.

Three questions about 20,000 units each time, which nobody has seen before: half of all units get `treatment`; the same
inside of a segment, for 90 % of the units; and the first one again, with what has to be recorded of it handed over to a
function that does nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

UNITS = 20_000
PASSES = 5
COUNTRIES = ["DE", "AT", "CH"]
INSIDE = {"country": "DE", "age": 31, "plan": "pro"}
OUTSIDE = {"country": "FR", "age": 31, "plan": "pro"}
NO_CONTEXT: dict[str, Any] = {}
SHARE = 0.9
TREATED = "treatment"

Assign = Callable[[str, dict[str, Any]], str | None]
"""From a unit and its context to the name of a variant; anything but `treatment` is the control."""


def report(one: Assign, segment: Assign, exposed: Assign, recorded: Callable[[], int]) -> None:
    """Check three assigners and print what each takes, in microseconds of CPU, as JSON.

    Args:
        one: Half and half.
        segment: Half and half of nine tenths of the units, in the segment.
        exposed: As `one`, recorded.
        recorded: How many exposures have been handed over so far.
    """
    names = numbered()
    check("one", one, INSIDE, 0.5, names)
    check("segment", segment, INSIDE, SHARE / 2, names)
    check("segment, outside", segment, OUTSIDE, 0.0, names)
    before = recorded()
    check("exposed", exposed, INSIDE, 0.5, names)
    if recorded() - before < UNITS:
        raise RuntimeError(f"{recorded() - before} exposures of {UNITS} units were handed over")
    cases = {"one": (one, NO_CONTEXT), "segment": (segment, INSIDE), "exposed": (exposed, NO_CONTEXT)}
    taken: dict[str, list[float]] = {case: [] for case in cases}
    for _ in range(PASSES):
        for case, (assign, context) in cases.items():
            taken[case].append(microseconds(assign, context, next(names)))
    # the best: what it costs when nobody else wants the processor
    print(json.dumps({case: min(times) for case, times in taken.items()}))


def numbered() -> Iterator[list[str]]:
    """Yield units that are always new ones."""
    number = 0
    while True:
        yield [f"user-{unit}" for unit in range(number, number + UNITS)]
        number += UNITS


def check(case: str, assign: Assign, context: dict[str, Any], share: float, names: Iterator[list[str]]) -> None:
    """Make sure that as many units are treated as should be, and the same ones when asked again.

    Raises:
        RuntimeError: It is not so.
    """
    units = next(names)
    first, again = ([assign(unit, context) == TREATED for unit in units] for _ in range(2))
    found = sum(first) / UNITS
    if first != again or abs(found - share) > 0.02:
        raise RuntimeError(f"{case}: {found:.1%} are treated instead of {share:.1%}, or others when asked again")


def microseconds(assign: Assign, context: dict[str, Any], units: list[str]) -> float:
    started = time.thread_time()
    for unit in units:
        assign(unit, context)
    return (time.thread_time() - started) / len(units) * 1e6

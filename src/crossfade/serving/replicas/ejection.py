"""Which replica is left alone for a while, because it fails and the others do not: a pure function.

Two signs: failures in a row that no input explains (its process ended, hung, or answered a probe wrongly), and errors
of any kind that are much more frequent than those of all others together, and more than chance would make them.
Requests that are wrong themselves meet every replica alike, so they never make an outlier. At most half of the replicas
are left alone at a time, and never the last one that answers. Each time takes longer.

Sources: outlier detection of Envoy: consecutive failures, success rate, growing ejection time, `max_ejection_percent`
(https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier). Its success rate needs a hundred
requests of each host in ten seconds; Fisher's exact test (The Design of Experiments, 1935, chapter 2) needs as many as
the difference does: of four replicas, one that fails from the start is found after seven.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

FAILURES_IN_A_ROW = 5
_DIFFERENCE = 0.1
_CHANCE = 1e-6
"""An outlier's error rate is above that of the others by so much, which has at most this chance if all are alike."""
MOST_SHARE = 0.5
_FIRST_SECONDS, _LONGEST_SECONDS = 30.0, 300.0
WINDOW_SECONDS, WINDOW_BATCHES = 10.0, 50
"""How long batches are counted, and how many of each replica on average, before counting begins anew."""


class Standing(msgspec.Struct, frozen=True):
    """How one replica does.

    Args:
        number: Which one.
        answers: Whether it takes requests now: it is ready, and not left alone.
        ejected: Whether it is left alone.
        failures: Failures in a row that no input explains.
        batches, errors: How many it was given in the window, and of how many it answered no request; of a run of them,
            while no other replica answered one, only the first. The requests of a batch share their fate, because some
            client may send ten bad ones at once, and so do batches of a run: whoever fails at once gets the next.
    """

    number: int
    answers: bool
    ejected: bool = False
    failures: int = 0
    batches: int = 0
    errors: int = 0


def outlier(standings: Sequence[Standing]) -> int | None:
    """Return which replica is to be left alone next, or None.

    Args:
        standings: All replicas.

    Example:
        >>> outlier([Standing(0, True, failures=5), Standing(1, True)])
        0
        >>> outlier([Standing(0, True, failures=5)]) is None
        True
    """
    ejected = sum(standing.ejected for standing in standings)
    if ejected + 1 > MOST_SHARE * len(standings):
        return None
    suspects = [standing for standing in standings if not standing.ejected and _fails(standing, standings)]
    for suspect in sorted(suspects, key=lambda each: (-each.failures, -each.errors, each.number)):
        if any(other.answers and other.number != suspect.number for other in standings):
            return suspect.number
    return None


def ejection_seconds(times: int) -> float:
    """Return how long a replica is left alone the n-th time.

    Example:
        >>> [ejection_seconds(times) for times in (1, 2, 100)]
        [30.0, 60.0, 300.0]
    """
    return min(_LONGEST_SECONDS, _FIRST_SECONDS * times)


def reason(suspect: Standing, standings: Sequence[Standing]) -> str:
    """Say in words why a replica is left alone.

    Example:
        >>> reason(Standing(0, True, batches=7, errors=7), [Standing(0, True, batches=7, errors=7), Standing(1, True)])
        'it failed 7 of 7 batches, and the others 0 of 0'
    """
    if suspect.failures >= FAILURES_IN_A_ROW:
        return f"it failed {suspect.failures} times in a row"
    batches, errors = _others(suspect, standings)
    return f"it failed {suspect.errors} of {suspect.batches} batches, and the others {errors} of {batches}"


def _others(suspect: Standing, standings: Sequence[Standing]) -> tuple[int, int]:
    others = [each for each in standings if each.number != suspect.number and not each.ejected]
    return sum(each.batches for each in others), sum(each.errors for each in others)


def _fails(suspect: Standing, standings: Sequence[Standing]) -> bool:
    if suspect.failures >= FAILURES_IN_A_ROW:
        return True
    batches, errors = _others(suspect, standings)
    if not batches or not suspect.batches:
        return False
    difference = suspect.errors / suspect.batches - errors / batches
    return difference > _DIFFERENCE and chance(suspect.errors, suspect.batches, errors, batches) < _CHANCE


def chance(errors: int, batches: int, others_errors: int, others_batches: int) -> float:
    """Return how likely so many of all errors, or more, meet one replica when they meet all alike.

    It is the upper tail of a hypergeometric distribution, summed from its first term on.

    Example:
        >>> f"{chance(7, 7, 0, 21):.1e}"
        '8.4e-07'
    """
    all_errors, all_batches = errors + others_errors, batches + others_batches
    term = math.exp(
        _log_ways(batches, errors) + _log_ways(others_batches, others_errors) - _log_ways(all_batches, all_errors)
    )
    total = 0.0
    for count in range(errors, min(batches, all_errors) + 1):
        total += term
        left = others_batches - all_errors + count + 1
        term *= (batches - count) * (all_errors - count) / ((count + 1) * left)
    return min(1.0, total)


def _log_ways(of: int, chosen: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(chosen + 1) - math.lgamma(of - chosen + 1)

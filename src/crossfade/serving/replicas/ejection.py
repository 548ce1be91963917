"""Which replica is left alone for a while, because it fails and the others do not: a pure function.

Two signs: failures in a row that no input explains (its process ended, hung, or answered a probe wrongly), and errors
of any kind that are much more frequent than those of all others together. Requests that are wrong themselves meet every
replica alike, so they never make an outlier. At most half of the replicas are left alone at a time, and never the last
one that answers. Each time takes longer.

Source: outlier detection of Envoy: consecutive failures, success rate, growing ejection time and `max_ejection_percent`
(https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

FAILURES_IN_A_ROW = 5
LEAST_REQUESTS = 50
"""Fewer requests of a replica, or of the others, say nothing about rates."""
_DIFFERENCE = 0.1
_DEVIATIONS = 4.0
"""An outlier's error rate is above that of the others by so much, and by so many standard deviations."""
MOST_SHARE = 0.5
_FIRST_SECONDS, _LONGEST_SECONDS = 30.0, 300.0
WINDOW_SECONDS = 10.0
"""How long requests are counted before counting begins anew."""


class Standing(msgspec.Struct, frozen=True):
    """How one replica does.

    Args:
        number: Which one.
        answers: Whether it takes requests now: it is ready, and not left alone.
        ejected: Whether it is left alone.
        failures: Failures in a row that no input explains.
        requests, errors: In the window.
    """

    number: int
    answers: bool
    ejected: bool = False
    failures: int = 0
    requests: int = 0
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


def _fails(suspect: Standing, standings: Sequence[Standing]) -> bool:
    if suspect.failures >= FAILURES_IN_A_ROW:
        return True
    others = [each for each in standings if each.number != suspect.number and not each.ejected]
    requests, errors = sum(each.requests for each in others), sum(each.errors for each in others)
    if min(requests, suspect.requests) < LEAST_REQUESTS:
        return False
    difference = suspect.errors / suspect.requests - errors / requests
    pooled = (errors + suspect.errors) / (requests + suspect.requests)
    deviation = math.sqrt(pooled * (1.0 - pooled) * (1.0 / requests + 1.0 / suspect.requests))
    return difference > max(_DIFFERENCE, _DEVIATIONS * deviation)

"""What is promised of rollouts, measured on simulated ones; and the same traffic judged by fixed thresholds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from crossfade.releases.checks.spec import ErrorRateCheck, Event
from tests.calibration.canaries import CHECK, LOOKS, Circumstances
from tests.calibration.checks import Figure, at_most
from tests.calibration.crowd import Judged, Thresholds, judge

RATES, TRAFFIC = (0.002, 0.02), (50.0, 5000.0)
"""Failures of the old version, and requests a minute; as likely to be in the lower as in the upper tenth part."""
HEALTHY = {
    "steady": Circumstances(),
    "drifting": Circumstances(drift=1.0, incident=True, uneven=True, processes=4),
    "quiet": Circumstances(per_minute=60.0, drift=0.5, incident=True),
    "late": Circumstances(late=30, incident=True, processes=3),
    "stalling": Circumstances(stalls=0.02, drift=0.5),
    "batched": Circumstances(batch=4),
}
"""What a good version may meet."""
SICK: dict[str, tuple[Circumstances, Event, float]] = {
    "x10": (Circumstances(times=10.0), "errors", 6.0),
    "x3": (Circumstances(times=3.0), "errors", 16.0),
    "x50": (Circumstances(times=50.0), "errors", 4.0),
    "25 % slower": (Circumstances(slower=1.25), "slow", 40.0),
    "twice as slow": (Circumstances(slower=2.0), "slow", 15.0),
    "unsafe x10": (Circumstances(unsafe=(0.001, 0.01)), "unsafe", 7.0),
    "fallbacks x10": (Circumstances(fallbacks=(0.0005, 0.005)), "fallbacks", 7.0),
}
"""What is wrong with a bad one, by which event it is seen, and the median of how often it may happen before that."""
BUSY = 5000.0
"""Requests a minute at which that holds: where less comes, the share has grown before enough was seen at small ones."""


def drawn(about: Circumstances, seed: int) -> Circumstances:
    """Return the circumstances of one rollout: another rate and, unless it is quiet, another amount of traffic."""
    random = np.random.default_rng([seed, 7])
    rate, per_minute = (float(np.exp(random.uniform(*np.log(limits)))) for limits in (RATES, TRAFFIC))
    return replace(about, rate=rate, per_minute=per_minute if about.per_minute > 100 else about.per_minute)


def healthy(name: str, rollouts: int, looks: int = LOOKS) -> Iterator[Figure]:
    """A good version is rolled back by chance."""
    abouts = [drawn(HEALTHY[name], seed) for seed in range(rollouts)]
    wrong = judge(abouts, 1, looks=looks).rolled_back.mean()
    yield at_most(f"rollouts {name}: false rollbacks", wrong, CHECK.alpha, rollouts)


def sick(name: str, rollouts: int, looks: int = LOOKS) -> Iterator[Figure]:
    """A bad version is rolled back: how much of it that takes, the median."""
    about, event, most = SICK[name]
    found = judge([replace(about, per_minute=BUSY)] * rollouts, 2, looks=looks, longest=3 * looks)
    median = float(np.median(found.bad[event]))
    yield Figure(f"rollouts {name}: median of {event} before the rollback", median, 1.0, most)
    yield Figure(f"rollouts {name}: rolled back", float(found.rolled_back.mean()), 0.95, 1.0)


def shares(name: str, rollouts: int, among: tuple[float, ...]) -> Iterator[Figure]:
    """How much sooner a bad version is seen when its event has a larger share of alpha."""
    about, event, _ = SICK[name]
    for share in among:
        check = ErrorRateCheck("errors", events=(event,), alpha=CHECK.alpha * share)
        found = judge([replace(about, per_minute=BUSY)] * rollouts, 3, check)
        mean = float(found.bad[event].mean())
        yield Figure(f"rollouts {name}: mean of {event} before the rollback at {share:.0%} of alpha", mean, 0.0, 1e9)


SITUATIONS = {
    "healthy, 0.2 % fail": Circumstances(rate=0.002),
    "healthy, 0.8 % fail": Circumstances(rate=0.008),
    "healthy, 2 % fail": Circumstances(rate=0.02),
    "healthy, an incident": Circumstances(rate=0.005, drift=1.0, incident=True),
    "3 times 0.2 % fail": Circumstances(rate=0.002, times=3.0),
    "3 times 1 % fail": Circumstances(rate=0.01, times=3.0),
    "10 times 0.2 % fail": Circumstances(rate=0.002, times=10.0),
    "10 times 1 % fail": Circumstances(rate=0.01, times=10.0),
    "25 % slower": Circumstances(rate=0.002, slower=1.25),
    "3 times as slow": Circumstances(rate=0.002, slower=3.0),
}
"""What is judged both ways."""
FAILURES = (5, 10)
_HEADER = f"{'':22}{'requests':>10}  {'judge':<24}{'rolled back':>12}{'failed':>8}{'slow':>8}{'seconds':>9}"


def beside_thresholds(rollouts: int, traffic: tuple[float, ...] = (100.0, 600.0, BUSY)) -> Iterator[str]:
    """Judge the same traffic by the product and by thresholds: a table; medians are of what was rolled back."""
    yield _HEADER
    for name, about in SITUATIONS.items():
        for per_minute in traffic:
            loops = {f"thresholds, {failures} failures": Thresholds(rollouts, failures) for failures in FAILURES}
            ours = judge([replace(about, per_minute=per_minute)] * rollouts, 4, beside=list(loops.values()))
            for by, found in {"always-valid test": ours, **{by: loop.judged for by, loop in loops.items()}}.items():
                yield f"{name:22}{per_minute:>8.0f}/m  {by:<24}{_row(found)}"


def _row(found: Judged) -> str:
    stopped = found.rolled_back
    share = f"{stopped.mean():>12.1%}"
    if not stopped.any():
        return f"{share}{'-':>8}{'-':>8}{'-':>9}"
    failed, slow = (float(np.median(found.bad[event][stopped])) for event in ("errors", "slow"))
    return f"{share}{failed:>8.0f}{slow:>8.0f}{float(np.median(found.looks[stopped])):>9.0f}"

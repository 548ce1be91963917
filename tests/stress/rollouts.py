"""Rollouts to each of their ends, one after the other, under constant open-loop load against a real server.

Every answer tells by which version it was given, and for which row; see `open_loop`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from crossfade.platform import Platform
from crossfade.releases.checks.spec import ErrorRateCheck, ThresholdCheck
from crossfade.releases.plan import RolloutPlan, Step
from crossfade.releases.requests import RolloutRequest
from crossfade.releases.rollout import Rollout, RolloutStatus
from tests.stress.open_loop import Seen
from tests.stress.swaps import register
from tests.stress.traffic import Traffic

ERRORS = ErrorRateCheck("errors")
STEPS = (
    Step(0.1, hold_seconds=0.5, minimum_units=5),
    Step(0.5, hold_seconds=0.5, minimum_units=5),
    Step(1.0, hold_seconds=0.5),
)
PLAN = RolloutPlan(STEPS, checks=(ERRORS,), hold_down_seconds=5.0)
ROLLING = RolloutPlan(STEPS, kind="rolling", checks=(ERRORS,), hold_down_seconds=5.0)
SHADOW = RolloutPlan((Step(0.0, shadow=True, minimum_units=5), *STEPS), kind="shadow_first", checks=(ERRORS,))
TOO_SLOW = ThresholdCheck("p50", series="p50_seconds", maximum=0.0, interval_seconds=1.0)
DOOMED = RolloutPlan((Step(0.5, hold_seconds=60), Step(1.0)), checks=(TOO_SLOW,))
"""Nobody is that fast."""
PATIENCE_SECONDS = 90.0
_LAST_SECONDS = 2.0
"""Traffic after the last end: what it broke would show by then."""


def await_status(platform: Platform, name: str, *wanted: str, step: int = -1) -> Rollout:
    """Wait until a rollout has one of these statuses, in this step or a later one."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = platform.rollouts.find(name)
        if found.status.value in wanted and found.state.step >= step:
            return found
        if time.monotonic() > deadline or (not found.active and found.status is not RolloutStatus.COMPLETED):
            raise TimeoutError(f"{name} is {found.status.value} in step {found.state.step}: {found.reason}")
        time.sleep(0.02)


def by_itself(platform: Platform, name: str) -> str:
    await_status(platform, name, "completed")
    return "completed"


def promoted(platform: Platform, name: str) -> str:
    await_status(platform, name, "progressing", step=0)
    platform.rollouts.promote(name, to_end=True, reason="stress")
    await_status(platform, name, "completed")
    return "completed"


def paused(platform: Platform, name: str) -> str:
    await_status(platform, name, "progressing", step=0)
    platform.rollouts.pause(name, reason="stress")
    await_status(platform, name, "paused")
    platform.rollouts.resume(name, reason="stress")
    await_status(platform, name, "completed")
    return "completed"


def rolled_back(platform: Platform, name: str) -> str:
    await_status(platform, name, "progressing", step=1)
    platform.rollouts.rollback(name, reason="stress")
    return "rolled_back"


def returned(platform: Platform, name: str) -> str:
    await_status(platform, name, "completed")
    platform.rollouts.rollback(name, reason="stress")
    return "rolled_back"


def aborted(platform: Platform, name: str) -> str:
    await_status(platform, name, "progressing", step=0)
    platform.rollouts.abort(name, reason="stress")
    return "aborted"


def by_check(platform: Platform, name: str) -> str:
    await_status(platform, name, "rolled_back")
    return "rolled_back"


Way = tuple[RolloutPlan, Callable[[Platform, str], str]]
WAYS: dict[str, Way] = {
    "by itself": (PLAN, by_itself),
    "promoted": (PLAN, promoted),
    "paused": (PLAN, paused),
    "rolling": (ROLLING, by_itself),
    "shadow first": (SHADOW, by_itself),
    "rolled back": (PLAN, rolled_back),
    "returned": (PLAN, returned),
    "aborted": (PLAN, aborted),
    "by check": (DOOMED, by_check),
}
"""A plan, and what is done with it; each returns how it has to end."""


@dataclass
class Outcome:
    """What became of each rollout, and what the traffic saw."""

    ended: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    requests: int = 0
    versions: int = 0
    seconds: float = 0.0

    def judge(self, traffic: Seen) -> None:
        """Note everything that must not happen."""
        self.requests = traffic.requests
        self.versions = len(traffic.versions)
        self.violations += [f"failed: {failure}" for failure in traffic.failed]
        self.violations += [f"mixed: {mixture}" for mixture in traffic.mixed]

    def end(self, platform: Platform, way: str, name: str, wanted: str) -> None:
        """Note how a rollout has ended."""
        found = platform.rollouts.find(name)
        end = f"{way}: {found.status.value}"
        self.ended[end] = self.ended.get(end, 0) + 1
        if found.status.value != wanted:
            self.violations.append(f"{name} ({way}) is {found.status.value}: {found.reason}")
        champion = found.candidate if wanted == "completed" else found.stable
        if platform.registry.model(found.subject).aliases["champion"] != champion:
            self.violations.append(f"{name} ({way}) ended, and the champion is not {champion}")


def campaign(platform: Platform, url: str, *, count: int, rate: float) -> Outcome:
    """Roll `count` versions out, by each way in turn."""
    outcome, began = Outcome(), time.monotonic()
    with Traffic(f"{url}/v2/models/m/infer", rate) as traffic:
        for number in range(1, count + 1):
            way = list(WAYS)[(number - 1) % len(WAYS)]
            plan, go = WAYS[way]
            version = register(platform, number)
            name = platform.rollouts.create(RolloutRequest("m", version, plan, reason="stress")).name
            try:
                outcome.end(platform, way, name, go(platform, name))
            except TimeoutError as error:
                outcome.violations.append(f"{way}: {error}")
                found = platform.rollouts.find(name)
                if found.active:
                    platform.rollouts.abort(name, reason="stress")
        time.sleep(_LAST_SECONDS)
    outcome.seconds = time.monotonic() - began
    outcome.judge(traffic)
    return outcome

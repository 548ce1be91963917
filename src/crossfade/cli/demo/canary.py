"""Act 4: a version with an error that only live answers show is taken back by its rollout; the repaired one stays."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from crossfade.cli.demo.rollout_tables import RolloutTable
from crossfade.cli.demo.stage import FOLLOW_SECONDS, Reign, Stage
from crossfade.cli.demo.verdict import REPAIRED, SECOND, SUBTLE
from crossfade.cli.demo.watch import Watch
from crossfade.core.identity import CHAMPION
from crossfade.registry.packaging import Draft
from crossfade.releases.checks.spec import ErrorRateCheck
from crossfade.releases.plan import RolloutPlan, Step
from crossfade.releases.requests import RolloutRequest
from crossfade.releases.rollout import CANDIDATE, STABLE, Rollout, RolloutStatus
from crossfade.safety.specs import Constant, ExpressionCheck, SafetyPolicySpec
from crossfade.solutions.flights.training import NAME

UNLIKELY = 0.3
"""Before the afternoon and under a clear sky, hardly any flight is more likely to be late than that."""
AFTERNOON = 15
SKY = "clear_sky"
CLEAR = f"inputs['hour'] < {AFTERNOON} and inputs['visib'] >= 10 and inputs['precip'] == 0"


def _checks(alpha: float) -> tuple[ErrorRateCheck, ...]:
    return (
        ErrorRateCheck("unsafe", events=("unsafe",), alpha=alpha, interval_seconds=1.0),
        ErrorRateCheck("errors", events=("errors",), interval_seconds=1.0),
    )


CAREFUL = RolloutPlan(
    (
        Step(0.1, hold_seconds=30.0, minimum_units=300),
        Step(0.5, hold_seconds=15.0, minimum_units=500),
        Step(1.0),
    ),
    checks=_checks(0.05),
)
"""Shows an error that makes five times as many answers unsafe while a tenth of the traffic is at stake."""
SHORT = RolloutPlan(
    (Step(0.1, hold_seconds=4.0, minimum_units=20), Step(0.5, hold_seconds=3.0, minimum_units=50), Step(1.0)),
    checks=_checks(0.01),
)
"""What a demo has the time for; a repaired version would in earnest be watched for as long as any other."""
LOOK_SECONDS = 0.5
LAST_SECONDS = 15.0
"""After the last flight was asked about, how long a rollout may still take."""


def policy(usual: float) -> SafetyPolicySpec:
    """Return what answers have to be: no alarm out of a clear sky.

    Args:
        usual: The rate of late flights in training, which is said instead.
    """
    alarm = f"predict_proba[1] > {UNLIKELY}"
    said = round(usual, 3)
    return SafetyPolicySpec(
        model=NAME,
        checks=(ExpressionCheck(name=SKY, expression=f"not ({alarm} and {CLEAR})"),),
        fallback=(Constant(outputs={"predict": 0, "predict_proba": [1 - said, said]}),),
    )


def follow(stage: Stage, watch: Watch, name: str, note: Callable[[Rollout], None]) -> Rollout:
    """Watch a rollout until it is over; one that is not when no flight is left is aborted.

    Args:
        stage: Where.
        watch: Keeps the table moving meanwhile.
        name: Of the rollout.
        note: Is told how it stands.
    """
    client, until = stage.client, math.inf
    while True:
        rollout = watch.while_doing(lambda: client.rollout(name))
        note(rollout)
        if not rollout.active:
            return rollout
        if time.monotonic() >= until:
            return watch.while_doing(lambda: client.abort_rollout(name, reason="no flight is left"))
        if stage.traffic.ran_out:
            until = min(until, time.monotonic() + LAST_SECONDS)
        watch.during(LOOK_SECONDS)


class Canary:
    """Rolls two versions out, one after the other.

    Args:
        stage: Where.
        usual: The rate of late flights in training.
    """

    def __init__(self, stage: Stage, usual: float) -> None:
        self.caught: Rollout | None = None
        """The rollout of the version with the error."""
        self.caught_by = ""
        """Who ended it."""
        self.promoted: Rollout | None = None
        """The rollout of the repaired version."""
        self.reigns: list[Reign] = []
        """When only the champion should have answered."""
        self.drawn: dict[str, dict[str, str]] = {}
        """Rollout -> variant -> version."""
        self._candidate = SUBTLE
        self._rollout: Rollout | None = None
        self._usual = usual
        self._stage = stage
        self._watch = stage.watch(self.table)

    def table(self) -> RolloutTable:
        """Return the state of now."""
        return RolloutTable(self._stage.scorer.board(), self._rollout, SECOND, self._candidate)

    def run(self, subtle: Draft, repaired: Draft) -> None:
        """Declare what is unsafe, release 1.3.0 to a tenth of the traffic, and 1.3.1 to all of it.

        Args:
            subtle: What 1.3.0 is published with.
            repaired: What 1.3.1 is published with.
        """
        screen = self._stage.screen
        if self._stage.traffic.ran_out:
            screen.bad("no flight is left for it")
            return
        self._declare()
        screen.step(f"Publish {SUBTLE}, with shallower trees, and by mistake with a preprocessor that takes pascals")
        screen.say("  it was trained on millibars; its golden requests were made with the same mistake, so they agree")
        self._publish(SUBTLE, subtle)
        self.caught, flights, seconds = self._roll_out(SUBTLE, CAREFUL, "canary.json", "a better evaluation")
        self._tell(self.caught, flights, seconds)
        self._watch.during(self._stage.watch_seconds / 2)
        screen.step(f"Publish {REPAIRED}: the same trees, and millibars")
        self._publish(REPAIRED, repaired)
        self.promoted, flights, seconds = self._roll_out(REPAIRED, SHORT, "repaired.json", "millibars again")
        self._tell(self.promoted, flights, seconds)
        self._watch.during(self._stage.watch_seconds / 2)
        self._close_reign()

    def _declare(self) -> None:
        client, screen = self._stage.client, self._stage.screen
        spec = policy(self._usual)
        screen.step("Say which answers are unsafe, whoever gives them")
        screen.say(
            f"  more than {UNLIKELY:.0%} before {AFTERNOON}:00 under a clear sky; then {self._usual:.1%} is said"
        )
        screen.command(f"crossfade safety policy set {self._stage.keep('safety.json', spec)}")
        self._watch.while_doing(lambda: client.put_safety_policy(spec, reason="no alarm out of a clear sky"))

    def _publish(self, version: str, draft: Draft) -> None:
        self._candidate, self._rollout = version, None
        self._watch.while_doing(lambda: self._stage.client.register_draft(NAME, draft, version=version))

    def _roll_out(self, version: str, plan: RolloutPlan, document: str, reason: str) -> tuple[Rollout, int, float]:
        """Roll a version out; returns how it ended, after how many flights and seconds."""
        client, stage = self._stage.client, self._stage
        wanted = RolloutRequest(NAME, version, plan, reason=reason)
        stage.screen.command(f"crossfade rollouts create {NAME} {version} --plan {stage.keep(document, plan)}")
        stage.screen.head(self.table())
        self._close_reign()
        asked, began = stage.traffic.asked, time.perf_counter()
        created = self._watch.while_doing(lambda: client.create_rollout(wanted))
        self.drawn[created.name] = {STABLE: created.stable, CANDIDATE: created.candidate}
        ended = follow(stage, self._watch, created.name, self._note)
        self._note(ended)
        now = time.perf_counter()
        champion = version if ended.status is RolloutStatus.COMPLETED else created.stable
        self.reigns.append(Reign(champion, now + FOLLOW_SECONDS, math.inf))
        return ended, stage.traffic.asked - asked, now - began

    def _note(self, rollout: Rollout) -> None:
        self._rollout = rollout

    def _close_reign(self) -> None:
        """End the last reign now: from here on somebody else may answer."""
        if self.reigns:
            last = self.reigns.pop()
            self.reigns.append(Reign(last.version, last.begins, time.perf_counter()))

    def _tell(self, rollout: Rollout, flights: int, seconds: float) -> None:
        """Say how a rollout ended, and why."""
        client, screen = self._stage.client, self._stage.screen
        *_, last = self._watch.while_doing(lambda: client.rollout_history(rollout.name))
        if rollout.candidate == SUBTLE:
            self.caught_by = last.by
        status = rollout.status.value.replace("_", " ")
        screen.step(f"After {flights:,} flights and {seconds:.0f} s {rollout.candidate} was {status}, by {last.by}")
        screen.words(rollout.reason)
        if rollout.status is RolloutStatus.ROLLED_BACK:
            unsafe, of, *_ = rollout.evidence.counts.get("unsafe", (0, 0, 0, 0))
            screen.good(f"{rollout.stable} answers everybody; {of:,} flights have seen {rollout.candidate}")
            screen.say(
                f"  its {unsafe} unsafe answers were given to nobody; it may not come again without a person's word"
            )
        elif rollout.status is RolloutStatus.COMPLETED:
            screen.good(f"{CHAMPION} is {rollout.candidate}")
        else:
            screen.bad(f"nothing was decided about {rollout.candidate}")

"""What people send about rollouts."""

from __future__ import annotations

import msgspec

from crossfade.releases.plan import RolloutPlan


class RolloutRequest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A new rollout.

    Args:
        subject: The model or the configuration document.
        version: The new version; of a model a semver or an alias.
        plan: A preset's name, or a plan.
        kind: `model` or `config`.
        reason: Why, for the audit log.
        override_latch: Roll out a version that was rolled back before: a person's word, with a reason.
        experiment: The one that has decided for it, and whose traffic it takes over.
        expected: When given, the version that everybody must get now, so that nobody's move is overruled.
    """

    subject: str
    version: str
    plan: str | RolloutPlan = "careful"
    kind: str = "model"
    reason: str = ""
    override_latch: bool = False
    experiment: str = ""
    expected: str | None = None


class PromoteRequest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Go on by a person's word.

    Args:
        to_end: To the last step instead of to the next one; from there it ends either way.
        reason: Why, for the audit log.
        expected_step: When given, the step that it must be in, counted from 0, so that the same word said twice does
            not go two steps.
    """

    to_end: bool = False
    reason: str = ""
    expected_step: int | None = None


class RetryRequest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Begin again.

    Args:
        override_latch: Roll out a version that was rolled back before: a person's word, with a reason.
        reason: Why, for the audit log.
    """

    override_latch: bool = False
    reason: str = ""


class StepForecast(msgspec.Struct, frozen=True):
    """One step of a forecast.

    Args:
        weight: Of the new version.
        hold_seconds: At least.
        requests_to_see: How many requests of the new version it takes to see twice the errors, in half of all cases;
            None when it would take more than ten million.
        seconds_to_see: How long that takes at the present traffic; None without traffic.
    """

    weight: float
    hold_seconds: float
    requests_to_see: int | None
    seconds_to_see: float | None


class RolloutForecast(msgspec.Struct, frozen=True):
    """What a plan would do, and how much it would see.

    Args:
        subject, stable, candidate: What would change.
        plan: By which steps.
        fast: Whether it would skip them, because the version had the traffic a moment ago.
        seconds: How long its steps hold in all.
        base_rate: The fraction of requests that fail now, or what is assumed of it.
        assumed: Whether it is assumed, because nothing is known, or nothing has failed.
        requests_per_second: That come now.
        steps: For each step: of the weight, after how many requests and seconds twice the base rate would be seen.
    """

    subject: str
    stable: str
    candidate: str
    plan: RolloutPlan
    fast: bool
    seconds: float
    base_rate: float
    requests_per_second: float
    steps: tuple[StepForecast, ...] = ()
    assumed: bool = False

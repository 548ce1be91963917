"""Experiments as feature flags: what the OpenFeature Remote Evaluation Protocol (OFREP) answers for them.

The key of a flag is the name of an experiment, and its value is that of the variant; `targetingKey` is the `unit_id`.

Source: OFREP 0.3, https://github.com/open-feature/protocol
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from crossfade.errors import ExperimentNotFoundError, ExperimentOverError
from crossfade.ledger.admission import MAX_UNIT
from crossfade.traffic.allocation.compiled import Context
from crossfade.traffic.allocation.decisions import Decision, Reason
from crossfade.traffic.allocation.specs import UNIT

TARGETING_KEY = "targetingKey"

_REASONS = {
    Reason.STATIC: "STATIC",
    Reason.SPLIT: "SPLIT",
    Reason.TARGETING_MATCH: "TARGETING_MATCH",
    Reason.OVERRIDE: "TARGETING_MATCH",
    Reason.SCHEDULE: "DISABLED",
    Reason.PAUSED: "DISABLED",
}
"""In the words of OpenFeature; everything else is `DEFAULT`: the fallback."""
_ERRORS = {
    Reason.MISSING_UNIT: "TARGETING_KEY_MISSING",
    Reason.MISSING_CONTEXT: "INVALID_CONTEXT",
    Reason.ERROR: "INVALID_CONTEXT",
}


class Decider(Protocol):
    """What `Assigner` does for flags."""

    def decide(
        self, experiment: str, unit: str | None, context: Context | None = None, request_id: str | None = None
    ) -> Decision:
        """Return what a unit gets of one experiment."""

    def decide_all(
        self, unit: str | None, context: Context | None = None, request_id: str | None = None
    ) -> list[Decision]:
        """Return what a unit gets of every experiment."""


class Flag(msgspec.Struct, frozen=True):
    """An evaluated flag.

    Args:
        key: The experiment.
        reason: In the words of OpenFeature.
        variant: Its name.
        value: What the variant stands for; its name by default.
        metadata: What the decision says besides.
    """

    key: str
    reason: str
    variant: str
    value: Any
    metadata: Mapping[str, str | bool | float]


class FlagFailure(msgspec.Struct, frozen=True, rename="camel"):
    """A flag that could not be evaluated; clients then use the default of their code.

    Args:
        key: The experiment that was asked for.
        error_code: In the words of OpenFeature.
        error_details: In a sentence.
    """

    key: str
    error_code: str
    error_details: str


def evaluate(
    decider: Decider, key: str, context: Mapping[str, Any], request_id: str | None = None
) -> Flag | FlagFailure:
    """Evaluate one flag.

    Args:
        decider: What decides.
        key: The experiment.
        context: The `context` of the request.
        request_id: What experiments draw by that are not sticky.

    Example:
        >>> from crossfade.core.clock import utc_now
        >>> from crossfade.traffic.allocation.allocations import Allocations
        >>> from crossfade.traffic.allocation.assignment import Assigner
        >>> evaluate(Assigner(Allocations(), utc_now()), "late", {}).error_code
        'FLAG_NOT_FOUND'
    """
    try:
        decision = decider.decide(key, _unit_of(context), context, request_id)
    except (ExperimentNotFoundError, ExperimentOverError) as error:
        return FlagFailure(key, "FLAG_NOT_FOUND", error.message)
    return _flag(decision, context)


def evaluate_all(
    decider: Decider, context: Mapping[str, Any], request_id: str | None = None
) -> list[Flag | FlagFailure]:
    """Evaluate every flag; see `evaluate`."""
    return [_flag(decision, context) for decision in decider.decide_all(_unit_of(context), context, request_id)]


def _unit_of(context: Mapping[str, Any]) -> str | None:
    unit = context.get(TARGETING_KEY)
    return unit if isinstance(unit, str) else None


def _flag(decision: Decision, context: Mapping[str, Any]) -> Flag | FlagFailure:
    if code := _ERRORS.get(decision.reason):
        if decision.missing == UNIT:
            return FlagFailure(decision.experiment, *_problem_of_key(context.get(TARGETING_KEY)))
        return FlagFailure(decision.experiment, code, decision.words)
    value = decision.variant if decision.value is None else decision.value
    metadata: dict[str, str | bool | float] = {
        "enrolled": decision.enrolled,
        "propensity": decision.propensity,
        "revision": decision.revision,
        "code": decision.reason.value,
        "words": decision.words,
    }
    return Flag(decision.experiment, _REASONS.get(decision.reason, "DEFAULT"), decision.variant, value, metadata)


def _problem_of_key(key: Any) -> tuple[str, str]:
    """Return the code and the sentence for a `targetingKey` that is no unit: whoever asks calls it nothing else."""
    if key is None or key == "":
        return "TARGETING_KEY_MISSING", f"the context has no `{TARGETING_KEY}`"
    if not isinstance(key, str):
        problem = "is no text"
    elif len(key) > MAX_UNIT:
        problem = f"has {len(key):,} characters, at most {MAX_UNIT:,}"
    else:
        problem = "has characters that cannot be shown"
    return "INVALID_CONTEXT", f"`{TARGETING_KEY}` {problem}"

"""Bodies of the safety routes that are no policy, override or emergency themselves."""

from __future__ import annotations

from typing import Any

import msgspec

from crossfade.safety.levels import Level
from crossfade.safety.rules import Emergency, Override
from crossfade.safety.specs import Mode, SafetyPolicySpec


class OverrideRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which checks shall be off.

    Args:
        model: Whose.
        reason: Why; it is kept in the history.
        seconds: For how long.
        check: Which one; empty: all of them.
        version: Only for this semver; empty: for all.
    """

    model: str
    reason: str
    seconds: float
    check: str = ""
    version: str = ""


class EmergencyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What shall be stopped.

    Args:
        reason: Why; it is kept in the history.
        mode: `block` refuses; `fall_back` gives what the fallback of the policy gives.
        model: Which one; empty: everything.
    """

    reason: str
    mode: Mode = "block"
    model: str = ""


class EndEmergencyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What shall go on.

    Args:
        reason: Why; it is kept in the history.
        model: Which one; empty: everything.
    """

    reason: str
    model: str = ""


class EmergencyReport(msgspec.Struct, frozen=True):
    """An emergency that began or ended.

    Args:
        emergency: Which.
        revision: From which on processes follow; 0 in a dry run, and when nothing changed.
        processes: How many live processes follow.
        late: Processes (`host/pid`) that did not yet when the waiting ended.
    """

    emergency: Emergency
    revision: int
    processes: int = 0
    late: tuple[str, ...] = ()


class CheckRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Answers to try a policy on.

    Args:
        policy: Which; None: the one that the model has.
        model: Whose policy, and whose signature; with a policy it may be left out.
        outputs: Output -> its values, one for each row.
        inputs: Input -> its values, one for each row.
        version: Whose signature; empty: the champion's.
        unit: Whom the rows are about.
    """

    outputs: dict[str, list[Any]]
    inputs: dict[str, list[Any]] = {}
    policy: SafetyPolicySpec | None = None
    model: str = ""
    version: str = ""
    unit: str = ""


class CheckedRow(msgspec.Struct, frozen=True):
    """What was found in one row.

    Args:
        level: The worst.
        checks: Those that it violates.
    """

    level: Level
    checks: tuple[str, ...] = ()


class CheckReport(msgspec.Struct, frozen=True):
    """What a policy says about answers. Nothing was changed or remembered.

    Args:
        level: The worst of all rows.
        rows: Each row, in order.
        problems: Check -> why it cannot be asked of the version; it counts as violated.
    """

    level: Level
    rows: tuple[CheckedRow, ...]
    problems: dict[str, str] = {}


class SafetyStatus(msgspec.Struct, frozen=True):
    """What is in force.

    Args:
        emergencies: Of all processes.
        local: Of the machine that answers this, by files in its home folder.
        overrides: Those that hold.
        models: With a policy.
        violations: (model, check, level) of the last hour -> answers, worst first.
    """

    emergencies: tuple[Emergency, ...]
    local: tuple[Emergency, ...]
    overrides: tuple[Override, ...]
    models: tuple[str, ...]
    violations: tuple[RecentViolations, ...] = ()


class LocalSafetyStatus(msgspec.Struct, frozen=True):
    """What is in force on this machine while nobody can tell what else is.

    Args:
        local: Emergencies by files in the home folder.
        problem: Why the rest is not known.
    """

    local: tuple[Emergency, ...]
    problem: str


class RecentViolations(msgspec.Struct, frozen=True):
    """How often a check was violated within the last hour."""

    model: str
    check: str
    level: Level
    answers: int

"""`Rules`: every policy, override and emergency that is in force, as a snapshot holds them."""

from __future__ import annotations

from datetime import datetime

import msgspec

from crossfade.safety.specs import Mode, SafetyPolicySpec

EVERYTHING = ""
"""The model of an emergency that is about all of them."""
PRINCIPAL = "safety"
"""Who begins an emergency that nobody asked for."""


class SafetyPolicy(msgspec.Struct, frozen=True):
    """A policy as it is kept.

    Args:
        spec: What was asked for.
        number: Revision of the change that put it.
        created_at, created_by: When, and who.
        reason: Why.
    """

    spec: SafetyPolicySpec
    number: int
    created_at: datetime
    created_by: str
    reason: str = ""

    @property
    def model(self) -> str:
        """Whose."""
        return self.spec.model


class Override(msgspec.Struct, frozen=True):
    """A person turned checks off, for a while.

    Args:
        id: Of the override.
        model: Whose checks.
        check: Which one; empty: all of them.
        version: Only for this semver; empty: for all.
        reason: Why.
        expires_at: From then on it has no effect.
        created_at, created_by: When, and who.
        ended_at, ended_by, ended_because: Of an end before its time; None and empty without one.
    """

    id: str
    model: str
    check: str
    version: str
    reason: str
    expires_at: datetime
    created_at: datetime
    created_by: str
    ended_at: datetime | None = None
    ended_by: str = ""
    ended_because: str = ""

    def holds(self, at: datetime) -> bool:
        """Tell whether it has an effect at that time."""
        return self.ended_at is None and at < self.expires_at

    def covers(self, version: str, check: str) -> bool:
        """Tell whether it turns off a check of a version."""
        return self.version in {"", version} and self.check in {"", check}


class Emergency(msgspec.Struct, frozen=True):
    """A model, or every one, is stopped until a person ends it.

    Args:
        model: Which one; empty: every one.
        mode: `block` refuses; `fall_back` gives what the fallback of the policy gives, without asking the model.
        reason: Why.
        since: Since when.
        started_by: Who.
        local: Whether it is only about this machine, by a file in the home folder.
    """

    model: str
    mode: Mode
    reason: str
    since: datetime
    started_by: str
    local: bool = False

    @property
    def scope(self) -> str:
        """The model, or `everything`."""
        return self.model or "everything"


class Rules(msgspec.Struct, frozen=True):
    """What safety is made of at one revision.

    Overrides that have ended are not here; those that have not may have expired.
    """

    policies: tuple[SafetyPolicy, ...] = ()
    overrides: tuple[Override, ...] = ()
    emergencies: tuple[Emergency, ...] = ()

"""Policies, overrides and emergencies as rows of the database."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from crossfade.safety.rules import Emergency, Override, Rules, SafetyPolicy
from crossfade.safety.specs import SafetyPolicySpec
from crossfade.storage.tables import safety_emergencies, safety_overrides, safety_policies
from crossfade.storage.times import from_text

SAFETY = "safety"
"""Kind of changes after which rules are read anew."""


def read_rules(connection: Connection) -> Rules:
    """Return everything that is in force, or will be unless it expires."""
    policies = select(safety_policies).order_by(safety_policies.c.model)
    overrides = select(safety_overrides).where(safety_overrides.c.ended_at.is_(None)).order_by(safety_overrides.c.id)
    emergencies = select(safety_emergencies).order_by(safety_emergencies.c.model)
    return Rules(
        tuple(policy_of(row) for row in connection.execute(policies)),
        tuple(override_of(row) for row in connection.execute(overrides)),
        tuple(emergency_of(row) for row in connection.execute(emergencies)),
    )


def policy_of(row: Row[Any]) -> SafetyPolicy:
    """Return a policy from its row."""
    spec = msgspec.json.decode(row.spec, type=SafetyPolicySpec)
    return SafetyPolicy(spec, row.number, from_text(row.created_at), row.created_by, row.reason)


def override_of(row: Row[Any]) -> Override:
    """Return an override from its row."""
    return Override(
        row.id,
        row.model,
        row.check_name,
        row.version,
        row.reason,
        from_text(row.expires_at),
        from_text(row.created_at),
        row.created_by,
        None if row.ended_at is None else from_text(row.ended_at),
        row.ended_by,
        row.ended_because,
    )


def emergency_of(row: Row[Any]) -> Emergency:
    """Return an emergency from its row."""
    return Emergency(row.model, row.mode, row.reason, from_text(row.since), row.started_by)

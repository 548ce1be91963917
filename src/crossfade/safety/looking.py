"""Looking at what is in force, and at the checks that were turned off."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import func, select

from crossfade.registry.pages import check_limit, page_of, text_cursor
from crossfade.registry.versions import Page
from crossfade.safety.levels import Level
from crossfade.safety.records import override_of, read_rules
from crossfade.safety.reports import Role
from crossfade.safety.requests import RecentViolations, SafetyStatus
from crossfade.safety.rules import Emergency, Override
from crossfade.storage.database import Database
from crossfade.storage.tables import safety_overrides, safety_violations
from crossfade.storage.times import to_text

_KIND = "overrides"
_RECENT = timedelta(hours=1)
_MOST = 100


def status_of(database: Database, local: tuple[Emergency, ...], now: datetime) -> SafetyStatus:
    """Return what is in force, and the violations of the last hour by answers that were asked for."""
    table = safety_violations
    recent = select(table.c.model, table.c.check_name, table.c.level, func.sum(table.c.answers).label("answers"))
    recent = recent.where(table.c.minute >= to_text(now - _RECENT), table.c.role == Role.ANSWER.value)
    recent = recent.group_by(table.c.model, table.c.check_name, table.c.level)
    with database.read() as connection:
        rules = read_rules(connection)
        seen = [
            RecentViolations(row.model, row.check_name, Level(row.level), int(row.answers))
            for row in connection.execute(recent)
        ]
    seen.sort(key=lambda item: (-item.level.rank, -item.answers, item.model, item.check))
    return SafetyStatus(
        rules.emergencies,
        local,
        tuple(override for override in rules.overrides if override.holds(now)),
        tuple(policy.model for policy in rules.policies),
        tuple(seen[:_MOST]),
    )


def list_overrides(
    database: Database, *, model: str = "", holding_at: datetime | None = None, cursor: str = "", limit: int = 100
) -> Page[Override]:
    """List overrides, newest first; only those that have an effect at a time, when one is given.

    Raises:
        InvalidPageError: The cursor or the limit cannot be used.
    """
    table, limit = safety_overrides, check_limit(limit)
    query = select(table).order_by(table.c.id.desc()).limit(limit + 1)
    if key := text_cursor(_KIND, cursor):
        query = query.where(table.c.id < key)
    if model:
        query = query.where(table.c.model == model)
    if holding_at is not None:
        query = query.where(table.c.ended_at.is_(None), table.c.expires_at > to_text(holding_at))
    with database.read() as connection:
        page = page_of(_KIND, connection.execute(query).all(), limit, lambda row: row.id)
    return Page(tuple(map(override_of, page.items)), page.next_cursor)

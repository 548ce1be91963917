"""The history of violations: counted by the minute, one example each, written beside the requests in batches.

A flood of violations costs one row for each check, version and minute, however many there are.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from crossfade.core.clock import Clock, utc_now
from crossfade.core.identity import new_id
from crossfade.registry.pages import check_limit, page_of, text_cursor
from crossfade.registry.versions import Page
from crossfade.safety.inspection import Findings
from crossfade.safety.levels import Level
from crossfade.safety.reports import Role, Violation
from crossfade.settings import SafetySettings
from crossfade.storage.database import Database
from crossfade.storage.tables import safety_violations
from crossfade.storage.times import from_text, to_text

_KIND = "violations"
MAX_WAITING = 2_000
"""Rows that wait for the database; what comes then is only counted."""
_TRIM_SECONDS = 60.0

Key = tuple[str, str, str, str, str, str]
"""(model, version, check, level, role, minute)"""


class _Count:
    """How often something was violated within a minute."""

    __slots__ = ("answers", "example", "instead", "rows")

    def __init__(self) -> None:
        self.answers = 0
        self.rows = 0
        self.instead = ""
        self.example = ""


class ViolationLog:
    """What this process has seen, until it is in the database.

    Args:
        database: Where to.
        settings: How much is kept there, and how long.
        clock: What time it is.

    Attributes:
        counts: (check, model, level, role) -> answers, since the process began.
        lost: Violations that are only in `counts`, because too much waited for the database.
    """

    def __init__(self, database: Database, settings: SafetySettings, clock: Clock = utc_now) -> None:
        self.counts: Counter[tuple[str, str, str, str]] = Counter()
        self.lost = 0
        self._database = database
        self._settings = settings
        self._clock = clock
        self._waiting: dict[Key, _Count] = {}
        self._lock = threading.Lock()
        self._trimmed_at = -_TRIM_SECONDS

    def add(self, model: str, version: str, findings: Findings, instead: str = "", role: Role = Role.ANSWER) -> None:
        """Count what was found in one answer; does not block, and never fails."""
        minute = to_text(self._clock().replace(second=0, microsecond=0))
        with self._lock:
            for finding in findings.found:
                self.counts[finding.check, model, finding.level.value, role.value] += 1
                key = model, version, finding.check, finding.level.value, role.value, minute
                count = self._waiting.get(key)
                if count is None:
                    if len(self._waiting) >= MAX_WAITING:
                        self.lost += 1
                        continue
                    count = self._waiting[key] = _Count()
                    count.example = finding.example
                count.answers += 1
                count.rows += finding.rows
                count.instead = instead

    def flush(self) -> None:
        """Write what has been counted; what cannot be written now waits for the next time.

        Raises:
            DatabaseUnavailableError: The database does not answer.
        """
        with self._lock:
            taken, self._waiting = self._waiting, {}
        if taken:
            try:
                with self._database.write() as connection:
                    for key, count in taken.items():
                        _store(connection, key, count)
            except BaseException:
                self._put_back(taken)
                raise
        if time.monotonic() - self._trimmed_at > _TRIM_SECONDS:
            self._trimmed_at = time.monotonic()
            self.trim()

    def trim(self) -> None:
        """Delete what is older than it shall be kept, and the oldest of what is too much."""
        table = safety_violations
        oldest = to_text(self._clock() - timedelta(days=self._settings.retention_days))
        with self._database.read() as connection:
            size = connection.scalar(select(func.count()).select_from(table)) or 0
            aged = connection.scalar(select(func.count()).select_from(table).where(table.c.minute < oldest)) or 0
            surplus = size - aged - self._settings.max_violations
            if surplus > 0:
                order = select(table.c.minute).order_by(table.c.minute.desc())
                limit = connection.scalar(order.offset(self._settings.max_violations - 1).limit(1))
                oldest = max(oldest, limit or oldest)
        if aged or surplus > 0:
            with self._database.write() as connection:
                connection.execute(delete(table).where(table.c.minute < oldest))

    def _put_back(self, taken: dict[Key, _Count]) -> None:
        with self._lock:
            for key, count in taken.items():
                newer = self._waiting.get(key)
                if newer is None:
                    self._waiting[key] = count
                else:
                    newer.answers += count.answers
                    newer.rows += count.rows
            while len(self._waiting) > MAX_WAITING:
                self.lost += self._waiting.pop(next(iter(self._waiting))).answers


def _store(connection: Connection, key: Key, count: _Count) -> None:
    """Add to the row of a minute, or begin it; there is one writer at a time."""
    table = safety_violations
    named = dict(zip(("model", "version", "check_name", "level", "role", "minute"), key, strict=True))
    known = update(table).where(*(table.c[name] == value for name, value in named.items()))
    more = {"answers": table.c.answers + count.answers, "row_count": table.c.row_count + count.rows}
    done = connection.execute(known.values(**more, instead=count.instead))
    if not done.rowcount:
        values = {"answers": count.answers, "row_count": count.rows, "instead": count.instead, "example": count.example}
        connection.execute(insert(table).values(id=new_id(), **named, **values))


def list_violations(
    database: Database, *, model: str = "", check: str = "", level: str = "", cursor: str = "", limit: int = 100
) -> Page[Violation]:
    """List what was violated, newest first.

    Raises:
        InvalidPageError: The cursor or the limit cannot be used.
    """
    table, limit = safety_violations, check_limit(limit)
    query = select(table).order_by(table.c.id.desc()).limit(limit + 1)
    if key := text_cursor(_KIND, cursor):
        query = query.where(table.c.id < key)
    for column, value in ((table.c.model, model), (table.c.check_name, check), (table.c.level, level)):
        if value:
            query = query.where(column == value)
    with database.read() as connection:
        rows = connection.execute(query).all()
    page = page_of(_KIND, rows, limit, lambda row: row.id)
    return Page(tuple(_violation(row) for row in page.items), page.next_cursor)


def _violation(row: Row[Any]) -> Violation:
    return Violation(
        row.model,
        row.version,
        row.check_name,
        Level(row.level),
        from_text(row.minute),
        row.answers,
        row.row_count,
        row.instead,
        row.example,
        Role(row.role),
    )

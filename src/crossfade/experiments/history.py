"""The history of an experiment: what the audit log says was done to it, by whom, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import ColumnElement, Connection, select

from crossfade.experiments.record import ExperimentChange
from crossfade.registry.pages import check_limit, number_cursor, page_of
from crossfade.registry.versions import Page
from crossfade.storage.tables import audit, experiments
from crossfade.storage.times import from_text

if TYPE_CHECKING:
    from sqlalchemy import Row

LEARN = "experiment.learn"
"""The action of a bandit whose weights follow what it has learned."""
_KIND = "changes of an experiment"
_PREFIX = "experiment."


def entries_of(name: str) -> ColumnElement[bool]:
    """Select what the audit log says about an experiment since it was written down: names may have been used before."""
    written = select(experiments.c.number).where(experiments.c.name == name).scalar_subquery()
    return (audit.c.seq >= written) & (audit.c.subject == name)


def changes_of(
    connection: Connection, row: Row[Any], *, learned: bool, cursor: str, limit: int
) -> Page[ExperimentChange]:
    """List the changes of an experiment, newest first.

    Args:
        connection: From `Database.read`.
        row: The experiment.
        learned: Also the weights that a bandit has set by itself: there may be one for every minute of its life.
        cursor: Of the page before.
        limit: Items on a page.

    Raises:
        InvalidPageError: The cursor or the limit is wrong.
    """
    where = (audit.c.seq < number_cursor(_KIND, cursor)) & entries_of(row.name) & audit.c.action.startswith(_PREFIX)
    if not learned:
        where &= audit.c.action != LEARN
    query = select(audit).where(where).order_by(audit.c.seq.desc()).limit(check_limit(limit) + 1)
    page = page_of(_KIND, connection.execute(query).all(), limit, lambda entry: entry.seq)
    return Page(tuple(map(_change, page.items)), page.next_cursor)


def _change(entry: Row[Any]) -> ExperimentChange:
    details: dict[str, Any] = msgspec.json.decode(entry.details)
    details.pop("principal", None)  # which some entries repeat
    reason = str(details.pop("reason", ""))
    what = entry.action.removeprefix(_PREFIX)
    return ExperimentChange(entry.seq, what, from_text(entry.at), entry.principal, reason, details)

"""What happened to a model and its aliases, and where going back leads."""

from __future__ import annotations

from collections.abc import Iterable

from crossfade.errors import NoPreviousVersionError
from crossfade.registry.pages import MAX_LIMIT
from crossfade.registry.port import RegistryBackend
from crossfade.registry.requests import HistoryEntry
from crossfade.registry.versions import REJECTED, AliasMove, StageChange, Version


def entry_of(change: AliasMove | StageChange) -> HistoryEntry:
    """Return a change of either kind in the shape that both have in a history."""
    if isinstance(change, AliasMove):
        return HistoryEntry(
            change.seq,
            "alias",
            change.model,
            change.alias,
            change.source,
            change.target,
            change.moved_at,
            change.moved_by,
            change.reason,
        )
    return HistoryEntry(
        change.seq,
        "stage",
        change.model,
        change.version,
        change.source,
        change.target,
        change.changed_at,
        change.changed_by,
        change.reason,
    )


def way_back(moves: Iterable[AliasMove]) -> list[str]:
    """Return the versions that an alias can go back to, the nearest last.

    The history is read like the undo stack of an editor. A move forward puts the version it leaves on the stack. A move
    to a version on the stack is going back, whoever calls it so: that version and everything above it leave the stack.
    So going back twice goes back two steps, and never to the version that was just withdrawn. Removing an alias
    empties the stack.

    Args:
        moves: The history of one alias, oldest first.

    Example:
        >>> from datetime import datetime, UTC
        >>> steps = [(None, "1.0.0"), ("1.0.0", "1.1.0"), ("1.1.0", "2.0.0"), ("2.0.0", "1.1.0")]
        >>> way_back(AliasMove(i, "m", "champion", a, b, datetime.now(UTC), "me", "") for i, (a, b) in enumerate(steps))
        ['1.0.0']
    """
    stack: list[str] = []
    for move in moves:
        if move.target is None:
            stack.clear()
        elif move.target in stack:
            del stack[stack.index(move.target) :]
        elif move.source is not None:
            stack.append(move.source)
    return stack


def previous_version(backend: RegistryBackend, name: str, alias: str) -> Version:
    """Return the version that a rollback of an alias leads to: the nearest that still exists and is not rejected.

    Raises:
        NoPreviousVersionError: There is none.
    """
    for target in reversed(way_back(_moves(backend, name, alias))):
        version = backend.find_version(name, target)
        if version is not None and version.stage != REJECTED:
            return version
    raise NoPreviousVersionError(name=name, alias=alias)


def _moves(backend: RegistryBackend, name: str, alias: str) -> list[AliasMove]:
    newest_first: list[AliasMove] = []
    cursor = ""
    while True:
        page = backend.alias_history(name, alias, cursor=cursor, limit=MAX_LIMIT)
        newest_first += page.items
        cursor = page.next_cursor
        if not cursor:
            return newest_first[::-1]

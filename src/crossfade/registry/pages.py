"""Keyset pagination: opaque cursors that name the last item of a page, so that deep pages cost as much as the first."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

from crossfade.errors import InvalidPageError
from crossfade.registry.versions import Page

T = TypeVar("T")

MAX_LIMIT = 1000


def check_limit(limit: int) -> int:
    """Return `limit` when it is 1 to 1000.

    Raises:
        InvalidPageError: It is not.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidPageError(problem=f"limit {limit} is not 1 to {MAX_LIMIT}")
    return limit


def text_cursor(kind: str, cursor: str) -> str:
    """Return the key inside a cursor of this kind of list; empty for the first page.

    Raises:
        InvalidPageError: It is no cursor, or belongs to another kind of list.
    """
    if not cursor:
        return ""
    try:
        text = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise InvalidPageError(problem="the cursor is damaged") from error
    found, _, key = text.partition(":")
    if found != kind or not key or "\0" in key or len(key) > 64:
        raise InvalidPageError(problem=f"the cursor does not belong to a list of {kind}")
    return key


def number_cursor(kind: str, cursor: str) -> int:
    """Return the number inside a cursor; for the first page a number above all.

    Raises:
        InvalidPageError: It is no cursor, or belongs to another kind of list.
    """
    key = text_cursor(kind, cursor)
    if not key:
        return 2**63 - 1
    if not (key.isascii() and key.isdigit() and len(key) < 19):
        raise InvalidPageError(problem=f"the cursor does not belong to a list of {kind}")
    return int(key)


def page_of(kind: str, found: Sequence[T], limit: int, key: Callable[[T], object]) -> Page[T]:
    """Make a page of up to `limit` items from a query that asked for one more.

    Example:
        >>> page_of("numbers", [1, 2, 3], 2, str).items
        (1, 2)
    """
    items = tuple(found[:limit])
    if len(found) <= limit:
        return Page(items)
    cursor = base64.urlsafe_b64encode(f"{kind}:{key(items[-1])}".encode()).decode()
    return Page(items, cursor)

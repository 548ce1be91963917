"""Times as the schema keeps them: ISO 8601 in UTC with microseconds, so that text sorts as time does."""

from __future__ import annotations

from datetime import UTC, datetime

_LENGTH = len("2026-01-31T09:30:00.000000Z")


def to_text(moment: datetime) -> str:
    """Return the stored spelling of an aware time.

    Raises:
        ValueError: `moment` is naive, so that nobody knows which time it means.

    Example:
        >>> to_text(datetime(2026, 1, 31, 9, 30, tzinfo=UTC))
        '2026-01-31T09:30:00.000000Z'
    """
    if moment.utcoffset() is None:
        raise ValueError(f"{moment!r} has no time zone")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def from_text(text: str) -> datetime:
    """Return the aware UTC time that `to_text` spelled.

    Raises:
        ValueError: `text` is another spelling; two spellings of one time would not sort.

    Example:
        >>> from_text("2026-01-31T09:30:00.000000Z").minute
        30
    """
    if len(text) != _LENGTH or text[-1] != "Z" or text[10] != "T":
        raise ValueError(f"{text!r} is not a stored time")
    return datetime.fromisoformat(text[:-1]).replace(tzinfo=UTC)

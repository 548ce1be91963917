"""Words that come from outside, such as of other servers and of models that raise, made fit to be stored and shown."""

from __future__ import annotations

LONGEST = 500
"""Characters: what somebody says may be as long as they like."""


def in_one_line(text: str, longest: int | None = LONGEST) -> str:
    r"""Return a line that every database can keep and every terminal can show.

    PostgreSQL keeps no NUL, no database keeps half of a surrogate pair, and control characters would let whoever says
    something begin lines of the log and move the cursor of whoever reads it.

    Args:
        text: What somebody else has said.
        longest: Characters that are kept; None: all.

    Example:
        >>> in_one_line("disk full\nat C:\0")
        'disk full at C: '
    """
    return "".join(letter if letter.isprintable() else " " for letter in text[:longest])

"""What is reported of checks: what was violated, minute by minute."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from crossfade.safety.levels import Level


class Role(StrEnum):
    """What an answer was for that violated a check."""

    ANSWER = "answer"
    """It was asked for."""
    SHADOW = "shadow"
    """Nobody is given it."""
    FALLBACK = "fallback"
    """It was tried in the place of an answer that is not safe."""


class Violation(msgspec.Struct, frozen=True):
    """What happened within a minute.

    Args:
        model, version: Whose answers.
        check: That was violated.
        level: How bad that is.
        at: When the minute began.
        answers: How many there were.
        rows: Of them, that violated it.
        instead: What was given instead the last time, such as `constant`; empty: the answer itself.
        example: What one of them held.
        role: What the answers were for.
    """

    model: str
    version: str
    check: str
    level: Level
    at: datetime
    answers: int
    rows: int
    instead: str = ""
    example: str = ""
    role: Role = Role.ANSWER

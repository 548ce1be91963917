"""`Level`: how bad it is; of several findings, the worst counts."""

from __future__ import annotations

from enum import StrEnum


class Level(StrEnum):
    """What was found out about an answer, best first."""

    SAFE = "safe"
    """Every check passed."""
    WARNING = "warning"
    """It is given, and marked."""
    UNSAFE = "unsafe"
    """Something else is given instead."""
    CRITICAL = "critical"
    """As `UNSAFE`, and somebody is told; the model is stopped where its policy says so."""

    @property
    def rank(self) -> int:
        """The higher, the worse.

        Example:
            >>> max(Level.CRITICAL, Level.WARNING, key=lambda level: level.rank)
            <Level.CRITICAL: 'critical'>
        """
        return _RANKS[self]

    @property
    def withheld(self) -> bool:
        """Whether an answer of this level is not given."""
        return self in _WITHHELD


_RANKS = {level: rank for rank, level in enumerate(Level)}
_WITHHELD = frozenset({Level.UNSAFE, Level.CRITICAL})

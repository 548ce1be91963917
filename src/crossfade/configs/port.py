"""What a board promises: where processes find out which versions of configs are read, and that this has changed.

What is decided about configs is decided in the platform database, in one transaction with its audit entry. A board is
where it is read: that database itself, or a server that is made for being watched, to which it is copied.
`crossfade.testing.configs` is the specification that every backend passes.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from crossfade.configs.active import Published


class News(NamedTuple):
    """What changed on a board.

    Attributes:
        position: Up to where this tells; what is asked for next.
        changed: The newest state of each config that changed, in no particular order.
    """

    position: int
    changed: tuple[Published, ...]


class Board(Protocol):
    """Configs as they are read. Methods may be called from any thread, block, and may raise `UnavailableError`."""

    def find(self, name: str) -> Published | None:
        """Return one config, or None when it is not there."""

    def since(self, position: int) -> News:
        """Return what changed after a position; 0 is before everything. What a board never knew again is not told."""

    def wait(self, position: int, seconds: float) -> bool:
        """Wait until something changed after a position, at most so long; tell whether something did."""

    def close(self) -> None:
        """Release connections, and end those who wait. The board cannot be used afterwards."""

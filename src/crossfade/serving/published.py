"""What a worker tells the other workers of its server: one small file in a folder that only they can read.

A place among the workers has one file, replaced as a whole, so that a reader sees one state or the next and a crash in
the middle of writing changes nothing. Who fills the place after a crash goes on from what its file says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

Labels = tuple[tuple[str, str], ...]
Series = tuple[str, Labels]
"""The name of a sample, and its labels in order."""
Readings = dict[Series, float]
Version = tuple[str, str]
"""(model, semver)"""


class Published(msgspec.Struct, frozen=True, array_like=True):
    """What was published last from one place.

    Args:
        at: When, on the monotonic clock, which the processes of a machine share.
        held: The versions that were there.
        counts: Of counters and histograms, since the server started.
        gauges: What they showed at that moment.
        process: What the operating system said about the process.
    """

    at: float = 0.0
    held: frozenset[Version] = frozenset()
    counts: tuple[tuple[str, Labels, float], ...] = ()
    gauges: tuple[tuple[str, Labels, float], ...] = ()
    process: tuple[tuple[str, Labels, float], ...] = ()


class Board:
    """The folder of one server.

    Args:
        folder: It exists, and only the user who runs the server can enter it.

    Example:
        >>> board = Board(Path(tempfile.mkdtemp()))  # doctest: +SKIP
        >>> board.write("0", Published(at=time.monotonic()))  # doctest: +SKIP
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, place: str, published: Published) -> None:
        """Replace what a place says. One process at a time writes for a place.

        Raises:
            OSError: The folder is gone, or the disk is full; what stood there still does.
        """
        beside = self._folder / f"{place}.part"
        beside.write_bytes(msgspec.msgpack.encode(published))
        beside.replace(self._folder / f"{place}.msgpack")

    def read(self, place: str) -> Published | None:
        """Return what a place says, or None while it has said nothing that can be read."""
        try:
            return msgspec.msgpack.decode((self._folder / f"{place}.msgpack").read_bytes(), type=Published)
        except (OSError, msgspec.MsgspecError):
            return None

    def others(self, place: str) -> Iterator[tuple[str, Published]]:
        """Yield every other place, and what it says."""
        for path in sorted(self._folder.glob("*.msgpack")):
            published = None if path.stem == place else self.read(path.stem)
            if published is not None:
                yield path.stem, published

"""Segments: the files that a journal is made of, written by one process and deleted piece by piece once they are read.

A journal has an id of its own and is never opened for writing again: every start of a process begins a new one. Frames
count up through all segments of a journal, so a frame that is missing shows wherever it was.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from crossfade.storage.filesystem import FileSystem
from crossfade.storage.frames import marker_of, pack_frame

SEGMENT_BYTES = 64 * 2**20
_NAME = re.compile(r"([0-9a-f-]{36})-([0-9]{8})\.log")


def segment_name(journal: str, number: int) -> str:
    """Return the name of a segment's file.

    Example:
        >>> segment_name("0193", 7)
        '0193-00000007.log'
    """
    return f"{journal}-{number:08d}.log"


def list_segments(filesystem: FileSystem, folder: Path) -> dict[str, list[int]]:
    """Return the numbers of the segments in a folder, in order, by journal; other files are left alone.

    Raises:
        OSError: The folder cannot be read.
    """
    found: dict[str, list[int]] = {}
    for name in filesystem.list_names(folder):
        if (match := _NAME.fullmatch(name)) is not None:
            found.setdefault(match[1], []).append(int(match[2]))
    return found


class SegmentWriter:
    """Appends records to the segments of one journal; not for several threads at a time.

    Args:
        filesystem: Of the folder.
        folder: It exists and is durable.
        journal: The id of the journal.
        segment_bytes: A segment that has so many is followed by the next.
        opening: Returns the first record of every segment.

    Attributes:
        segment: Number of the present one, 0 before the first.
        size: Bytes of it that hold whole records.
        frames: How many have been written.
        sizes: Bytes of every segment that is still there.
    """

    def __init__(
        self, filesystem: FileSystem, folder: Path, journal: str, segment_bytes: int, opening: Callable[[], bytes]
    ) -> None:
        self.segment = 0
        self.size = 0
        self.frames = 0
        self.sizes: dict[int, int] = {}
        self._filesystem = filesystem
        self._folder = folder
        self._journal = journal
        self._segment_bytes = segment_bytes
        self._opening = opening
        self._handle: int | None = None
        self._marker = b""

    @property
    def path(self) -> Path:
        """Where the present segment is."""
        return self._folder / segment_name(self._journal, self.segment)

    def append(self, payloads: Sequence[bytes]) -> None:
        """Write records, one after the other. `sync` makes them durable.

        Raises:
            OSError: None of them has been written.
        """
        if self._handle is None or self.size >= self._segment_bytes:
            self._begin_segment()
        self._write(payloads)

    def sync(self) -> None:
        """Return when everything written survives a power cut.

        Raises:
            OSError: Nothing is known about what was written since the last time. The segment is not written to any
                more: a system that could not write pages out calls them clean, so a second attempt would prove nothing.
        """
        if self._handle is None:
            return
        try:
            self._filesystem.sync_data(self._handle)
        except OSError:
            self._abandon()
            raise

    def close(self) -> None:
        """Make everything durable and close the file.

        Raises:
            OSError: As for `sync`.
        """
        self.sync()
        self._abandon()

    def forget(self, segment: int) -> None:
        """Delete a segment that nobody will read again; may be called on another thread.

        Raises:
            OSError: It cannot be deleted.
        """
        with contextlib.suppress(FileNotFoundError):
            self._filesystem.unlink(self._folder / segment_name(self._journal, segment))
        self.sizes.pop(segment, None)

    def _begin_segment(self) -> None:
        self.close()
        self.segment += 1
        self.size = 0
        self._marker = marker_of(self.path.name)
        self._handle = self._filesystem.open_new(self.path)
        try:
            self._write([self._opening()])
            self._filesystem.fsync_dir(self._folder)
        except OSError:
            self._abandon()
            raise

    def _write(self, payloads: Sequence[bytes]) -> None:
        assert self._handle is not None  # noqa: S101 - a segment has begun
        numbered = enumerate(payloads, start=self.frames + 1)
        data = b"".join([pack_frame(self._marker, number, payload) for number, payload in numbered])
        try:
            self._filesystem.write(self._handle, data)
        except OSError:
            self._take_back()
            raise
        self.size += len(data)
        self.sizes[self.segment] = self.size
        self.frames += len(payloads)

    def _take_back(self) -> None:
        """Cut off what a failed write has left; where even that fails, go on in another segment."""
        try:
            self._filesystem.truncate(self.path, self.size)
        except OSError:
            self._abandon()

    def _abandon(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            with contextlib.suppress(OSError):
                self._filesystem.close(handle)

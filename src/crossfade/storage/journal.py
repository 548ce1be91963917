"""`Journal`: records that are durable when they are acknowledged, at the cost of one synchronisation for many.

One thread writes. It takes whatever waits, writes it, synchronises once, and acknowledges all of it; meanwhile the next
batch gathers. It never lingers for company: the disk is the only thing anybody waits for. Those who wait on an event
loop are told by one call into the loop per batch, because waking a thread or a loop costs more than writing.

Beside these there are records that nobody waits for: the thread fetches them from a `Feed` within `GATHER_SECONDS`,
writes them, so that they survive the end of the process, and synchronises within `SYNC_SECONDS`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path
from typing import NamedTuple, Protocol

from crossfade.errors import CrossfadeError, LedgerUnavailableError
from crossfade.storage.filesystem import FileSystem
from crossfade.storage.segments import SEGMENT_BYTES, SegmentWriter

_log = logging.getLogger(__name__)

GATHER_SECONDS = 0.05
"""How long records of the feed gather before they are written."""
SYNC_SECONDS = 0.2
"""After which records of the feed are durable."""
GROUP_BYTES = 4 * 2**20
"""Written in one go; a write that fails takes all of its records with it."""
_IDLE_SECONDS = 60.0
_LOG_SECONDS = 60.0

Waiter = futures.Future[None] | asyncio.Future[None]


class Feed(Protocol):
    """Where records come from that nobody waits for, and what is written at both ends. One thread calls all of it."""

    def open(self, journal: str) -> None:
        """Prepare for records, when the journal starts, and again when that failed; may raise OSError."""

    def opening(self) -> bytes:
        """Return the first record of a segment."""

    def closing(self) -> bytes:
        """Return the last record of the journal."""

    def waits(self) -> bool:
        """Tell whether there is a record to take."""

    def take(self) -> bytes | None:
        """Return the next record, or None when there is none."""

    def settle(self, *, written: bool) -> None:
        """Hear what became of the records that were taken since the last time."""

    def synced(self, frames: int) -> None:
        """Hear how many frames of the journal are durable."""


class _Entry(NamedTuple):
    payload: bytes
    waiter: Waiter
    loop: asyncio.AbstractEventLoop | None


class Journal:
    """The journal of one process; `start` it before its first record.

    Args:
        filesystem: Of the folder.
        folder: It exists and is durable.
        journal: A new id.
        feed: Where further records come from.
        room: Returns how many bytes may still be written.
        segment_bytes: Of each file.

    Attributes:
        id: Of the journal.
        written: (segment, bytes of it): up to here there are whole records; (0, 0) before the first.
    """

    def __init__(
        self,
        filesystem: FileSystem,
        folder: Path,
        journal: str,
        feed: Feed,
        room: Callable[[], int],
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self.id = journal
        self.written = (0, 0)
        self._folder = folder
        self._feed = feed
        self._room = room
        self._segments = SegmentWriter(filesystem, folder, journal, segment_bytes, feed.opening)
        self._opened = False
        self._queue: deque[_Entry] = deque()
        self._wake = threading.Event()
        self._asleep = False
        self._ending = False
        self._ended = False
        self._sync_at = float("inf")
        self._complain_at = 0.0
        self._thread = threading.Thread(target=self._run, name="crossfade-journal", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    # --- for everybody ---

    def append(self, payload: bytes) -> futures.Future[None]:
        """Return what is done when the record is durable, or fails with LedgerUnavailableError."""
        waiter: futures.Future[None] = futures.Future()
        self._append(_Entry(payload, waiter, None))
        return waiter

    def append_async(self, payload: bytes) -> asyncio.Future[None]:
        """Do the same for somebody on the running event loop."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._append(_Entry(payload, waiter, loop))
        return waiter

    def nudge(self) -> None:
        """Say that the feed has something; cheap enough to do so every time."""
        if self._asleep:
            self._wake.set()

    def forget(self, segment: int) -> None:
        """Delete a segment that nobody will read again.

        Raises:
            OSError: It cannot be deleted.
        """
        self._segments.forget(segment)

    def segments(self) -> dict[int, int]:
        """Return the segments that are still there, and how many bytes of each hold whole records."""
        return dict(self._segments.sizes)

    def close(self, timeout: float) -> bool:
        """Write everything that waits, and an end; whatever comes later fails. Tells whether it was done in time."""
        self._ending = True
        self._wake.set()
        if self._thread.ident is None:
            self._ended = True
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _append(self, entry: _Entry) -> None:
        self._queue.append(entry)
        if not self._wake.is_set():
            self._wake.set()
        if self._ended:  # nobody may be left waiting: the thread has looked for the last time
            _tell(self._take_queue(), LedgerUnavailableError(problem="this process is shutting down"))

    # --- the thread ---

    def _run(self) -> None:
        try:
            self._open()
        except OSError as error:  # the first record tries again
            self._complain(error)
        while not self._ending:
            self._await_work()
            self._turn()
        self._turn()
        self._end()
        self._ended = True
        _tell(self._take_queue(), LedgerUnavailableError(problem="this process is shutting down"))

    def _await_work(self) -> None:
        """Sleep until a record waits for its acknowledgement, or for those of the feed until they have gathered."""
        if not self._feed.waits() and self._sync_at == float("inf"):
            self._asleep = True
            if not self._feed.waits():  # it may have come just before we said that we sleep
                self._wake.wait(_IDLE_SECONDS)
            self._asleep = False
        if self._queue or self._ending:
            self._wake.clear()
            return
        self._wake.clear()
        if not self._queue and not self._ending:
            self._wake.wait(GATHER_SECONDS)
            self._wake.clear()

    def _turn(self) -> None:
        """Write what waits; nothing that happens ends the thread, and nobody is left waiting."""
        entries = self._take_queue()
        try:
            entries = self._write_entries(entries)
            self._write_feed()
            if entries or time.monotonic() >= self._sync_at:
                self._sync()
            _tell(entries, None)
        except OSError as error:
            self._complain(error)
            _tell(entries, _unavailable(error))
        except Exception as error:  # noqa: BLE001 - a bug must not look like a disk that hangs
            _log.exception("the journal met a bug")
            _tell(entries, _unavailable(error))

    def _write_entries(self, entries: list[_Entry]) -> list[_Entry]:
        """Write records in groups; return those that were written, and refuse the others."""
        written: list[_Entry] = []
        for group in _groups(entries):
            try:
                self._write([entry.payload for entry in group])
            except (OSError, CrossfadeError) as error:
                self._complain(error)
                _tell(group, _unavailable(error))
            else:
                written += group
        return written

    def _write_feed(self) -> None:
        while (payload := self._feed.take()) is not None:
            try:
                self._write([payload])
            except (OSError, CrossfadeError) as error:
                self._complain(error)
                self._feed.settle(written=False)
            else:
                self._feed.settle(written=True)
                self._sync_at = min(self._sync_at, time.monotonic() + SYNC_SECONDS)

    def _write(self, payloads: Sequence[bytes]) -> None:
        if sum(map(len, payloads)) > self._room():
            raise LedgerUnavailableError(problem="the spool is full, because the database has been away for too long")
        self._open()
        self._segments.append(payloads)
        self.written = (self._segments.segment, self._segments.size)

    def _open(self) -> None:
        if not self._opened:
            self._feed.open(self.id)
            self._opened = True

    def _sync(self) -> None:
        self._sync_at = float("inf")
        self._segments.sync()
        self._feed.synced(self._segments.frames)

    def _end(self) -> None:
        """Write the last record, unless nothing was ever written."""
        if not self._segments.segment:
            return
        try:
            self._segments.append([self._feed.closing()])
            self._segments.close()
            self.written = (self._segments.segment, self._segments.size)
        except OSError as error:
            _log.warning("the journal has no end, so it will look as if this process had crashed: %s", error)

    def _take_queue(self) -> list[_Entry]:
        taken: list[_Entry] = []
        while True:
            try:
                taken.append(self._queue.popleft())
            except IndexError:
                return taken

    def _complain(self, error: Exception) -> None:
        if time.monotonic() >= self._complain_at:
            self._complain_at = time.monotonic() + _LOG_SECONDS
            _log.warning("events cannot be written to %s: %s", self._folder, error)


def _groups(entries: list[_Entry]) -> list[list[_Entry]]:
    groups: list[list[_Entry]] = []
    room = 0
    for entry in entries:
        if not groups or len(entry.payload) > room:
            groups.append([])
            room = GROUP_BYTES
        groups[-1].append(entry)
        room -= len(entry.payload)
    return groups


def _unavailable(error: Exception) -> CrossfadeError:
    if isinstance(error, CrossfadeError):
        return error
    problem = (error.strerror or str(error)) if isinstance(error, OSError) else "a fault of the server; see its log"
    return LedgerUnavailableError(problem=problem)


def _tell(entries: list[_Entry], error: Exception | None) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[Waiter]] = defaultdict(list)
    for entry in entries:
        if entry.loop is None:
            _settle([entry.waiter], error)
        else:
            by_loop[entry.loop].append(entry.waiter)
    for loop, waiters in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, waiters, error)
        except RuntimeError:  # the loop has ended, and with it whoever waited
            _log.info("%d acknowledgements came after their event loop had ended", len(waiters))


def _settle(waiters: list[Waiter], error: Exception | None) -> None:
    for waiter in waiters:
        if waiter.done():  # whoever waited has gone
            continue
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)

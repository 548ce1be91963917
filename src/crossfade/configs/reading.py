"""`ConfigReaders`: answers readers of configs, and lets them wait for the next version without a thread for each."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from crossfade.configs.active import ActiveConfig, ReadConfig
from crossfade.configs.following import ConfigFollower
from crossfade.configs.port import Board
from crossfade.errors import ConfigBoardUnavailableError, ConfigNotFoundError, NoActiveConfigError, UnavailableError
from crossfade.ledger.events import Exposure

LONGEST_WAIT = 60.0
"""Seconds that a reader may wait for news in one request."""
ANY = "*"
"""The entity tag of a reader that has something, whatever it is."""


class ConfigReaders:
    """The readers of one process.

    Args:
        board: Where configs are read while nobody follows it.
        follower: Follows it, in a process that serves; else None.
        max_waiting: How many may wait at a time; others are answered at once, and ask again later.

    Example:
        >>> readers.read("limits", unit="user-1").value  # doctest: +SKIP
        {'max': 5}
    """

    def __init__(self, board: Board, follower: ConfigFollower | None, *, max_waiting: int) -> None:
        self._board = board
        self._follower = follower
        self._max_waiting = max_waiting
        self._waiting: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._count = 0
        self._closed = False
        if follower is not None:
            follower.subscribe(self._tell)

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return self._count

    def read(self, name: str, unit: str | None = None, context: Mapping[str, Any] | None = None) -> ReadConfig:
        """Return what a unit reads now.

        Raises:
            ConfigNotFoundError: There is no config of this name.
            NoActiveConfigError: No version of it is active.
            UnavailableError: Nothing is known yet, because the board is away.
        """
        return self._config(name).read(unit, context)

    def knows(self, name: str) -> bool:
        """Tell whether there is a config of this name, as far as this process knows; it may ask the board."""
        if self._follower is not None:
            return name in self._follower.active
        return self._board.find(name) is not None

    def exposure(self, name: str, unit: str, context: Mapping[str, Any] | None = None) -> Exposure | None:
        """Return what the ledger keeps of a unit that reads a config now; see `ActiveConfig.exposure`."""
        return self._config(name).exposure(unit, context)

    async def wait(
        self,
        name: str,
        known: Iterable[str],
        *,
        unit: str | None = None,
        context: Mapping[str, Any] | None = None,
        seconds: float = 0.0,
    ) -> tuple[ReadConfig | None, bool]:
        """Return what a unit reads, as soon as it is something else than what it knows.

        Args:
            name: The config.
            known: Entity tags of what the reader has; `ANY` is that of everything.
            unit, context: Whom it is for.
            seconds: How long to wait; 0 answers at once.

        Returns:
            What it reads, None when that is what it has; and whether it was not let wait because too many do.

        Raises:
            ConfigNotFoundError, NoActiveConfigError: There is nothing to read.
            UnavailableError: Nothing is known yet, because the board is away.
        """
        if self._follower is None:
            now = await asyncio.to_thread(self.read, name, unit, context)
            return (None if _has(frozenset(known), now) else now), False
        tags, loop = frozenset(known), asyncio.get_running_loop()
        self._loop = loop
        deadline = loop.time() + min(seconds, LONGEST_WAIT)
        while True:
            changed = loop.create_future()  # before looking: news that come now are not missed
            self._waiting[name].add(changed)
            try:
                found = self._unless_none(name, unit, context, last=seconds <= 0)
                if found is not None and not _has(tags, found):
                    return found, False
                left = deadline - loop.time()
                if left <= 0 or self._closed:
                    return (None, False) if found is not None else (self.read(name, unit, context), False)
                if self._count >= self._max_waiting:
                    return (None, True) if found is not None else (self.read(name, unit, context), True)
                self._count += 1
                try:
                    await asyncio.wait((changed,), timeout=left)
                finally:
                    self._count -= 1
            finally:
                self._forget(name, changed)

    def refresh(self) -> str:
        """Let this process know at once what was just committed; returns why it cannot yet, in words, else nothing."""
        if self._follower is None:
            return ""
        if self._follower.away:
            return self._follower.away  # asking once more would only let whoever committed it wait
        try:
            self._follower.refresh()
        except UnavailableError as error:
            return error.message
        return ""

    def release(self) -> None:
        """Answer everybody who waits: this process is about to end."""
        self._closed = True
        self._tell(list(self._waiting))

    def _unless_none(
        self, name: str, unit: str | None, context: Mapping[str, Any] | None, *, last: bool
    ) -> ReadConfig | None:
        """Return what a unit reads; None when nothing is active yet and it may wait for that."""
        try:
            return self.read(name, unit, context)
        except NoActiveConfigError:
            if last:
                raise
            return None

    def _config(self, name: str) -> ActiveConfig:
        if self._follower is None:
            published = self._board.find(name)
            found = None if published is None else ActiveConfig(published)
        else:
            found = self._follower.active.get(name)
            if found is None and not self._follower.ready:
                raise ConfigBoardUnavailableError(problem="nothing has been read from it yet")
        if found is None:
            raise ConfigNotFoundError(name=name[:80])
        return found

    def _tell(self, names: Iterable[str]) -> None:
        """Wake those who wait for news of these; called on any thread."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            with suppress(RuntimeError):  # it was closed just now
                loop.call_soon_threadsafe(self._wake, tuple(names))

    def _wake(self, names: Iterable[str]) -> None:
        for name in names:
            for changed in self._waiting.get(name, ()):
                if not changed.done():
                    changed.set_result(None)

    def _forget(self, name: str, changed: asyncio.Future[None]) -> None:
        waiting = self._waiting[name]
        waiting.discard(changed)
        if not waiting:
            del self._waiting[name]


def _has(tags: frozenset[str], found: ReadConfig) -> bool:
    return found.etag in tags or ANY in tags

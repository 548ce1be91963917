"""`FollowedConfig`: a config in the memory of a program, kept on the newest version, and on disk for a start alone.

It decides what to ask and what to keep, and sends nothing itself: `Client` drives it from a thread, `AsyncClient` from
a task.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypedDict

import httpx
import msgspec

from crossfade.client.calls import Call
from crossfade.client.config_verbs import read_config
from crossfade.client.frozen import frozen
from crossfade.configs.active import ReadConfig
from crossfade.core.clock import utc_now
from crossfade.core.hashing import sha256
from crossfade.core.identity import new_id
from crossfade.errors import ConfigBoardUnavailableError, CrossfadeError, ServerUnreachableError, UnavailableError

_log = logging.getLogger(__name__)

WAIT_SECONDS = 30.0
"""How long one request waits for news."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_FORMAT = 1

Steps = Generator[Call[Any] | float, "ReadAnswer | CrossfadeError | None", None]
"""Yields calls, which are answered with what they gave or raised, and pauses in seconds."""


@dataclass(frozen=True)
class ConfigQuestion:
    """What a program reads.

    Args:
        name: The config.
        unit: Whom it reads for: a rollout gives units different versions.
        context: What segments of a rollout look at.
        client: Who reads, to find out who runs what; the default is this machine, this process and the unit.
    """

    name: str
    unit: str = ""
    context: Mapping[str, Any] | None = None
    client: str = ""

    @property
    def asker(self) -> str:
        """Who reads."""
        default = f"{socket.gethostname()}/{os.getpid()}" + (f"/{self.unit}" if self.unit else "")
        return (self.client or default)[:128]


class ConfigOptions(TypedDict, total=False):
    """How a config is read.

    Args:
        unit: Whom it is read for: a rollout gives units different versions.
        context: What segments of a rollout look at.
        client: Who reads, for `crossfade configs drift`; default: this machine, this process and the unit.
        cache: Folder where the last good version is kept, for a start while the server is away; default: in the user's
            cache, None: nowhere.
    """

    unit: str
    context: Mapping[str, Any] | None
    client: str
    cache: str | os.PathLike[str] | None


@dataclass(frozen=True)
class ReadAnswer:
    """What a server said: a document, or None when it is still the same; and when to ask again, if it said so."""

    found: ReadConfig | None
    retry_after: float = 0.0


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    name: str
    number: int
    digest: str
    document: msgspec.Raw


class ConfigFile:
    """The last good version on disk, readable by its owner only.

    Args:
        folder: Where.
        server: From where it comes.
        question: What is read.
    """

    def __init__(self, folder: Path, server: str, question: ConfigQuestion) -> None:
        what = msgspec.json.encode([server, question.name, question.unit, dict(question.context or {})])
        self._name = question.name
        self.path = folder / f"{sha256(what)[:32]}.json"

    def keep(self, found: ReadConfig) -> None:
        """Write it, whole or not at all; a disk that is full or broken is logged, and reading goes on."""
        data = msgspec.json.encode(_Kept(_FORMAT, found.name, found.number, found.digest, found.document))
        beside = self.path.with_name(f".{self.path.name}.{new_id()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
        except OSError as error:
            _log.warning("config `%s` was not kept on disk: %s", self._name, error)
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)

    def find(self) -> ReadConfig | None:
        """Return what is kept; None when there is nothing of use."""
        try:
            kept = msgspec.json.decode(self.path.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
            _log.warning("what is kept of config `%s` is of no use: %s", self._name, error)
            return None
        found = ReadConfig(kept.name, kept.number, kept.digest, msgspec.Raw(bytes(kept.document)))
        if kept.format != _FORMAT or kept.name != self._name or not _is_whole(found):
            _log.warning("what is kept of config `%s` is of no use: it is not what was written", self._name)
            return None
        return found


class FollowedConfig:
    """The document of a config, always at hand.

    Attributes:
        value: The document, for reading only, since all who ask get the same one: changing it raises `TypeError`, and
            `copy.deepcopy` of it can be changed. It is replaced when another version is read.
        number: Of the version.
        digest: SHA-256 of its canonical JSON.
        variant: Which side of a rollout this is; empty when everybody reads the same.
        from_disk: Whether it was read from disk, because no server has answered yet.
        confirmed_at: When a server last said that this is what to read; None: not yet.

    Example:
        >>> limits = client.config("limits")  # doctest: +SKIP
        >>> limits.value["retries"]  # doctest: +SKIP
        5
    """

    __slots__ = (
        "_etag",
        "_file",
        "_listeners",
        "_question",
        "_stop",
        "confirmed_at",
        "digest",
        "from_disk",
        "number",
        "value",
        "variant",
    )

    value: Mapping[str, Any]
    number: int
    digest: str
    variant: str

    def __init__(self, question: ConfigQuestion, file: ConfigFile | None) -> None:
        self._question = question
        self._file = file
        self._etag = ""
        self._listeners: list[Callable[[FollowedConfig], None]] = []
        self._stop: Callable[[], object] = lambda: None
        self.from_disk = False
        self.confirmed_at: datetime | None = None

    def on_change(self, listener: Callable[[FollowedConfig], None]) -> None:
        """Call `listener` after each change, on the thread or task that reads; what it raises is logged."""
        self._listeners.append(listener)

    def close(self) -> None:
        """Stop following; what was read last stays."""
        self._stop()

    def __enter__(self) -> Self:
        """Return the config."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop following."""
        self.close()

    def __repr__(self) -> str:
        """Name the config and its version."""
        return f"<config {self._question.name}, version {self.number}>"

    # --- for the clients ---

    def first(self) -> Call[ReadAnswer]:
        """Return the call that begins."""
        return self._ask(0.0)

    def begin(self, answer: ReadAnswer | CrossfadeError) -> None:
        """Take the answer to the first call, or what is kept on disk when there is none.

        Raises:
            CrossfadeError: Nobody answers, and nothing is kept; or the server refuses.
        """
        if isinstance(answer, ReadAnswer):
            self._take(answer)
            return
        away = isinstance(answer, UnavailableError | ServerUnreachableError)
        kept = self._file.find() if self._file is not None and away else None
        if kept is None:
            raise answer
        _log.warning("config `%s` is read from disk: %s", self._question.name, answer)
        self.from_disk = True
        self._use(kept)

    def steps(self, timeout_seconds: float | None) -> Steps:
        """Follow for ever: ask, and pause when nobody answers.

        Args:
            timeout_seconds: Of the client's requests; waiting for news has to end before.
        """
        wait_seconds = WAIT_SECONDS if timeout_seconds is None else min(WAIT_SECONDS, timeout_seconds / 2)
        pause = _FIRST_PAUSE if self.from_disk else 0.0
        while True:
            if pause:
                yield pause * (1 + random.random()) / 2  # noqa: S311 - so that not all clients come back at once
            answer = yield self._ask(wait_seconds)
            if isinstance(answer, ReadAnswer):
                pause = answer.retry_after
                if self._take(answer):
                    self._notify()
                elif answer.found is not None and not pause:
                    pause = _FIRST_PAUSE  # the same again instead of 304: a proxy may not know how to wait
            else:
                _log.info("config `%s` stays at version %d: %s", self._question.name, self.number, answer)
                pause = min(max(pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)

    def stop_with(self, stop: Callable[[], object]) -> None:
        """Say what `close` does."""
        self._stop = stop

    # --- parts ---

    def _ask(self, wait_seconds: float) -> Call[ReadAnswer]:
        asked = self._question
        call = read_config(
            asked.name,
            unit=asked.unit,
            context=asked.context,
            known=self._etag,
            wait_seconds=wait_seconds,
            client=asked.asker,
        )

        def read(response: httpx.Response) -> ReadAnswer:
            later, found = response.headers.get("retry-after", ""), call.answer(response)
            if found is not None and not _is_whole(found):
                raise ConfigBoardUnavailableError(problem=f"`{found.name}` arrived damaged")
            return ReadAnswer(found, float(later) if later.isdecimal() else 0.0)

        return replace(call, answer=read)  # type: ignore[arg-type,return-value]

    def _take(self, answer: ReadAnswer) -> bool:
        """Keep an answer, and tell whether it is news."""
        found = answer.found
        self.confirmed_at = utc_now()
        self.from_disk = False
        if found is None:
            return False
        news = not self._etag or (found.number, found.digest) != (self.number, self.digest)
        self._use(found)
        if self._file is not None:
            self._file.keep(found)
        return news

    def _use(self, found: ReadConfig) -> None:
        self.value, self.number, self.digest = frozen(found.value), found.number, found.digest
        self.variant = found.variant
        self._etag = found.etag

    def _notify(self) -> None:
        for listener in self._listeners:
            try:
                listener(self)
            except Exception:  # noqa: BLE001 - it is somebody else's, and following goes on
                _log.exception("a listener of config `%s` failed", self._question.name)


def followed_config(name: str, server: str, options: ConfigOptions) -> FollowedConfig:
    """Return a config that nothing has been read of yet."""
    asked = ConfigQuestion(name, options.get("unit", ""), options.get("context"), options.get("client", ""))
    folder = options.get("cache", cache_folder())
    return FollowedConfig(asked, None if folder is None else ConfigFile(Path(folder), server, asked))


def cache_folder() -> Path:
    """Return where the last good versions are kept by default."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crossfade" / "configs"


def _is_whole(found: ReadConfig) -> bool:
    return sha256(bytes(found.document)) == found.digest

"""`ResponseCache`: an answer that was computed is given again to the same question, for a while.

The same question: the same version by the digest of its manifest, the same generation, the same inputs, the same wanted
outputs. Never the id of a request, and never anything that was not hashed. Questions that are asked at the same moment
are computed once. See `docs/decisions/0006-response-cache.md`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets as random
import time
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, NamedTuple

from crossfade.core.tensors import Tensors
from crossfade.errors import DatabaseUnavailableError, DeadlineExceededError, OverloadedError
from crossfade.registry.requests import CacheStatus
from crossfade.serving.counters import CacheResult
from crossfade.serving.fingerprints import Fingerprints
from crossfade.serving.frames import decode_frame, encode_frame
from crossfade.serving.replies import MAX_BYTES, REMEMBERED_SECONDS, Question, Replies, Reply
from crossfade.serving.shared_answers import OVERHEAD_BYTES, SharedAnswers
from crossfade.serving.slots import Slot
from crossfade.serving.tracing import CURRENT
from crossfade.serving.waiting import Priority
from crossfade.settings import CacheSettings, Settings
from crossfade.storage.cache.backends import open_cache
from crossfade.storage.cache.port import Cache, CacheUsage
from crossfade.storage.database import Database
from crossfade.storage.secrets import SECRET_BYTES, deployment_secret
from crossfade.traffic.snapshot import Route, Snapshot

_log = logging.getLogger(__name__)

_SECRET = "response_cache"  # noqa: S105 - its name


class _Flight:
    """A computation under way, and how many wait for it."""

    __slots__ = ("task", "waiting")

    def __init__(self, task: asyncio.Task[Tensors]) -> None:
        self.task = task
        self.waiting = 0


class Later(NamedTuple):
    """What a process that started without its database lacks for sharing answers.

    Attributes:
        secret: Asks for the secret of the deployment.
        share: Makes the second level with it.
    """

    secret: Callable[[], bytes]
    share: Callable[[bytes], SharedAnswers]


class ResponseCache:
    """The kept answers of this process, and through `shared` those of the others. Used on one event loop.

    Args:
        settings: What is kept, how much, how long.
        memory: The first level.
        shared: The second level, if there is one.
        secret: Of the deployment.
        later: While the database is away: how the secret and the second level are had once it is back.

    Attributes:
        memory: The first level.
        shared: The second level, or None.
        replies: Whole requests that were answered a moment ago, before either level.
        unkept: Answers that were too large, or made of other things than numbers, text and bytes.
    """

    def __init__(
        self,
        settings: CacheSettings,
        memory: Cache,
        shared: SharedAnswers | None,
        secret: bytes,
        later: Later | None = None,
    ) -> None:
        self.memory = memory
        self.shared = shared
        self.unkept = 0
        self._later = later
        self._came: bytes | None = None
        self._models = frozenset(settings.models) if settings.mode == "models" else None
        self._ttl_seconds = settings.ttl_seconds
        self._max_bytes = settings.max_value_bytes - OVERHEAD_BYTES
        self._secret = secret
        self.replies = Replies(secret, settings.max_value_bytes, min(REMEMBERED_SECONDS, settings.ttl_seconds))
        self._snapshot = Snapshot()
        self._versions: dict[str, VersionAnswers] = {}
        self._flights: dict[tuple[Slot, str], _Flight] = {}
        self._clearing: set[asyncio.Task[None]] = set()

    def of(self, slot: Slot, snapshot: Snapshot) -> VersionAnswers | None:
        """Return the kept answers of a version; None when its answers are not kept.

        Args:
            slot: Who answers.
            snapshot: The one that the request pinned: it knows the generation.
        """
        if self._models is not None and slot.name not in self._models:
            return None
        if self._came is not None:
            self._share(self._came)
        if snapshot is not self._snapshot:
            self._follow(snapshot)
        return self._versions.get(slot.digest) or self._open(slot)

    def catch_up(self) -> None:
        """Ask for the secret that the database did not have at the start. May be called on any thread."""
        if self._later is None or self._came is not None:
            return
        with contextlib.suppress(DatabaseUnavailableError):  # it is asked for again with the next snapshot
            self._came = self._later.secret()

    def problems(self) -> list[str]:
        """Say why answers are not shared although they should be."""
        if self._later is not None:
            return ["answers are not shared: the secret for that is in the database, which was away at the start"]
        return [] if self.shared is None else self.shared.trouble()

    async def close(self) -> None:
        """Finish what is under way in the background, and release connections."""
        await asyncio.gather(*self._clearing)
        if self.shared is not None:
            await self.shared.close()

    # --- following the registry ---

    def _share(self, secret: bytes) -> None:
        """Go on as the other processes do; what was kept under a makeshift secret is found by nobody, and ages."""
        if self._later is not None:
            self.shared = self._later.share(secret)
            _log.info("the response cache is shared from now on")
        self._secret, self._later, self._came = secret, None, None
        self._versions.clear()

    def _open(self, slot: Slot) -> VersionAnswers:
        generation = self._snapshot.models.get(slot.name, Route(slot.name)).generation(slot.version)
        answers = self._versions[slot.digest] = VersionAnswers(self, slot, generation, self._secret)
        return answers

    def _follow(self, snapshot: Snapshot) -> None:
        """Let go of versions that are not wished for any more, and of generations that are over."""
        self._snapshot = snapshot
        for digest, answers in list(self._versions.items()):
            route = snapshot.models.get(answers.name, Route(answers.name))
            wished = any(wish.manifest_digest == digest for wish in route.aspired)
            over = route.generation(answers.version) != answers.generation
            if over or not wished:
                del self._versions[digest]
                task = asyncio.create_task(self._clear(answers.prefix, everywhere=over))
                self._clearing.add(task)
                task.add_done_callback(self._clearing.discard)

    async def _clear(self, prefix: str, *, everywhere: bool) -> None:
        await self.memory.delete(prefix)
        if everywhere and self.shared is not None:
            await self.shared.forget(prefix)

    # --- one question ---

    async def answer(
        self, slot: Slot, key: str, tensors: Tensors, wanted: frozenset[str], deadline: float, priority: Priority
    ) -> Tensors:
        """Return the kept answer to a question, or compute it, or wait for who is computing it already."""
        frame = await self.memory.get(key)
        if frame is not None:
            _count(slot, CacheResult.MEMORY)
            return decode_frame(frame)
        question = (slot, key)
        flight = self._flights.get(question)
        joined = flight is not None
        if flight is None:
            # A task of its own: whoever asked first may leave without taking the answer from the others. All of them
            # hold the slot, and when the last one leaves, the task ends: so it never meets a slot that is gone.
            flight = self._flights[question] = _Flight(
                asyncio.create_task(self._compute(slot, key, tensors, wanted, deadline, priority))
            )
        else:
            _count(slot, CacheResult.JOINED)
        flight.waiting += 1
        try:
            async with asyncio.timeout(deadline - time.monotonic() if joined and deadline < math.inf else None):
                return await asyncio.shield(flight.task)
        except TimeoutError as error:
            raise DeadlineExceededError(ref=slot.ref, stage="waiting") from error
        except (DeadlineExceededError, OverloadedError):
            if not joined or time.monotonic() >= deadline:
                raise
        finally:
            flight.waiting -= 1
            if flight.waiting == 0:
                flight.task.cancel()
            if (flight.waiting == 0 or flight.task.done()) and self._flights.get(question) is flight:
                del self._flights[question]
        # who asked first had less time, or was less urgent
        return await self.answer(slot, key, tensors, wanted, deadline, priority)

    async def _compute(
        self, slot: Slot, key: str, tensors: Tensors, wanted: frozenset[str], deadline: float, priority: Priority
    ) -> Tensors:
        if self.shared is not None:
            outputs = await self._find(self.shared, key)
            if outputs is not None:
                _count(slot, CacheResult.SHARED)
                return outputs
        _count(slot, CacheResult.COMPUTED)
        outputs = await slot.predict(tensors, wanted, deadline, priority)
        await self._keep(key, outputs)
        return outputs

    async def _find(self, shared: SharedAnswers, key: str) -> Tensors | None:
        found = await shared.find(key)
        if found is None:
            return None
        try:
            outputs = decode_frame(found.frame)
        except ValueError:  # sealed by a release with other frames
            return None
        await self.memory.set(key, found.frame, found.seconds)
        return outputs

    async def _keep(self, key: str, outputs: Tensors) -> None:
        small = sum(value.nbytes for value in outputs.values()) <= self._max_bytes
        frame = encode_frame(outputs) if small else None
        if frame is None or len(frame) > self._max_bytes:
            self.unkept += 1
            return
        await self.memory.set(key, frame, self._ttl_seconds)
        if self.shared is not None:
            self.shared.keep(key, frame)


class VersionAnswers:
    """The kept answers of one generation of one version.

    Attributes:
        prefix: Of the keys of all of them, and of no others.
    """

    __slots__ = ("_cache", "_fingerprints", "generation", "name", "prefix", "version")

    def __init__(self, cache: ResponseCache, slot: Slot, generation: int, secret: bytes) -> None:
        self.name = slot.name
        self.version = slot.version
        self.generation = generation
        self.prefix = f"{slot.ref}/{generation}/"
        self._cache = cache
        self._fingerprints = Fingerprints(secret, slot.digest, generation, slot.signature)

    def predict(
        self,
        slot: Slot,
        tensors: Tensors,
        wanted: frozenset[str],
        deadline: float = math.inf,
        priority: Priority = Priority.ONLINE,
    ) -> Coroutine[Any, Any, Tensors]:
        """Answer inputs that passed `signature.check`; the slot must be leased meanwhile.

        Returns:
            Arrays that others may be looking at too: they are not to be changed.

        Raises:
            PredictionError: The model failed on them; that is not kept.
            OverloadedError, DeadlineExceededError: There was no time for it.
        """
        key = self.prefix + self._fingerprints.of(tensors, wanted)
        return self._cache.answer(slot, key, tensors, wanted, deadline, priority)

    def question(self, fallback: bool, head: bytes, body: bytes) -> Question | None:
        """Return what a whole request is remembered by; None when it is too long for that."""
        return None if len(body) > MAX_BYTES else self._cache.replies.question(self, fallback, head, body)

    def recall(self, slot: Slot, question: Question) -> Reply | None:
        """Return the answer that the same request got a moment ago, or None."""
        reply = self._cache.replies.find(question)
        if reply is not None:
            slot.counters.count_cached(CacheResult.MEMORY)
        return reply

    def remember(self, question: Question, reply: Reply) -> None:
        """Keep an answer for a moment."""
        self._cache.replies.remember(question, reply)


def _count(slot: Slot, result: CacheResult) -> None:
    slot.counters.count_cached(result)
    trace = CURRENT.get()
    if trace is not None:
        trace.cache = result.value


def open_response_cache(settings: Settings, database: Database) -> ResponseCache | None:
    """Return the cache that the settings describe, or None when it is off.

    Raises:
        SettingsError, MissingExtraError: The second level cannot be used.
    """
    chosen = settings.cache
    if chosen.mode == "off":
        return None
    url = chosen.redis_url.get_secret_value()
    remote = open_cache(url, settings) if url else None
    memory = open_cache("memory://", settings)

    later = None
    if remote is not None:
        later = Later(
            partial(deployment_secret, database, _SECRET),
            partial(SharedAnswers, remote, ttl_seconds=chosen.ttl_seconds),
        )
    try:
        secret = deployment_secret(database, _SECRET)
    except DatabaseUnavailableError:  # this process starts all the same
        _log.warning("the response cache is not shared until the database is back, which has its secret")
        return ResponseCache(chosen, memory, None, random.token_bytes(SECRET_BYTES), later)
    return ResponseCache(chosen, memory, None if later is None else later.share(secret), secret)


def cache_status(settings: CacheSettings, cache: ResponseCache | None, slots: Iterable[Slot]) -> CacheStatus:
    """Say what is kept, and what this process has found in it."""
    usage = CacheUsage() if cache is None else cache.memory.usage()
    shared = None if cache is None else cache.shared
    counted = [slot.counters.cached for slot in slots]
    return CacheStatus(
        mode=settings.mode,
        models=settings.models,
        max_bytes=settings.max_bytes,
        ttl_seconds=settings.ttl_seconds,
        shared=bool(settings.redis_url),
        entries=usage.entries,
        size_bytes=usage.size_bytes,
        evictions=usage.evictions,
        lookups={result.value: sum(counts[result] for counts in counted) for result in CacheResult},
        problems={} if shared is None else dict(shared.problems),
        breakers={} if shared is None else {name: breaker.state.value for name, breaker in shared.breakers.items()},
    )

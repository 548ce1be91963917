"""`Loader`: makes this process hold what the snapshot asks for, one version at a time, on one thread of its own.

A version is ready only after the very bytes that are parsed had their digest, its golden requests gave the stored
answers, and it has been called a few times. Whatever goes wrong ends in the slot's state `failed` with the problem in
words; it is tried again after a pause, or at once when a switch asks for it again.
"""

from __future__ import annotations

import gc
import logging
import math
import threading
import time

from crossfade.errors import CrossfadeError, LoadFailedError
from crossfade.registry.golden import verify
from crossfade.serving.batching import Batcher
from crossfade.serving.memory import default_limit, resident_bytes
from crossfade.serving.opening import OpenedVersion, Opener, warm_up
from crossfade.serving.policy import Load, SlotView, Unload, next_action
from crossfade.serving.slots import Slot, SlotTable, State
from crossfade.settings import ModelRules, ServingSettings
from crossfade.traffic.snapshot import Aspired, Snapshot

_log = logging.getLogger(__name__)

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 300.0
"""Seconds before a failed version is tried again, doubled each time."""
_LOOK_SECONDS = 0.005
"""How often a draining slot is looked at."""


class Loader:
    """Loads into, and unloads from, a slot table.

    Attributes:
        revision: Of the snapshot it works towards: what failed before that snapshot asked for it again is forgotten.
    """

    def __init__(self, slots: SlotTable, opener: Opener, settings: ServingSettings) -> None:
        self.revision = -1
        self.limit_bytes = settings.memory_limit_bytes or default_limit(settings.workers)
        self._slots = slots
        self._open = opener
        self._settings = settings
        self._aspired: dict[str, tuple[Aspired, ...]] = {}
        self._wake = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="crossfade-loader", daemon=True)

    def start(self) -> None:
        """Begin to load."""
        self._thread.start()

    def aspire(self, snapshot: Snapshot) -> None:
        """Work towards a snapshot from now on."""
        self._aspired = {name: route.aspired for name, route in snapshot.models.items() if route.aspired}
        for slot in self._slots.all().values():
            if slot.state is State.FAILED and self._asks_again(slot):
                self._slots.discard(slot)
        self.revision = snapshot.revision
        self._wake.set()

    def report(self) -> tuple[int, dict[str, tuple[str, str]]]:
        """Return the revision worked towards, and per slot its state and problem, at least as new as that revision.

        A ready slot that nobody wishes for any more is reported as draining, which it is about to be: whoever moves an
        alias must not rely on it.
        """
        revision, aspired = self.revision, self._aspired
        wished = {(name, wish.version) for name, wishes in aspired.items() for wish in wishes}
        leaving = {State.READY: State.DRAINING}
        return revision, {
            slot.ref: ((slot.state if key in wished else leaving.get(slot.state, slot.state)).value, slot.problem)
            for key, slot in self._slots.all().items()
        }

    def free_bytes(self) -> int:
        """Return how much may still be loaded."""
        return self.limit_bytes - sum(slot.size_bytes for slot in self._slots.all().values())

    def close(self) -> None:
        """Stop loading, after the load under way, and end the threads of all slots."""
        self._ending = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        for slot in self._slots.all().values():
            if slot.state in {State.READY, State.DRAINING}:
                slot.batcher.close()

    def _asks_again(self, slot: Slot) -> bool:
        wishes = self._aspired.get(slot.name, ())
        requests = [wish.requested_at for wish in wishes if wish.version == slot.version]
        return any(request and request != slot.requested_at for request in requests)

    # --- on the thread ---

    def _run(self) -> None:
        while not self._ending:
            self._wake.clear()
            try:
                while self._step():
                    pass
            except Exception:  # noqa: BLE001 - fail-static: what is ready keeps answering
                _log.exception("loading is interrupted")
                self._wake.wait(_FIRST_PAUSE)
            self._wake.wait(self._pause())

    def _step(self) -> bool:
        """Do the next thing; tells whether there was one."""
        if self._ending:
            return False
        slots = self._slots.all().values()
        for slot in slots:
            if slot.state is State.DRAINING and slot.idle:
                self._free(slot)
        action = next_action([_view(slot) for slot in slots], self._aspired, self.free_bytes(), time.monotonic())
        if isinstance(action, Load):
            self._load(action.name, action.aspired)
        elif isinstance(action, Unload):
            self._unload(action.name, action.version)
        return action is not None

    def _pause(self) -> float | None:
        """How long there is nothing to do unless somebody wakes the thread."""
        slots = self._slots.all().values()
        if any(slot.state is State.DRAINING for slot in slots):
            return _LOOK_SECONDS
        retries = [slot.retry_at for slot in slots if slot.state is State.FAILED]
        return max(_LOOK_SECONDS, min(retries) - time.monotonic()) if retries else None

    def _load(self, name: str, wish: Aspired) -> None:
        former = self._slots.find(name, wish.version)
        failures = 0 if former is None else former.failures
        slot = Slot(name, wish.version, wish.manifest_digest, requested_at=wish.requested_at, failures=failures)
        self._slots.put(slot)
        self._slots.advance(slot, State.LOADING)
        try:
            self._prepare(slot, wish.size_bytes)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a model is foreign code; this process goes on
            slot.size_bytes = 0
            slot.failures += 1
            slot.retry_at = time.monotonic() + pause_after(slot.failures)
            problem = _in_words(error)
            _log.error("`%s` is not ready: %s", slot.ref, problem, exc_info=not isinstance(error, CrossfadeError))
            self._slots.advance(slot, State.FAILED, problem)
        else:
            slot.failures = 0
            _log.info("`%s` is ready after %.3f s, %s", slot.ref, slot.load_seconds, _mode(slot))
            self._slots.advance(slot, State.READY)

    def _prepare(self, slot: Slot, estimate: int) -> None:
        self._check_room(slot, estimate)
        started, before = time.perf_counter(), resident_bytes()
        opened = self._open(slot.name, slot.version)
        if opened.manifest.digest != slot.digest:
            raise LoadFailedError(ref=slot.ref, problem="it was registered anew meanwhile")
        if opened.golden is not None:
            verify(opened, opened.golden, slot.ref)
        self._slots.advance(slot, State.WARMING)
        seconds = warm_up(opened, self._settings.warmup_requests)
        measured = max(estimate, resident_bytes() - before)
        self._check_room(slot, measured)
        slot.size_bytes = measured
        gc.freeze()  # what a model is made of lives long; the collector need not look at it again
        rules = self._settings.of_model(slot.name)
        slot.equip(opened.manifest, self._batcher(slot, opened, rules, seconds), rules.request_timeout_seconds)
        slot.number = opened.number
        slot.load_seconds = time.perf_counter() - started

    def _check_room(self, slot: Slot, needed: int) -> None:
        free = self.free_bytes()
        if needed > free:
            problem = f"it needs {needed} bytes of memory, and {max(0, free)} of {self.limit_bytes} are free"
            raise LoadFailedError(ref=slot.ref, problem=problem)

    def _batcher(self, slot: Slot, opened: OpenedVersion, rules: ModelRules, seconds: float) -> Batcher:
        inline_seconds = math.inf if rules.execution == "inline" else self._settings.inline_below_seconds
        return Batcher(
            opened.predict,
            opened.manifest.signature,
            rules,
            ref=slot.ref,
            inline=rules.execution != "thread" and seconds < inline_seconds,
            inline_seconds=inline_seconds,
            counters=slot.counters,
            expected_seconds=seconds if math.isfinite(seconds) else 0.0,
        )

    def _unload(self, name: str, version: str) -> None:
        slot = self._slots.all()[name, version]
        if slot.state is State.FAILED:
            self._slots.discard(slot)
        else:
            self._slots.advance(slot, State.DRAINING)

    def _free(self, slot: Slot) -> None:
        self._slots.advance(slot, State.UNLOADING)
        slot.batcher.close()
        del slot.batcher  # the last reference to the model, unless its own answers still hold some of it
        self._slots.advance(slot, State.GONE)
        _log.info("`%s` is unloaded", slot.ref)


def pause_after(failures: int) -> float:
    """Return how many seconds a version rests after it has failed so many times in a row."""
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures - 1, 60))


def _view(slot: Slot) -> SlotView:
    return SlotView(slot.name, slot.version, slot.digest, slot.state, slot.size_bytes, slot.retry_at)


def _mode(slot: Slot) -> str:
    return "on the event loop" if slot.batcher.inline else "on a thread of its own"


def _in_words(error: BaseException) -> str:
    if isinstance(error, LoadFailedError):
        return str(error.facts["problem"])
    return str(error) if isinstance(error, CrossfadeError) else f"{type(error).__name__}: {error}"

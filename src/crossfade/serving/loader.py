"""`Loader`: makes this process hold what the snapshot asks for, one version at a time, on one thread of its own.

A version is ready only after the very bytes that are parsed had their digest, its golden requests gave the stored
answers, and it has been called a few times. Whatever goes wrong ends in the slot's state `failed` with the problem in
words; it is tried again after a pause, or at once when a switch asks for it again.

The foreign code of a load runs on a thread that can be left behind: a load that hangs fails like any other, and neither
the next one nor the end of the process waits for it. See `docs/decisions/0005-loads-that-hang-and-memory.md`.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from crossfade.core.memory import resident_bytes, total_bytes
from crossfade.core.wording import in_one_line
from crossfade.errors import CrossfadeError, LoadFailedError
from crossfade.registry.golden import verify
from crossfade.serving.batching import Batcher
from crossfade.serving.deployment_reports import deployment_reports
from crossfade.serving.errand import Errand
from crossfade.serving.leftovers import Leftovers
from crossfade.serving.opening import OpenedVersion, Opener, warm_up
from crossfade.serving.policy import Load, Refit, SlotView, Unload, next_action
from crossfade.serving.retired import Retired
from crossfade.serving.slots import Slot, SlotTable, State
from crossfade.settings import ModelRules, ServingSettings
from crossfade.traffic.deployed import Deployed, DeploymentReport
from crossfade.traffic.snapshot import Aspired, Role, Snapshot

_log = logging.getLogger(__name__)

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 300.0
"""Seconds before a failed version is tried again, doubled each time."""
QUARANTINE_SECONDS = 600.0
"""How long a version rests whose process kept ending."""
_SHARE = 0.75
"""How much of the memory the versions of all workers may take, unless the settings say."""
_LOOK_SECONDS = 0.005
"""How often a draining slot is looked at."""
_IDLE_LOOK_SECONDS = 0.25
"""How often loads that were left behind, and leftovers, are looked at."""
_END_SECONDS = 5.0
"""How long closing waits for a load under way."""
_LAST_SECONDS = 1.0
"""How long it waits for the thread once the load is left behind."""

T = TypeVar("T")


class Loader:
    """Loads into, and unloads from, a slot table.

    Attributes:
        abandoned: How many loads hung and were left behind.
        revision: Of the snapshot it works towards: what failed before that snapshot asked for it again is forgotten.
        on_changed: Called when something has changed that is no slot's state.
    """

    def __init__(self, slots: SlotTable, opener: Opener, settings: ServingSettings) -> None:
        self.abandoned = 0
        self.revision = -1
        self.on_changed: Callable[[], None] = _nothing
        self.limit_bytes = settings.memory_limit_bytes or int(_SHARE * total_bytes() / settings.workers)
        self._slots = slots
        self._open = opener
        self._settings = settings
        self._aspired: dict[str, tuple[Aspired, ...]] = {}
        self._leftovers = Leftovers(slots)
        self._retired = Retired()
        self._errand: Errand[Any] | None = None
        self._hanging: list[tuple[Slot, Errand[Any]]] = []
        self._quarantined: list[Slot] = []
        self._wake = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="crossfade-loader", daemon=True)

    def start(self) -> None:
        """Begin to load."""
        self._thread.start()

    def aspire(self, snapshot: Snapshot) -> None:
        """Work towards a snapshot from now on."""
        here = self._settings.environment
        wishes = {name: [wish.within(here) for wish in route.aspired] for name, route in snapshot.models.items()}
        found = {name: tuple(wish for wish in some if wish is not None) for name, some in wishes.items()}
        self._aspired = {name: some for name, some in found.items() if some}
        for slot in self._slots.all().values():
            if slot.state is State.FAILED and (self._asks_again(slot) or self._asks_otherwise(slot)):
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

    def deployments(self) -> tuple[DeploymentReport, ...]:
        """Say how the deployments of this process do."""
        return deployment_reports(self._slots, self._aspired)

    def free_bytes(self) -> int:
        """Return how much may still be loaded."""
        held = sum(slot.size_bytes for slot in self._slots.all().values())
        return self.limit_bytes - held - self._leftovers.size_bytes - self._retired.size_bytes

    def close(self) -> None:
        """Stop loading, and end the threads of all slots; a load under way has a few seconds to finish."""
        self._ending = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(min(_END_SECONDS, self._settings.drain_timeout_seconds))
            errand = self._errand
            if errand is not None:
                errand.give_up()
            self._thread.join(_LAST_SECONDS)
        for slot in self._slots.all().values():
            if slot.state in {State.READY, State.DRAINING}:
                slot.engine.close()
        self._retired.clear(at_once=True)

    def _asks_again(self, slot: Slot) -> bool:
        wishes = self._aspired.get(slot.name, ())
        requests = [wish.requested_at for wish in wishes if wish.version == slot.version]
        return any(request and request != slot.requested_at for request in requests)

    def _asks_otherwise(self, slot: Slot) -> bool:
        """Tell whether a version that failed shall run in another way by now."""
        terms = [wish.terms for wish in self._aspired.get(slot.name, ()) if wish.version == slot.version]
        return bool(terms) and terms[0] != slot.refused

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
                continue
            self._wake.wait(self._pause())

    def _step(self) -> bool:
        """Do the next thing; tells whether there was one."""
        if self._ending:
            return False
        slots = self._slots.all().values()
        for slot in slots:
            if slot.state is State.DRAINING and slot.idle:
                self._free(slot)
            elif slot.state is State.READY and slot.apart is not None and slot.apart.given_up:
                self._quarantine(slot, slot.apart.given_up)
        self._free_quarantined()
        self._retired.clear()
        self._forgive()
        self._leftovers.clear(urgent=self._is_short())
        action = next_action([_view(slot) for slot in slots], self._aspired, self.free_bytes(), time.monotonic())
        if isinstance(action, Load):
            self._load(action.name, action.aspired)
        elif isinstance(action, Refit):
            self._refit(self._slots.all()[action.name, action.aspired.version], action.aspired)
        elif isinstance(action, Unload):
            self._unload(action.name, action.version)
        return action is not None

    def _pause(self) -> float | None:
        """How long there is nothing to do unless somebody wakes the thread."""
        slots = self._slots.all().values()
        if self._quarantined or any(slot.state is State.DRAINING for slot in slots):
            return _LOOK_SECONDS
        now = time.monotonic()
        pauses = [max(_LOOK_SECONDS, slot.retry_at - now) for slot in slots if slot.state is State.FAILED]
        refused = [slot for slot in slots if slot.state is State.READY and slot.refused is not None]
        pauses += [max(_LOOK_SECONDS, slot.refit_at - now) for slot in refused]
        if self._hanging or self._leftovers.pending or self._retired.pending:
            pauses.append(_IDLE_LOOK_SECONDS)
        return min(pauses, default=None)

    def _forgive(self) -> None:
        """Let versions be tried again whose hanging loads have come back after all."""
        for slot, errand in self._hanging:
            if not errand.running:
                slot.retry_at = slot.refit_at = 0.0
        self._hanging = [(slot, errand) for slot, errand in self._hanging if errand.running]

    def _is_short(self) -> bool:
        """Tell whether a wish waits for memory."""
        free = self.free_bytes()
        return any(
            wish.size_bytes > free and self._slots.find(name, wish.version) is None
            for name, wishes in self._aspired.items()
            for wish in wishes
        )

    def _load(self, name: str, wish: Aspired) -> None:
        former = self._slots.find(name, wish.version)
        failures = 0 if former is None else former.failures
        slot = Slot(name, wish.version, wish.manifest_digest, requested_at=wish.requested_at, failures=failures)
        self._slots.put(slot)
        self._slots.advance(slot, State.LOADING)
        try:
            self._prepare(slot, wish)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a model is foreign code; this process goes on
            slot.size_bytes = 0
            slot.refused = wish.terms
            slot.failures += 1
            hangs = any(hanging is slot for hanging, _ in self._hanging)  # trying again would hang one thread more
            slot.retry_at = math.inf if hangs else time.monotonic() + pause_after(slot.failures)
            self._leftovers.add(slot)
            problem = _in_words(error)
            _log.error("`%s` is not ready: %s", slot.ref, problem, exc_info=not isinstance(error, CrossfadeError))
            self._slots.advance(slot, State.FAILED, problem)
        else:
            slot.failures = 0
            _log.info("`%s` is ready after %.3f s, %s", slot.ref, slot.load_seconds, _mode(slot))
            self._slots.advance(slot, State.READY)

    def _prepare(self, slot: Slot, wish: Aspired) -> None:
        started = time.perf_counter()
        try:
            opened = self._open_warm(slot, wish)
        except (Exception, SystemExit) as error:
            if wish.terms is None or wish.role is Role.DEPLOYED:
                raise
            self._refuse(slot, wish.terms, error)
            wish = msgspec.structs.replace(wish, deployments=())
            opened = self._open_warm(slot, wish)
        self._equip(slot, wish, *opened)
        slot.load_seconds = time.perf_counter() - started

    def _open_warm(self, slot: Slot, wish: Aspired) -> tuple[OpenedVersion, float, int]:
        """Open a version, verified and warm; returns it, the seconds of a call, and the memory charged to it."""
        self._check_room(slot, wish.size_bytes)
        before = resident_bytes()
        deadline = time.monotonic() + self._settings.ready_timeout_seconds
        opened = self._send(slot, lambda: self._open_verified(slot, wish), deadline)
        try:
            if slot.state is State.LOADING:
                self._slots.advance(slot, State.WARMING)
            seconds = self._send(slot, lambda: warm_up(opened, self._settings.warmup_requests), deadline)
            grown = resident_bytes() - before if opened.apart is None else opened.apart.size_bytes
            measured = max(wish.size_bytes, grown)
            self._check_room(slot, measured)
        except Exception:
            opened.close()
            raise
        return opened, seconds, measured

    def _equip(self, slot: Slot, wish: Aspired, opened: OpenedVersion, seconds: float, size_bytes: int) -> None:
        slot.size_bytes = size_bytes
        self._leftovers.hide()
        rules = self._settings.of_model(slot.name)
        batcher = self._batcher(slot, opened, rules, seconds)
        slot.isolated, slot.replicas, slot.terms = opened.isolated, opened.replicas, wish.terms
        slot.number = opened.number
        if opened.apart is not None:
            opened.apart.on_given_up = self._wake.set
        if opened.isolated is not None:
            batcher.caller.apart, batcher.caller.refusal = opened.isolated, opened.isolated.refusal
            batcher.rest_seconds = opened.isolated.rest_seconds
        if opened.replicas is not None:
            opened.replicas.on_changed = self.on_changed
            opened.replicas.has_room = lambda more: more <= self.free_bytes()
            opened.replicas.on_resized = lambda size: _charge(slot, opened, size)
            opened.replicas.attach(batcher)
        slot.equip(opened.manifest, batcher, rules)

    def _refit(self, slot: Slot, wish: Aspired) -> None:
        """Let a ready version run as it shall. Until it can, and when it cannot, it runs as it does."""
        terms, now = wish.terms, slot.terms
        try:
            if slot.replicas is not None and terms is not None and now is not None and now.resources == terms.resources:
                slot.replicas.adjust(terms)
                slot.terms = terms
            else:
                opened = self._open_warm(slot, wish)
                former = slot.engine
                self._equip(slot, wish, *opened)
                self._retired.add(former)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a model is foreign code; this process goes on
            self._refuse(slot, terms, error)
        else:
            slot.refused, slot.refusal, slot.refused_times = None, "", 0
            _log.info("`%s` runs %s now", slot.ref, _mode(slot))
        self.on_changed()

    def _refuse(self, slot: Slot, terms: Deployed | None, error: BaseException) -> None:
        """Note that a version cannot run as it shall; it is tried again after a pause."""
        slot.refused_times = slot.refused_times + 1 if slot.refused == terms else 1
        hangs = any(hanging is slot for hanging, _ in self._hanging)
        slot.refit_at = math.inf if hangs else time.monotonic() + pause_after(slot.refused_times)
        slot.refused, slot.refusal = terms, in_one_line(_in_words(error), None)
        _log.error("`%s` cannot run as it shall: %s", slot.ref, slot.refusal)

    def _send(self, slot: Slot, call: Callable[[], T], deadline: float) -> T:
        """Run foreign code on a thread of its own, and leave it behind when it hangs."""
        self._errand = errand = Errand(call, f"crossfade-load-{slot.ref}")
        try:
            if errand.wait(deadline - time.monotonic()):
                return errand.result()
        finally:
            self._errand = None
        if self._ending:
            raise LoadFailedError(ref=slot.ref, problem="this process is shutting down")
        self.abandoned += 1
        self._hanging.append((slot, errand))
        problem = f"it did not finish loading within {self._settings.ready_timeout_seconds:g} seconds"
        raise LoadFailedError(ref=slot.ref, problem=problem)

    def _open_verified(self, slot: Slot, wish: Aspired) -> OpenedVersion:
        opened = self._open(slot.name, wish)
        try:
            _verify(opened, slot)
        except Exception:
            opened.close()
            raise
        return opened

    def _check_room(self, slot: Slot, needed: int) -> None:
        if needed > self.free_bytes():
            self._leftovers.clear(urgent=True)
        free = self.free_bytes()
        if needed > free:
            problem = f"it needs {needed} bytes of memory, and {max(0, free)} of {self.limit_bytes} are free"
            raise LoadFailedError(ref=slot.ref, problem=problem)

    def _batcher(self, slot: Slot, opened: OpenedVersion, rules: ModelRules, seconds: float) -> Batcher:
        inline_seconds = math.inf if rules.execution == "inline" else self._settings.inline_below_seconds
        batcher = Batcher(
            opened.predict,
            opened.manifest.signature,
            rules,
            ref=slot.ref,
            inline=not opened.waits and rules.execution != "thread" and seconds < inline_seconds,
            inline_seconds=inline_seconds,
            counters=slot.counters,
            expected_seconds=seconds if math.isfinite(seconds) else 0.0,
        )
        batcher.caller.staged = opened.staged
        return batcher

    def _unload(self, name: str, version: str) -> None:
        slot = self._slots.all()[name, version]
        if slot.state is State.FAILED:
            self._slots.discard(slot)
        else:
            self._slots.advance(slot, State.DRAINING)

    def _quarantine(self, slot: Slot, problem: str) -> None:
        """Give up a version whose process keeps ending. Former versions answer in its stead, if there are any."""
        _log.error("`%s` is not served any more: %s", slot.ref, problem)
        slot.failures += 1
        slot.refused = slot.terms
        slot.retry_at = time.monotonic() + QUARANTINE_SECONDS
        self._quarantined.append(slot)
        self._slots.advance(slot, State.FAILED, problem)

    def _free_quarantined(self) -> None:
        for slot in self._quarantined:
            if slot.idle:
                slot.engine.close()
                slot.size_bytes = 0
        self._quarantined = [slot for slot in self._quarantined if slot.size_bytes]

    def _free(self, slot: Slot) -> None:
        self._slots.advance(slot, State.UNLOADING)
        slot.engine.close()
        del slot.batcher  # the last reference to the model, unless its answers or it itself still hold some of it
        self._slots.advance(slot, State.GONE)
        self._leftovers.add(slot)
        _log.info("`%s` is unloaded", slot.ref)


def _verify(opened: OpenedVersion, slot: Slot) -> None:
    """Check that it is the version that was wished for, and that it answers as it did."""
    if opened.manifest.digest != slot.digest:
        raise LoadFailedError(ref=slot.ref, problem="it was registered anew meanwhile")
    if opened.golden is not None:
        verify(opened, opened.golden, slot.ref)


def _charge(slot: Slot, opened: OpenedVersion, size_bytes: int) -> None:
    """Charge memory to a slot, unless it has other replicas by now."""
    if slot.replicas is opened.replicas:
        slot.size_bytes = size_bytes


def pause_after(failures: int) -> float:
    """Return how many seconds a version rests after it has failed so many times in a row."""
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures - 1, 60))


def _view(slot: Slot) -> SlotView:
    return SlotView(
        slot.name,
        slot.version,
        slot.digest,
        slot.state,
        slot.size_bytes,
        slot.retry_at,
        slot.terms,
        slot.refused,
        slot.refit_at,
    )


def _mode(slot: Slot) -> str:
    if slot.replicas is not None:
        return "in replicas"
    if slot.isolated is not None:
        return "in a process of its own"
    return "on the event loop" if slot.batcher.inline else "on a thread of its own"


def _nothing() -> None:
    """Nobody wants to know."""


def _in_words(error: BaseException) -> str:
    if isinstance(error, LoadFailedError):
        return str(error.facts["problem"])
    return str(error) if isinstance(error, CrossfadeError) else f"{type(error).__name__}: {error}"

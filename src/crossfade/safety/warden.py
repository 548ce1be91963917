"""`Warden`: keeps the rules of one process compiled, from the snapshot and from the files of this machine.

A thread of its own looks at those files, lets overrides expire, writes the history, and tells every process of a model
that a critical answer has stopped here. Where there is no rule, a request reads one attribute: `guards`, which is None.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from crossfade.core.clock import Clock, utc_now
from crossfade.errors import CrossfadeError, LatchUnwritableError
from crossfade.safety.guards import Guard, Guards
from crossfade.safety.inspection import Findings
from crossfade.safety.latch import Latch, Seen
from crossfade.safety.levels import Level
from crossfade.safety.rules import PRINCIPAL, Emergency, Rules
from crossfade.safety.specs import Mode
from crossfade.safety.violations import ViolationLog

_log = logging.getLogger(__name__)

_FLUSH_SECONDS = 1.0
_TOLD_SECONDS = 60.0
"""A model whose answers stay critical is logged that often."""

Declare = Callable[[str, Mode, str], int]
"""(model, mode, reason) -> revision of the emergency that every process follows; 0 when it is known already."""


class _Latched:
    """A model that a critical answer stopped here, until the rules of every process say so.

    Attributes:
        emergency: Which.
        since: Revision from which on the rules decide; None: nobody was told yet.
        on_machine: Whether the files of this machine say so.
    """

    __slots__ = ("emergency", "on_machine", "since")

    def __init__(self, emergency: Emergency) -> None:
        self.emergency = emergency
        self.since: int | None = None
        self.on_machine = False


class Warden:
    """The rules of this process.

    Args:
        home: Where emergencies of this machine are.
        log: Where violations go.
        declare: Begins an emergency in every process.
        poll_seconds: How often the files are looked at.
        clock: What time it is.

    Attributes:
        guards: What is asked of answers; None while there is no rule at all.
        log: The same.
    """

    def __init__(
        self, home: Path, log: ViolationLog, declare: Declare, poll_seconds: float = 0.2, clock: Clock = utc_now
    ) -> None:
        self.guards: Guards | None = None
        self.log = log
        self._declare = declare
        self._clock = clock
        self._latch = Latch(home, clock)
        self._poll_seconds = poll_seconds
        self._rules = Rules()
        self._revision = -1
        self._local = self._latch.read()
        self._seen: Seen | None = None
        self._latched: dict[str, _Latched] = {}
        self._told: dict[str, float] = {}
        self._away = False
        self._compiling = threading.RLock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="crossfade-safety", daemon=True)
        self._compile()

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking, and write what is left of the history."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        self._write()

    def guard(self, model: str) -> Guard | None:
        """Return what is asked of the answers of a model; None when it is nothing."""
        guards = self.guards
        return None if guards is None else guards.find(model)

    def follow(self, rules: Rules, revision: int) -> None:
        """Use the rules of a new snapshot."""
        with self._compiling:
            over = [name for name, it in self._latched.items() if it.since is not None and it.since <= revision]
            for name in over:  # from here on the database says whether it is still stopped
                del self._latched[name]
            changed = rules != self._rules or bool(over)
            self._rules, self._revision = rules, revision
            if changed:
                self._compile()

    def turn(self) -> None:
        """Look at the files of this machine, and at the clock."""
        seen = self._latch.seen()
        if seen is None or seen != self._seen:
            local = self._latch.read()
            self._seen = seen
            if local != self._local:
                self._use_local(local)
        guards = self.guards
        if guards is not None and guards.due_at is not None and guards.due_at <= self._clock():
            with self._compiling:
                self._compile()

    def _use_local(self, local: tuple[Emergency, ...]) -> None:
        before, after = {item.model for item in self._local}, {item.model for item in local}
        for item in local:
            _log.warning("emergency on this machine: %s=%s: %s", item.scope, item.mode, item.reason)
        for model in before - after:
            _log.warning("the emergency on this machine has ended: %s", model or "everything")
        with self._compiling:
            for model in before - after:  # a person has ended what this process could not tell the others
                if model in self._latched and self._latched[model].on_machine:
                    del self._latched[model]
            self._local = local
            self._compile()

    def found(self, guard: Guard, version: str, findings: Findings, instead: str = "") -> None:
        """Count what was found in an answer; a critical one is told, and stops the model where its policy says so."""
        self.log.add(guard.model, version, findings, instead)
        if findings.level is not Level.CRITICAL:
            return
        words = f"{version}: {', '.join(findings.checks)} ({findings.found[0].example})"
        now = time.monotonic()
        if now - self._told.get(guard.model, -_TOLD_SECONDS) >= _TOLD_SECONDS:
            self._told[guard.model] = now
            _log.error("a critical answer of %s:%s", guard.model, words)
        latch = "" if guard.spec is None else guard.spec.latch
        if latch and guard.emergency is None and guard.model not in self._latched:
            self._stop(guard.model, latch, f"a critical answer of {words}")

    def _stop(self, model: str, mode: Mode, reason: str) -> None:
        """Stop a model here and now; the thread tells the others."""
        with self._compiling:
            self._latched[model] = _Latched(Emergency(model, mode, reason, self._clock(), PRINCIPAL))
            self._compile()
        _log.error("%s is stopped (%s): %s", model, mode, reason)

    def _compile(self) -> None:
        latched = tuple(it.emergency for it in self._latched.values())
        emergencies = (*self._rules.emergencies, *latched, *self._local)
        rules = Rules(self._rules.policies, self._rules.overrides, emergencies)
        made = Guards(rules, self._clock(), self.guards)
        self.guards = made or None

    def _run(self) -> None:
        wrote_at = time.monotonic()
        while not self._ending.wait(self._poll_seconds):
            try:
                self.turn()
                self.tell()
            except Exception:  # noqa: BLE001 - the next look may be better, and what is known stays in force
                _log.exception("the emergencies of this machine cannot be looked at")
            if time.monotonic() - wrote_at >= _FLUSH_SECONDS:
                wrote_at = time.monotonic()
                self._write()

    def tell(self) -> None:
        """Tell every process of the models that were stopped here; without a database, those of this machine."""
        for model, it in list(self._latched.items()):
            if it.since is not None:
                continue
            try:
                revision = self._declare(model, it.emergency.mode, it.emergency.reason)
            except CrossfadeError as error:
                if not it.on_machine:
                    _log.warning("%s is stopped on this machine only: %s", model, error)
                    self._tell_machine(it)
                continue
            with self._compiling:
                # somebody else may have told it: then the next rules say so
                it.since = revision or self._revision + 1
                if it.since <= self._revision:
                    self._latched.pop(model, None)
                    self._compile()

    def _tell_machine(self, it: _Latched) -> None:
        emergency = it.emergency
        if any(known.model == emergency.model and known.mode == "block" for known in self._latch.read()):
            it.on_machine = True  # somebody has stopped it already, and more strictly
            return
        try:
            self._latch.put(emergency.model, emergency.mode, emergency.reason, PRINCIPAL)
            it.on_machine = True
        except LatchUnwritableError as error:
            _log.warning("the emergency cannot be written to this machine's disk: %s", error)

    def _write(self) -> None:
        try:
            self.log.flush()
        except CrossfadeError as error:
            if not self._away:
                _log.warning("the history of violations waits for the database: %s", error)
            self._away = True
        except Exception:  # noqa: BLE001 - a history is worth less than the thread that ends emergencies
            _log.exception("the history of violations cannot be written")
        else:
            self._away = False

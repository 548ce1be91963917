"""`Leftovers`: what unloaded versions leave in memory when they refer to themselves, and when it is cleared away.

Only the cycle collector frees an object that refers to itself, and while it looks through many objects nobody is
answered. So what there is much of (libraries, models of many small objects) is hidden from it, and it looks at the rest
whenever a version was unloaded. It has to look at everything only when the version itself was hidden: then it waits for
a moment without requests, or until the memory is needed. See `docs/decisions/0005-loads-that-hang-and-memory.md`.
"""

from __future__ import annotations

import gc
import logging
import time

from crossfade.serving.slots import Slot, SlotTable

_log = logging.getLogger(__name__)

_MANY = 30_000
"""Objects that the collector looks through in about 10 ms."""
_QUIET_SECONDS = 1.0
"""Without a request; then nobody is likely to come in the next tenth of a second either."""


class Leftovers:
    """Clears away, on the loader's thread.

    Attributes:
        size_bytes: Charged to unloaded versions that may still be in memory.
    """

    def __init__(self, slots: SlotTable) -> None:
        self.size_bytes = 0
        self._slots = slots
        self._pending = False
        self._dear = False
        self._seen = -1.0
        self._quiet_since = 0.0

    @property
    def pending(self) -> bool:
        """Whether there is something to clear away."""
        return self._pending

    def hide(self) -> None:
        """After a load: take from the collector's sight what lives long, when there is much of it."""
        if _is_much():
            self._freeze()

    def add(self, slot: Slot) -> None:
        """Note that a version was let go of."""
        self.size_bytes += slot.size_bytes
        self._pending = True
        self._dear = self._dear or slot.hidden

    def clear(self, *, urgent: bool = False) -> None:
        """Free what can be freed without keeping anybody waiting, or all of it when that is urgent."""
        if not self._pending:
            return
        self._dear = self._dear or _is_much()
        if self._dear and not urgent and not self._is_quiet():
            return
        started = time.perf_counter()
        if self._dear:
            gc.unfreeze()
        found = gc.collect()
        if self._dear:
            self._freeze()
            seconds = time.perf_counter() - started
            _log.info("%d objects of unloaded versions were freed in %.3f s", found, seconds)
        self.size_bytes, self._pending, self._dear = 0, False, False

    def _freeze(self) -> None:
        gc.freeze()
        for slot in self._slots.all().values():
            slot.hidden = True

    def _is_quiet(self) -> bool:
        slots = self._slots.all().values()
        seen, now = sum(slot.counters.requests + slot.leases for slot in slots), time.monotonic()
        if seen != self._seen or any(slot.leases for slot in slots):
            self._seen, self._quiet_since = seen, now
        return now - self._quiet_since >= _QUIET_SECONDS


def _is_much() -> bool:
    """Tell whether the collector sees many objects.

    They are counted in one go of C code, in which no other thread runs: while there is a list of all objects, each has
    one reference more, and a tuple that another thread is making of a generator then cannot get its size (SystemError).
    """
    return next(map(len, map(gc.get_objects, (None,)))) > _MANY

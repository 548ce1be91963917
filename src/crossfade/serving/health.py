"""`HealthReporter`: writes down every second what the versions of this process have done, for whoever judges them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from crossfade.core.clock import Clock, utc_now
from crossfade.errors import UnavailableError
from crossfade.serving.counters import Counters
from crossfade.serving.slots import Slot, SlotTable
from crossfade.traffic.health import PINNED, SHADOW, TIERS, Counts, HealthLog, Versions, merge_into

_log = logging.getLogger(__name__)

_PRUNE_SECONDS = 60

Missed = Mapping[tuple[str, str], int]
"""(model, semver) -> requests that were meant for it, and that another version had to answer."""


class HealthReporter:
    """Reports from a thread of its own; a request pays nothing.

    Args:
        slots: What is served.
        missed: Requests that were answered in a version's stead, ever growing.
        log: Where reports go.
        process: Whose they are.
        clock: What time it is.
    """

    def __init__(self, slots: SlotTable, missed: Missed, log: HealthLog, process: str, clock: Clock = utc_now) -> None:
        self._slots = slots
        self._missed = missed
        self._log = log
        self._process = process
        self._clock = clock
        self._seen: dict[Slot, tuple[Counts, ...]] = {}
        self._seen_cpu: dict[Slot, float] = {}
        self._seen_missed: dict[tuple[str, str], int] = {}
        self._sums: dict[int, dict[str, Versions]] = {tier.seconds: {} for tier in TIERS}
        self._began: dict[int, int] = {}
        self._at_us = 0
        self._turns = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="crossfade-health", daemon=True)

    def start(self) -> None:
        """Begin to report."""
        self._thread.start()

    def close(self) -> None:
        """Report for the last time."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
            self._report(last=True)

    def turn(self, *, last: bool = False) -> None:
        """Write down what has happened since the last turn, and whatever coarser reports are due, in one transaction.

        Args:
            last: Whether this is the end, so that all of them are due.

        Raises:
            DatabaseUnavailableError: The database does not answer; it will be written together with the next.
        """
        now_us = max(int(self._clock().timestamp() * 1e6), self._at_us + 1)
        news = self._news()
        for sums in self._sums.values():
            merge_into(sums, news)
        due = {
            seconds: sums
            for seconds, sums in self._sums.items()
            if sums and (last or now_us - self._began.setdefault(seconds, now_us) >= (seconds - 1) * 1_000_000)
        }
        self._log.write(self._process, now_us, due)
        self._at_us = now_us
        for seconds in due:
            self._sums[seconds] = {}
            self._began[seconds] = now_us

    def _run(self) -> None:
        while not self._ending.wait(TIERS[0].seconds):
            self._report()

    def _report(self, *, last: bool = False) -> None:
        try:
            self.turn(last=last)
            self._turns += 1
            if self._turns % _PRUNE_SECONDS == 0:
                self._log.prune()
        except UnavailableError as error:
            _log.debug("health is not reported: %s", error)
        except Exception:  # noqa: BLE001 - a bug must not end what others judge this process by
            _log.exception("health is not reported")

    def _news(self) -> dict[str, Versions]:
        """Return what happened since the last call, model -> versions; nothing of versions that nobody asked."""
        slots = self._slots.all().values()
        before = self._seen
        self._seen = {slot: tuple(map(_counts, (slot.counters, slot.shadows, slot.pinned))) for slot in slots}
        cpu_before, self._seen_cpu = self._seen_cpu, {slot: slot.cpu_seconds for slot in slots}
        news: dict[str, Versions] = {}
        for slot, now in self._seen.items():
            then = before.get(slot, (Counts(), Counts(), Counts()))
            whole, copies, pinned = (_difference(*pair) for pair in zip(now, then, strict=True))
            for version, fresh in (
                (slot.version, _difference(whole, pinned)),
                (slot.version + SHADOW, copies),
                (slot.version + PINNED, pinned),
            ):
                if fresh:
                    fresh.queue_depth, fresh.memory_bytes = slot.waiting, slot.size_bytes
                    news.setdefault(slot.name, {})[version] = fresh
            if counted := news.get(slot.name, {}).get(slot.version):
                counted.cpu_seconds = max(0.0, self._seen_cpu[slot] - cpu_before.get(slot, 0.0))
        self._add_missed(news)
        return news

    def _add_missed(self, news: dict[str, Versions]) -> None:
        missed = dict(self._missed)
        for (model, version), count in missed.items():
            fresh = count - self._seen_missed.get((model, version), 0)
            if fresh:
                counts = news.setdefault(model, {}).setdefault(version, Counts())
                counts.requests += fresh
                counts.fallbacks += fresh
        self._seen_missed = missed


def _counts(counters: Counters) -> Counts:
    latency = {place: count for place, count in enumerate(counters.seconds.counts()) if count}
    errors = counters.errors.copy()
    return Counts(
        requests=sum(latency.values()) + sum(errors.values()),
        errors=errors.get("5xx", 0),
        refused=errors.get("4xx", 0),
        unsafe=counters.unsafe,
        batches=counters.batch_rows.count,
        batch_rows=int(counters.batch_rows.total),
        busy_seconds=counters.batch_seconds,
        latency=latency,
    )


def _difference(now: Counts, then: Counts) -> Counts:
    latency = {place: count - then.latency.get(place, 0) for place, count in now.latency.items()}
    return Counts(
        requests=now.requests - then.requests,
        errors=now.errors - then.errors,
        refused=now.refused - then.refused,
        unsafe=now.unsafe - then.unsafe,
        batches=now.batches - then.batches,
        batch_rows=now.batch_rows - then.batch_rows,
        busy_seconds=now.busy_seconds - then.busy_seconds,
        latency={place: count for place, count in latency.items() if count},
    )

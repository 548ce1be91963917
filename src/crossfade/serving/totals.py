"""`Totals`: what all workers of a server have counted, whichever of them is asked.

Every worker publishes its numbers once a second and whenever it is asked; who is asked adds up what all have published
last. So a request pays nothing, and the numbers of the others are at most about a second old. No count ever falls:
what a worker shows of itself it has published before, who takes its place after a crash goes on from there, and a
version that it lets go of stays counted. See `docs/decisions/0011-metrics-of-all-workers.md`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from prometheus_client import ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Sample

from crossfade.serving.published import Board, Labels, Published, Readings, Version
from crossfade.serving.slots import Slot

_log = logging.getLogger(__name__)

PUBLISH_SECONDS = 1.0
STALE_SECONDS = 5.0
"""A worker that has published nothing for so long is dead, or hangs: its gauges are left out."""
FORGET_SECONDS = 300.0
"""Counts of a version that no worker holds any more are kept so long, for workers that start anew."""
RULES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "crossfade_alerts_firing": max,
    "crossfade_cache_breaker_open": max,
    "crossfade_emergency": max,
    "crossfade_events_unshipped_age_seconds": max,
    "crossfade_free_bytes": min,
    "crossfade_load_seconds": max,
    "crossfade_rollout_weight": max,
    "crossfade_replica_utilisation": max,
    "crossfade_snapshot_age_seconds": max,
    "crossfade_snapshot_revision": min,
}
"""Gauges of which the worst worker is shown, because a sum would mean nothing; all others are added up."""

Tuples = tuple[tuple[str, Labels, float], ...]


class Source(Protocol):
    """What one process counts."""

    def held(self) -> dict[Version, Slot]:
        """Return the versions that have series now."""

    def of_versions(self, slots: list[Slot]) -> Iterable[Metric]:
        """Read what these versions have done."""

    def read(self, slots: list[Slot]) -> Iterable[Metric]:
        """Read everything, with these versions."""


class Totals:
    """One worker's part of the numbers of a server. Its methods may be called from any thread but the event loop's.

    Args:
        board: What the workers share.
        place: Which of them this one is; a worker that died has left it to this one.
        source: What this process counts.
    """

    def __init__(self, board: Board, place: str, source: Source) -> None:
        self._board = board
        self._place = place
        self._source = source
        self._process = ProcessCollector(registry=None)
        former = board.read(place) or Published()
        self._before: Readings = {(name, labels): value for name, labels, value in former.counts}
        self._held: dict[Version, Slot] = {}
        self._last_held: dict[Version, float] = {}
        self._writes = True
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="crossfade-metrics", daemon=True)

    def start(self) -> None:
        """Begin to publish."""
        self._thread.start()

    def close(self) -> None:
        """Publish for the last time."""
        self._ending.set()
        self._thread.join()
        self._publish()

    def render(self) -> bytes:
        """Return the metrics of all workers in the Prometheus text format."""
        metrics, own = self._publish()
        everyone = {self._place: own, **dict(self._board.others(self._place))}
        registry = CollectorRegistry()
        registry.register(_Collected(_merged(metrics, everyone, own.at)))
        return generate_latest(registry)

    def _run(self) -> None:
        while not self._ending.wait(PUBLISH_SECONDS):
            try:
                self._publish()
            except Exception:  # noqa: BLE001 - numbers are worth less than answers, and the next second may be better
                _log.exception("the metrics of this worker are not up to date")

    def _publish(self) -> tuple[list[Metric], Published]:
        with self._lock:
            now = time.monotonic()
            held = self._source.held()
            gone = [slot for version, slot in self._held.items() if held.get(version) is not slot]
            _add(self._before, _counts(self._source.of_versions(gone)))
            self._held = held
            metrics: list[Metric] = []
            counts = self._before.copy()
            for metric in self._source.read(list(held.values())):
                metrics.append(metric)
                _add(counts, _counts([metric]))
            process = list(self._process.collect())
            own = Published(
                now,
                frozenset(held),
                tuple((name, labels, value) for (name, labels), value in counts.items()),
                _readings(metric for metric in metrics if metric.type == "gauge"),
                _readings(process),
            )
            self._write(own)
            self._forget(now)
            return metrics + process, own

    def _write(self, own: Published) -> None:
        try:
            self._board.write(self._place, own)
        except OSError as error:
            if self._writes:
                _log.warning("the metrics of this worker cannot be shared: %s", error)
            self._writes = False
        else:
            self._writes = True

    def _forget(self, now: float) -> None:
        """Let go of what was counted for versions that nobody has held for a while."""
        versions = {version for _, labels in self._before if (version := _version(labels)) is not None}
        if not versions - set(self._held):
            return
        held = set(self._held).union(*(other.held for _, other in self._board.others(self._place)))
        self._last_held = {
            version: now if version in held else self._last_held.get(version, now) for version in versions
        }
        over = {version for version, at in self._last_held.items() if now - at > FORGET_SECONDS}
        if over:
            self._before = {key: value for key, value in self._before.items() if _version(key[1]) not in over}


class _Collected(Collector):
    """Metrics that have been read already."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """Yield them (called by prometheus-client)."""
        for metric in self._metrics:
            yield metric
            time.sleep(0)  # as when they are read: writing them down takes as long


def _merged(metrics: list[Metric], everyone: dict[str, Published], now: float) -> list[Metric]:
    """Return these metrics with the numbers of everyone."""
    living = {place: one for place, one in everyone.items() if now - one.at <= STALE_SECONDS}
    held = frozenset[Version]().union(*(one.held for one in living.values()))
    counts: Readings = {}
    for one in everyone.values():
        _add(counts, one.counts)
    samples: dict[str, list[Sample]] = defaultdict(list)
    for (name, labels), value in counts.items():
        if (version := _version(labels)) is None or version in held:
            samples[name].append(Sample(name, dict(labels), value))
    for name, labels, value in _gauges(living.values()):
        samples[name].append(Sample(name, dict(labels), value))
    for place, one in living.items():
        for name, labels, value in one.process:
            samples[name].append(Sample(name, {"worker": place, **dict(labels)}, value))
    merged = []
    for metric in metrics:
        whole = Metric(metric.name, metric.documentation, metric.type)
        whole.samples = [sample for suffix in _SUFFIXES[metric.type] for sample in samples[metric.name + suffix]]
        merged.append(whole)
    return merged


_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


def _gauges(living: Iterable[Published]) -> Tuples:
    seen: dict[tuple[str, Labels], list[float]] = defaultdict(list)
    for one in living:
        for name, labels, value in one.gauges:
            seen[name, labels].append(value)
    return tuple((name, labels, RULES.get(name, sum)(values)) for (name, labels), values in seen.items())


def _counts(metrics: Iterable[Metric]) -> Tuples:
    return _readings(metric for metric in metrics if metric.type in {"counter", "histogram"})


def _readings(metrics: Iterable[Metric]) -> Tuples:
    return tuple(
        (sample.name, tuple(sample.labels.items()), float(sample.value))
        for metric in metrics
        for sample in metric.samples
    )


def _add(readings: Readings, more: Tuples) -> None:
    for name, labels, value in more:
        readings[name, labels] = readings.get((name, labels), 0.0) + value


def _version(labels: Labels) -> Version | None:
    """Return whose the series is, or None when it is nobody's."""
    if len(labels) < 2 or labels[0][0] != "model" or not labels[0][1]:
        return None
    return labels[0][1], labels[1][1]

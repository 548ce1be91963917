"""`Measurements`: what this process does, in the Prometheus text format. Counting happens elsewhere, without locks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from crossfade.core.breaker import BreakerState
from crossfade.serving.cache import ResponseCache
from crossfade.serving.counters import Counters
from crossfade.serving.loader import Loader
from crossfade.serving.slots import Slot, SlotTable, State
from crossfade.traffic.follower import SnapshotFollower

_LABELS = ("model", "version")


class Measurements(Collector):
    """Reads slots and snapshot when somebody scrapes; a version's series end when it is unloaded.

    Attributes:
        unserved: Requests that no version was there to answer.
    """

    def __init__(
        self, slots: SlotTable, follower: SnapshotFollower, loader: Loader, cache: ResponseCache | None = None
    ) -> None:
        self.unserved = Counters()
        self._cache = cache
        self._slots = slots
        self._follower = follower
        self._loader = loader
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """Return the metrics of this process in the Prometheus text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Yield every metric (called by prometheus-client)."""
        slots = [slot for slot in self._slots.all().values() if slot.state is not State.FAILED]
        yield from self._of_requests(slots)
        yield from _of_batches(slots)
        yield from self._of_process()
        yield from _of_cache(slots, self._cache)

    def _of_requests(self, slots: list[Slot]) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "crossfade_requests", "Predictions by family of HTTP status.", labels=(*_LABELS, "code")
        )
        seconds = HistogramMetricFamily(
            "crossfade_inference_duration_seconds", "Checking, waiting and predicting.", labels=_LABELS
        )
        rows = CounterMetricFamily("crossfade_rows", "Rows in answered requests.", labels=_LABELS)
        fallbacks = CounterMetricFamily(
            "crossfade_fallbacks", "Answers in the stead of a version that was not ready.", labels=_LABELS
        )
        shed = CounterMetricFamily(
            "crossfade_shed",
            "Requests refused for want of time, or over the quota.",
            labels=(*_LABELS, "reason", "priority"),
        )
        waiting = GaugeMetricFamily("crossfade_queue_depth", "Requests that wait for the model.", labels=_LABELS)
        under_way = GaugeMetricFamily("crossfade_requests_in_flight", "Requests under way.", labels=_LABELS)
        for family, count in self.unserved.errors.items():
            requests.add_metric(("", "", family), count)
        for slot in slots:
            labels, counters = slot.key, slot.counters
            buckets = counters.seconds.buckets()
            requests.add_metric((*labels, "2xx"), buckets[-1][1])
            for family, count in counters.errors.items():
                requests.add_metric((*labels, family), count)
            seconds.add_metric(labels, buckets, counters.seconds.total)
            rows.add_metric(labels, counters.rows)
            fallbacks.add_metric(labels, counters.fallbacks)
            under_way.add_metric(labels, slot.leases)
            waiting.add_metric(labels, slot.waiting)
            for reason, count in counters.shed.items():
                shed.add_metric((*labels, *reason), count)
        yield from (requests, seconds, rows, fallbacks, shed, waiting, under_way)

    def _of_process(self) -> Iterator[Metric]:
        states = GaugeMetricFamily("crossfade_slots", "Versions in this process by state.", labels=("state",))
        found = Counter(slot.state for slot in self._slots.all().values())
        for state in State:
            if state is not State.GONE:
                states.add_metric((state.value,), found[state])
        yield states
        yield CounterMetricFamily(
            "crossfade_abandoned_loads", "Loads that hung and were left behind.", value=self._loader.abandoned
        )
        yield GaugeMetricFamily(
            "crossfade_free_bytes", "Memory that further versions may take.", value=self._loader.free_bytes()
        )
        yield GaugeMetricFamily(
            "crossfade_snapshot_revision", "Revision of the routes in use.", value=self._follower.snapshot.revision
        )
        yield GaugeMetricFamily(
            "crossfade_snapshot_age_seconds",
            "Since the database confirmed that the routes are the newest.",
            value=self._follower.age_seconds,
        )


def _of_batches(slots: list[Slot]) -> Iterator[Metric]:
    rows = HistogramMetricFamily("crossfade_batch_rows", "Rows per call of the model.", labels=_LABELS)
    seconds = CounterMetricFamily("crossfade_model_seconds", "Time in the model.", labels=_LABELS)
    loading = GaugeMetricFamily("crossfade_load_seconds", "From the first byte to ready.", labels=_LABELS)
    memory = GaugeMetricFamily("crossfade_model_bytes", "Memory charged to the version.", labels=_LABELS)
    for slot in slots:
        rows.add_metric(slot.key, slot.counters.batch_rows.buckets(), slot.counters.batch_rows.total)
        seconds.add_metric(slot.key, slot.counters.batch_seconds)
        loading.add_metric(slot.key, slot.load_seconds)
        memory.add_metric(slot.key, slot.size_bytes)
    yield from (rows, seconds, loading, memory)


def _of_cache(slots: list[Slot], cache: ResponseCache | None) -> Iterator[Metric]:
    lookups = CounterMetricFamily(
        "crossfade_cache_lookups",
        "Questions to the response cache: answered from `memory`, from the `shared` cache, `joined` to an equal "
        "question under way, or `computed`.",
        labels=(*_LABELS, "result"),
    )
    entries = GaugeMetricFamily("crossfade_cache_entries", "Answers in the memory of this process.")
    size = GaugeMetricFamily("crossfade_cache_bytes", "Memory charged to them.")
    evictions = CounterMetricFamily("crossfade_cache_evictions", "Answers that made room for others.")
    unkept = CounterMetricFamily("crossfade_cache_unkept", "Answers that were too large to keep.")
    problems = CounterMetricFamily(
        "crossfade_cache_problems",
        "What went wrong in the shared cache: a failed `read` or `write`, a `damaged` answer, a `dropped` write.",
        labels=("problem",),
    )
    breakers = GaugeMetricFamily(
        "crossfade_cache_breaker_open", "1 while the shared cache is left alone.", labels=("operation",)
    )
    if cache is not None:
        for slot in slots:
            for result, count in slot.counters.cached.items():
                lookups.add_metric((*slot.key, result.value), count)
        usage = cache.memory.usage()
        entries.add_metric((), usage.entries)
        size.add_metric((), usage.size_bytes)
        evictions.add_metric((), usage.evictions)
        unkept.add_metric((), cache.unkept)
    if cache is not None and cache.shared is not None:
        for problem, count in cache.shared.problems.items():
            problems.add_metric((problem,), count)
        for operation, breaker in cache.shared.breakers.items():
            breakers.add_metric((operation,), breaker.state is not BreakerState.CLOSED)
    yield from (lookups, entries, size, evictions, unkept, problems, breakers)

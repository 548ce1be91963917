"""`Measurements`: what is served, in the Prometheus text format. Counting happens elsewhere, without locks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from crossfade.core.breaker import BreakerState
from crossfade.ledger.event_counts import EventCounts
from crossfade.safety.rules import Emergency
from crossfade.safety.violations import ViolationLog
from crossfade.serving.cache import ResponseCache
from crossfade.serving.counters import Counters, Distribution
from crossfade.serving.loader import Loader
from crossfade.serving.published import Board
from crossfade.serving.slots import Key, Slot, SlotTable, State
from crossfade.serving.totals import Totals
from crossfade.traffic.follower import SnapshotFollower

_LABELS = ("model", "version")


class Measurements(Collector):
    """Reads slots and snapshot when somebody scrapes; a version's series end when it is unloaded.

    Attributes:
        unserved: Requests that no version was there to answer.
        traces, captured_rows, shadows: How many, by what became of them.
        exposures: (experiment, variant) -> requests that took part.
        events: What became of exposures and outcomes.
        firing: Gives (rule, severity, model) -> alerts that fire.
        told: Gives (channel, result) -> events that were to be told.
        violations: What safety checks found, or None.
        emergencies: Lists what is stopped.
    """

    def __init__(
        self,
        slots: SlotTable,
        follower: SnapshotFollower,
        loader: Loader,
        cache: ResponseCache | None = None,
    ) -> None:
        self.traces: Mapping[str, int] = {}
        self.captured_rows: Mapping[str, int] = {}
        self.shadows: Mapping[str, int] = {}
        self.exposures: Mapping[tuple[str, str], int] = {}
        self.events = EventCounts()
        self.firing: Callable[[], Mapping[tuple[str, str, str], int]] = dict
        self.told: Callable[[], Mapping[tuple[str, str], int]] = dict
        self.violations: ViolationLog | None = None
        self.emergencies: Callable[[], Iterable[Emergency]] = tuple
        self.unserved = Counters()
        self._cache = cache
        self._slots = slots
        self._follower = follower
        self._loader = loader
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        self._totals: Totals | None = None

    def share(self, folder: Path, place: str) -> None:
        """Add up, from now on, with the other workers of this server.

        Args:
            folder: Where they all publish.
            place: Which of them this one is.
        """
        self._totals = Totals(Board(folder), place, self)
        self._totals.start()

    def close(self) -> None:
        """Publish for the last time."""
        if self._totals is not None:
            self._totals.close()

    def render(self) -> bytes:
        """Return the metrics of this server in the Prometheus text format; not on the event loop."""
        return generate_latest(self._registry) if self._totals is None else self._totals.render()

    def collect(self) -> Iterable[Metric]:
        """Yield every metric of this process (called by prometheus-client)."""
        return self.read(list(self.held().values()))

    def held(self) -> dict[Key, Slot]:
        """Return the versions that have series now."""
        return {key: slot for key, slot in self._slots.all().items() if slot.state is not State.FAILED}

    def read(self, slots: list[Slot]) -> Iterator[Metric]:
        """Yield every metric of this process, with these versions."""
        for metric in self._read(slots):
            yield metric
            time.sleep(0)  # lets the event loop go first: otherwise it waits until the interpreter forces a switch

    def _read(self, slots: list[Slot]) -> Iterator[Metric]:
        yield from _of_versions(slots, self._cache is not None, self.unserved.errors.copy())
        yield from self._of_process()
        yield from _of_cache(self._cache)
        yield _by_result(
            "crossfade_traces",
            "Predictions that were traced: `sent` to the collector, `failed` to be, or `dropped` as too many waited.",
            self.traces,
        )
        yield _by_result(
            "crossfade_captured_rows",
            "Rows of captured predictions: `written`, `failed` to be, `dropped` as too much waited, or `refused` as "
            "the policy names a field that the version has not.",
            self.captured_rows,
        )
        yield from self._of_experiments()
        yield from self._of_rollouts()
        yield from _of_events(self.events)
        yield from _of_alerts(self.firing(), self.told())
        yield from self._of_safety()

    def of_versions(self, slots: list[Slot]) -> Iterator[Metric]:
        """Yield what these versions have done in this process."""
        return _of_versions(slots, self._cache is not None, {})

    def _of_experiments(self) -> Iterator[Metric]:
        exposures = CounterMetricFamily(
            "crossfade_exposures", "Requests that took part in an experiment.", labels=("experiment", "variant")
        )
        for labels, count in dict(self.exposures).items():
            exposures.add_metric(labels, count)
        yield exposures
        fallbacks = CounterMetricFamily(
            "crossfade_assignment_fallbacks",
            "Requests that could not be assigned: without the unit, without the context, or of an experiment that does "
            "not run (then without its name).",
            labels=("experiment", "reason"),
        )
        for (experiment, reason), count in self._follower.tally.counts().items():
            fallbacks.add_metric((experiment, reason.value), count)
        yield fallbacks
        yield _by_result(
            "crossfade_shadow_requests",
            "Copies of requests for shadows: `answered`, `failed`, `shed` for want of time, or `absent`: not ready.",
            self.shadows,
        )

    def _of_safety(self) -> Iterator[Metric]:
        violations = CounterMetricFamily(
            "crossfade_safety_violations",
            "Answers that violated a check of the safety policy, by what they were for: `answer`, `shadow`, or "
            "`fallback`, which was tried in the place of another one.",
            # the model first would be a version's series, which end with it
            labels=("check", "model", "level", "role"),
        )
        counts = {} if self.violations is None else self.violations.counts.copy()
        for labels, count in counts.items():
            violations.add_metric(labels, count)
        yield violations
        yield CounterMetricFamily(
            "crossfade_safety_violations_lost",
            "Violations that are counted here and missing in the history, for want of a database.",
            value=0 if self.violations is None else self.violations.lost,
        )
        emergency = GaugeMetricFamily(
            "crossfade_emergency", "1 while a model is stopped; without a model: everything is.", labels=("model",)
        )
        for item in self.emergencies():
            emergency.add_metric((item.model,), 1)
        yield emergency

    def _of_rollouts(self) -> Iterator[Metric]:
        weights = GaugeMetricFamily(
            "crossfade_rollout_weight",
            "Fraction of the traffic of a model that each version of its rollout has.",
            labels=("rollout", *_LABELS),
        )
        for route in self._follower.snapshot.traffic.rollouts:
            for variant in route.allocation.spec.variants:
                weights.add_metric((route.name, route.model, route.versions[variant.name]), variant.weight)
        yield weights

    def _of_process(self) -> Iterator[Metric]:
        states = GaugeMetricFamily("crossfade_slots", "Versions in the process by state.", labels=("state",))
        found = Counter(slot.state for slot in self._slots.all().values())
        for state in State:
            if state is not State.GONE:
                states.add_metric((state.value,), found[state])
        yield states
        yield CounterMetricFamily(
            "crossfade_abandoned_loads", "Loads that hung and were left behind.", value=self._loader.abandoned
        )
        yield CounterMetricFamily(
            "crossfade_worker_restarts",
            "Workers of this server that ended and were replaced, by what ended them: the name of a signal, or `exit`.",
            labels=("reason",),  # counted by who starts them
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


def _of_versions(slots: list[Slot], cached: bool, unserved: Mapping[str, int]) -> Iterator[Metric]:
    yield from _of_requests(slots, unserved)
    yield _of_stages(slots)
    yield from _of_batches(slots)
    yield _of_lookups(slots if cached else [])
    yield _of_model_processes(slots)
    yield _of_members(slots)
    yield from _of_replicas(slots)


def _of_requests(slots: list[Slot], unserved: Mapping[str, int]) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "crossfade_requests", "Predictions by family of HTTP status.", labels=(*_LABELS, "code")
    )
    rows = CounterMetricFamily("crossfade_rows", "Rows in answered requests.", labels=_LABELS)
    fallbacks = CounterMetricFamily(
        "crossfade_fallbacks", "Answers in the stead of a version that was not ready.", labels=_LABELS
    )
    unsafe = CounterMetricFamily(
        "crossfade_unsafe", "Answers that the safety policy withheld: UNSAFE or CRITICAL.", labels=_LABELS
    )
    shed = CounterMetricFamily(
        "crossfade_shed",
        "Requests refused for want of time, or over the quota.",
        labels=(*_LABELS, "reason", "priority"),
    )
    waiting = GaugeMetricFamily("crossfade_queue_depth", "Requests that wait for the model.", labels=_LABELS)
    under_way = GaugeMetricFamily("crossfade_requests_in_flight", "Requests under way.", labels=_LABELS)
    for family, count in unserved.items():
        requests.add_metric(("", "", family), count)
    for slot in slots:
        labels, counters = slot.key, slot.counters
        requests.add_metric((*labels, "2xx"), counters.seconds.count)
        for family, count in counters.errors.copy().items():
            requests.add_metric((*labels, family), count)
        rows.add_metric(labels, counters.rows)
        fallbacks.add_metric(labels, counters.fallbacks)
        unsafe.add_metric(labels, counters.unsafe)
        under_way.add_metric(labels, slot.leases)
        waiting.add_metric(labels, slot.waiting)
        for reason, count in counters.shed.copy().items():
            shed.add_metric((*labels, *reason), count)
    yield from (requests, rows, fallbacks, unsafe, shed, waiting, under_way)


def _of_stages(slots: list[Slot]) -> Metric:
    seconds = HistogramMetricFamily(
        "crossfade_inference_duration_seconds",
        "Of answered requests: `total`, and its stages `queue` (until the model began), `preprocess` and `predict` "
        "(the whole call that a request shared). An answer from the cache has no stages.",
        labels=(*_LABELS, "stage"),
    )
    for slot in slots:
        counters = slot.counters
        for stage, seen in (
            ("total", counters.seconds),
            ("queue", counters.queue_seconds),
            ("preprocess", counters.preprocess_seconds),
            ("predict", counters.predict_seconds),
        ):
            _add_distribution(seconds, (*slot.key, stage), seen)
    return seconds


def _add_distribution(histogram: HistogramMetricFamily, labels: tuple[str, ...], seen: Distribution) -> None:
    """Add a series that begins with its first value: most versions are kept warm for others, and answer nothing."""
    buckets = seen.buckets()
    if buckets[-1][1]:
        histogram.add_metric(labels, buckets, seen.total)


def _of_batches(slots: list[Slot]) -> Iterator[Metric]:
    rows = HistogramMetricFamily("crossfade_batch_rows", "Rows per call of the model.", labels=_LABELS)
    seconds = CounterMetricFamily("crossfade_model_seconds", "Time in the model.", labels=_LABELS)
    loading = GaugeMetricFamily("crossfade_load_seconds", "From the first byte to ready.", labels=_LABELS)
    memory = GaugeMetricFamily("crossfade_model_bytes", "Memory charged to the version.", labels=_LABELS)
    for slot in slots:
        _add_distribution(rows, slot.key, slot.counters.batch_rows)
        seconds.add_metric(slot.key, slot.counters.batch_seconds)
        loading.add_metric(slot.key, slot.load_seconds)
        memory.add_metric(slot.key, slot.size_bytes)
    yield from (rows, seconds, loading, memory)


def _of_model_processes(slots: list[Slot]) -> Metric:
    ends = CounterMetricFamily(
        "crossfade_model_process_ends",
        "Processes of models that ended: by `signal`, by `exit`, because they hung (`timeout`), sent nonsense "
        "(`protocol`), or could not be started again (`load`).",
        labels=(*_LABELS, "reason"),
    )
    for slot in slots:
        if slot.isolated is not None:
            for reason, count in slot.isolated.ends.copy().items():
                ends.add_metric((*slot.key, reason), count)
    return ends


def _of_members(slots: list[Slot]) -> Metric:
    rows = CounterMetricFamily(
        "crossfade_ensemble_member_rows",
        "Rows that a member of an ensemble `answered`, or did not: then it was `dropped`, something was `substituted` "
        "for it, or the row was `passed` to the next one of a chain. Of calls that were answered.",
        labels=(*_LABELS, "member", "outcome"),
    )
    for slot in slots:
        for kind, count in slot.counters.member_rows.copy().items():
            rows.add_metric((*slot.key, *kind), count)
    return rows


def _of_replicas(slots: list[Slot]) -> Iterator[Metric]:
    states = GaugeMetricFamily(
        "crossfade_replicas",
        "Copies of versions that deployments ask for: `wanted`; those that are `ready`; left alone because they fail "
        "more than others (`ejected`); being started again (`restarting`).",
        labels=(*_LABELS, "state"),
    )
    restarts = CounterMetricFamily("crossfade_replica_restarts", "Copies that were started again.", labels=_LABELS)
    ejections = CounterMetricFamily("crossfade_replica_ejections", "Copies that were left alone.", labels=_LABELS)
    busy = GaugeMetricFamily(
        "crossfade_replica_utilisation", "Fraction of their time that copies are busy.", labels=_LABELS
    )
    for slot in slots:
        if slot.replicas is not None:
            report = slot.replicas.report()
            for state in ("wanted", "ready", "ejected", "restarting"):
                states.add_metric((*slot.key, state), getattr(report.replicas, state))
            restarts.add_metric(slot.key, report.restarts)
            ejections.add_metric(slot.key, report.ejections)
            busy.add_metric(slot.key, report.utilisation)
    yield from (states, restarts, ejections, busy)


def _of_lookups(slots: list[Slot]) -> Metric:
    lookups = CounterMetricFamily(
        "crossfade_cache_lookups",
        "Questions to the response cache: answered from `memory`, from the `shared` cache, `joined` to an equal "
        "question under way, or `computed`.",
        labels=(*_LABELS, "result"),
    )
    for slot in slots:
        for result, count in slot.counters.cached.items():
            lookups.add_metric((*slot.key, result.value), count)
    return lookups


def _of_cache(cache: ResponseCache | None) -> Iterator[Metric]:
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
    yield from (entries, size, evictions, unkept, problems, breakers)


def _of_events(events: EventCounts) -> Iterator[Metric]:
    for name, documentation, counts in (
        ("acked", "Promised: outcomes that are durable, exposures that were taken.", events.acked),
        ("spooled", "Written to the journal of the process.", events.spooled),
        ("shipped", "Brought to the database, each for the first time.", events.shipped),
        ("dropped", "Exposures that were lost for want of room: their experiments are incomplete.", events.dropped),
    ):
        metric = CounterMetricFamily(f"crossfade_events_{name}", documentation, labels=("kind",))
        for kind, count in counts.copy().items():
            metric.add_metric((kind,), count)
        yield metric
    refused = CounterMetricFamily(
        "crossfade_events_refused",
        "Events that are of no use, by reason: `unknown_experiment`, `unmeasured`, `conflicting_id` and others.",
        labels=("reason",),
    )
    for reason, count in events.refused.copy().items():
        refused.add_metric((reason,), count)
    yield refused
    yield GaugeMetricFamily(
        "crossfade_spool_bytes", "Of journals that wait for the database.", value=events.spool_bytes
    )
    yield GaugeMetricFamily(
        "crossfade_events_unshipped_age_seconds",
        "How long the oldest event has waited for the database.",
        value=events.oldest_unshipped_seconds(),
    )
    yield CounterMetricFamily(
        "crossfade_log_truncated_bytes",
        "Of journals, that were no whole records: the torn end of a process that was killed, or damage.",
        value=events.truncated_bytes,
    )


def _of_alerts(firing: Mapping[tuple[str, str, str], int], told: Mapping[tuple[str, str], int]) -> Iterator[Metric]:
    alerts = GaugeMetricFamily("crossfade_alerts_firing", "Alerts that fire.", labels=("alert", "severity", "model"))
    for labels, count in firing.items():
        alerts.add_metric(labels, count)
    yield alerts
    events = CounterMetricFamily(
        "crossfade_notifications",
        "Events that channels were to be told of: `sent`, `failed` for good, or `dropped` as too many waited.",
        labels=("channel", "result"),
    )
    for pair, count in told.items():
        events.add_metric(pair, count)
    yield events


def _by_result(name: str, documentation: str, counts: Mapping[str, int]) -> Metric:
    metric = CounterMetricFamily(name, documentation, labels=("result",))
    for result, count in counts.items():
        metric.add_metric((result,), count)
    return metric

"""Whichever worker is asked answers for all of them, and no count ever falls."""

import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from prometheus_client.parser import text_string_to_metric_families

from crossfade.serving import totals
from crossfade.serving.cache import ResponseCache
from crossfade.serving.counters import CacheResult
from crossfade.serving.measurements import Measurements
from crossfade.serving.published import Board, Published
from crossfade.serving.slots import Slot, SlotTable, State
from crossfade.settings import CacheSettings
from crossfade.storage.cache.memory import MemoryCache
from crossfade.traffic.allocation.decisions import Tally
from crossfade.traffic.snapshot import Snapshot
from tests.traffic.support import eventually

M = ("m", "1.0.0")


class Worker:
    """One serving process, as far as metrics are concerned."""

    def __init__(self, folder, place, *, revision=3, age=0.5, free=100):
        follower = SimpleNamespace(snapshot=Snapshot(revision=revision), age_seconds=age, tally=Tally())
        loader = SimpleNamespace(abandoned=1, free_bytes=lambda: free)
        cache = ResponseCache(CacheSettings(mode="on"), MemoryCache(2**20, 2**16), None, b"s" * 32)
        self.slots = SlotTable()
        self.measurements = Measurements(self.slots, follower, loader, cache)
        self.totals = totals.Totals(Board(folder), place, self.measurements)

    def load(self, key=M):
        slot = Slot(*key, "digest")
        slot.state = State.READY
        self.slots.put(slot)
        return slot.counters

    def unload(self, key=M):
        slot = self.slots.all()[key]
        for state in (State.DRAINING, State.UNLOADING, State.GONE):
            self.slots.advance(slot, state)

    def scrape(self):
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.totals.render().decode())
            for sample in family.samples
        }


class Time:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        pass


@pytest.fixture
def clock(monkeypatch):
    clock = Time()
    monkeypatch.setattr(totals, "time", clock)
    return clock


def key(name, **labels):
    return (name, *sorted(labels.items()))


ROWS = key("crossfade_rows_total", model="m", version="1.0.0")


def test_counts_and_histograms_of_all_workers_are_added_up(tmp_path):
    one, two = Worker(tmp_path, "0"), Worker(tmp_path, "1")
    first, second = one.load(), two.load()
    first.count_answer(3, 0.0004, 1.0)
    second.count_answer(4, 0.3, 1.0)
    second.count_error(422)
    second.count_shed("overload", "batch")
    second.count_cached(CacheResult.MEMORY)
    one.measurements.unserved.count_error(404)
    two.measurements.unserved.count_error(404)
    two.scrape()
    seen = one.scrape()
    assert seen == {**seen, **_common(two.scrape())}
    m = {"model": "m", "version": "1.0.0"}
    assert seen[ROWS] == 7
    assert seen[key("crossfade_requests_total", **m, code="2xx")] == 2
    assert seen[key("crossfade_requests_total", **m, code="4xx")] == 1
    assert seen[key("crossfade_requests_total", model="", version="", code="4xx")] == 2
    assert seen[key("crossfade_shed_total", **m, reason="overload", priority="batch")] == 1
    assert seen[key("crossfade_cache_lookups_total", **m, result="memory")] == 1
    assert seen[key("crossfade_inference_duration_seconds_count", **m, stage="total")] == 2
    assert seen[key("crossfade_inference_duration_seconds_sum", **m, stage="total")] == pytest.approx(0.3004)
    assert seen[key("crossfade_inference_duration_seconds_bucket", **m, stage="total", le="0.0005")] == 1
    assert seen[key("crossfade_inference_duration_seconds_bucket", **m, stage="total", le="+Inf")] == 2
    assert seen[key("crossfade_abandoned_loads_total")] == 2


def _common(seen):
    """What does not differ by a moment or by the process that was asked."""
    return {name: value for name, value in seen.items() if not name[0].startswith("process_")}


def test_gauges_are_added_up_or_the_worst_is_shown(tmp_path):
    one = Worker(tmp_path, "0", revision=3, age=0.5, free=100)
    two = Worker(tmp_path, "1", revision=2, age=7.0, free=50)
    for worker, seconds in ((one, 1.0), (two, 2.0)):
        worker.load()
        worker.slots.all()[M].load_seconds = seconds
        worker.slots.all()[M].size_bytes = 1000
        worker.slots.all()[M].leases = 2
    two.scrape()
    seen = one.scrape()
    m = {"model": "m", "version": "1.0.0"}
    assert seen[key("crossfade_requests_in_flight", **m)] == 4
    assert seen[key("crossfade_model_bytes", **m)] == 2000
    assert seen[key("crossfade_load_seconds", **m)] == 2.0
    assert seen[key("crossfade_slots", state="ready")] == 2
    assert seen[key("crossfade_snapshot_revision")] == 2
    assert seen[key("crossfade_snapshot_age_seconds")] == 7.0
    assert seen[key("crossfade_free_bytes")] == 50


def test_every_rule_is_for_a_gauge_that_exists(tmp_path):
    gauges = {metric.name for metric in Worker(tmp_path, "0").measurements.collect() if metric.type == "gauge"}
    assert set(totals.RULES) <= gauges


def test_processes_are_told_apart(tmp_path):
    one, two = Worker(tmp_path, "0"), Worker(tmp_path, "1")
    two.scrape()
    seen = one.scrape()
    for place in "01":
        assert seen[key("process_resident_memory_bytes", worker=place)] > 0
        assert key("process_cpu_seconds_total", worker=place) in seen


def test_who_takes_the_place_of_a_dead_worker_goes_on_from_its_counts(tmp_path):
    one, two = Worker(tmp_path, "0"), Worker(tmp_path, "1")
    one.load().count_answer(5, 0.1, 1.0)
    two.load().count_answer(7, 0.1, 1.0)
    one.scrape()
    assert two.scrape()[ROWS] == 12
    del one  # it dies
    assert two.scrape()[ROWS] == 12
    heir = Worker(tmp_path, "0")
    assert heir.scrape()[ROWS] == 12
    heir.load().count_answer(1, 0.1, 1.0)
    assert heir.scrape()[ROWS] == 13
    assert two.scrape()[ROWS] == 13


def test_a_version_stays_counted_while_one_worker_holds_it_and_its_series_end_with_the_last(tmp_path):
    one, two = Worker(tmp_path, "0"), Worker(tmp_path, "1")
    one.load().count_answer(5, 0.1, 1.0)
    two.load().count_answer(7, 0.1, 1.0)
    two.scrape()
    one.scrape()
    one.unload()
    assert one.scrape()[ROWS] == 12
    assert two.scrape()[ROWS] == 12
    two.unload()
    for worker in (two, one):
        assert not [name for name in worker.scrape() if ("model", "m") in name]


def test_a_version_that_comes_back_soon_goes_on_and_later_begins_anew(tmp_path, clock):
    worker = Worker(tmp_path, "0")
    worker.load().count_answer(5, 0.1, 1.0)
    worker.scrape()
    worker.unload()
    worker.scrape()
    clock.now += totals.FORGET_SECONDS - 1
    worker.load()
    assert worker.scrape()[ROWS] == 5
    worker.unload()
    worker.scrape()
    clock.now += totals.FORGET_SECONDS + 1
    worker.scrape()
    worker.load()
    assert worker.scrape()[ROWS] == 0


def test_what_others_hold_is_not_forgotten(tmp_path, clock):
    one, two = Worker(tmp_path, "0"), Worker(tmp_path, "1")
    one.load().count_answer(5, 0.1, 1.0)
    two.load()
    two.scrape()
    one.scrape()
    one.unload()
    for _ in range(3):
        clock.now += totals.FORGET_SECONDS
        two.scrape()
        one.scrape()
    assert two.scrape()[ROWS] == 5


def test_gauges_of_a_silent_worker_are_left_out_and_its_counts_stay(tmp_path, clock):
    one, two = Worker(tmp_path, "0"), Worker(tmp_path, "1")
    one.load().count_answer(5, 0.1, 1.0)
    two.load().count_answer(7, 0.1, 1.0)
    one.scrape()
    clock.now += totals.STALE_SECONDS + 0.1
    seen = two.scrape()
    assert seen[ROWS] == 12
    assert seen[key("crossfade_slots", state="ready")] == 1
    assert key("process_resident_memory_bytes", worker="0") not in seen


def test_restarts_are_told_by_who_starts_the_workers(tmp_path):
    worker = Worker(tmp_path, "0")
    count = ("crossfade_worker_restarts_total", (("reason", "SIGKILL"),), 2.0)
    Board(tmp_path).write("supervisor", Published(counts=(count,)))
    assert worker.scrape()[key("crossfade_worker_restarts_total", reason="SIGKILL")] == 2


def test_a_full_disk_is_said_once_and_the_worker_still_answers(tmp_path, caplog):
    worker = Worker(tmp_path, "0")
    worker.load().count_answer(5, 0.1, 1.0)
    (tmp_path / "0.part").mkdir()
    for _ in range(3):
        assert worker.scrape()[ROWS] == 5
    assert [record.getMessage() for record in caplog.records if "cannot be shared" in record.getMessage()] != []
    assert len(caplog.records) == 1


def test_it_publishes_by_itself_until_it_is_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(totals, "PUBLISH_SECONDS", 0.01)
    one, two = Worker(tmp_path, "0"), Worker(tmp_path, "1")
    counters = one.load()
    one.totals.start()
    two.load()
    counters.count_answer(5, 0.1, 1.0)
    eventually(lambda: two.scrape()[ROWS] == 5)
    one.totals._ending.set()
    counters.count_answer(1, 0.1, 1.0)
    one.totals.close()
    assert two.scrape()[ROWS] == 6


def test_a_fault_does_not_end_the_publishing(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(totals, "PUBLISH_SECONDS", 0.01)
    one, two = Worker(tmp_path, "0"), Worker(tmp_path, "1")
    two.load()
    one.load().errors["4xx"] = None  # nothing that can be counted
    one.totals.start()
    eventually(lambda: "not up to date" in caplog.text)
    one.slots.all()[M].counters.errors["4xx"] = 1
    one.slots.all()[M].counters.count_answer(5, 0.1, 1.0)
    eventually(lambda: two.scrape()[ROWS] == 5)
    one.totals.close()


class NoCountEverFalls(RuleBasedStateMachine):
    """Requests, crashes, loads and scrapes of three workers in any order."""

    folder = None

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=type(self).folder))
        self.workers = {place: Worker(self.folder, place) for place in "012"}
        self.seen = {}
        for worker in self.workers.values():
            worker.load()

    @rule(place=st.sampled_from("012"), rows=st.integers(1, 3), answered=st.booleans())
    def request(self, place, rows, answered):
        slot = self.workers[place].slots.find(*M)
        if slot is None:
            self.workers[place].measurements.unserved.count_error(503)
        elif answered:
            slot.counters.count_batch(rows, 0.01)
            slot.counters.count_answer(rows, 0.02, 1.0)
        else:
            slot.counters.count_error(422)

    @rule(place=st.sampled_from("012"))
    def load_or_unload(self, place):
        worker = self.workers[place]
        if worker.slots.find(*M) is None:
            worker.load()
        else:
            worker.unload()

    @rule(place=st.sampled_from("012"))
    def die(self, place):
        self.workers[place] = Worker(self.folder, place)

    @rule(place=st.sampled_from("012"))
    def publish(self, place):
        self.workers[place].totals._publish()

    @rule(place=st.sampled_from("012"))
    def scrape(self, place):
        seen = {
            name: value
            for name, value in self.workers[place].scrape().items()
            if name[0].startswith("crossfade_") and name[0].endswith(("_total", "_bucket", "_count", "_sum"))
        }
        for name, value in seen.items():
            assert value >= self.seen.get(name, 0.0) - 1e-9, name
        self.seen |= seen

    @invariant()
    def buckets_rise(self):
        if self.seen:
            m = {"model": "m", "version": "1.0.0", "stage": "total"}
            whole = self.seen.get(key("crossfade_inference_duration_seconds_count", **m), 0)
            assert self.seen.get(key("crossfade_inference_duration_seconds_bucket", **m, le="0.025"), 0) == whole


@pytest.fixture(autouse=True)
def _folder(tmp_path):
    NoCountEverFalls.folder = tmp_path


TestNoCountEverFalls = NoCountEverFalls.TestCase
TestNoCountEverFalls.settings = hypothesis_settings(max_examples=40, stateful_step_count=30, deadline=None)

"""What Prometheus sees is what happened."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from crossfade.errors import CrossfadeError
from crossfade.serving.measurements import Measurements
from crossfade.serving.slots import Slot, SlotTable, State
from crossfade.traffic.allocation.decisions import Tally
from crossfade.traffic.snapshot import Snapshot
from tests.serving.fakes import X, ask, leased
from tests.traffic.support import eventually, move, publish_all


@pytest.fixture
def runtime(registry, start, openings):
    publish_all(registry, "m", "1.0.0", "1.0.1")
    openings.plans["1.0.1"] = RuntimeError("broken")
    move(registry, "m", "1.0.0")
    move(registry, "m", "1.0.1", "challenger")
    runtime = start(memory_limit_bytes=10**12)
    runtime.await_ready(10)
    eventually(lambda: len(runtime.slots.all()) == 2 and runtime.slots.find("m", "1.0.1").problem)
    return runtime


def scrape(runtime):
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(runtime.predictions.metrics().decode())
        for sample in family.samples
    }


async def test_requests_rows_batches_and_errors_are_counted(runtime):
    for _ in range(3):
        await ask(runtime, "m")
    for ref, tensors in (("m", {"x": np.zeros((1, 1))}), ("m", {}), ("m:9.9.9", X), ("nobody", X), ("m@challenger", X)):
        with pytest.raises(CrossfadeError):
            await ask(runtime, ref, tensors)
    seen = scrape(runtime)
    m = ("1.0.0", "m")
    assert seen["crossfade_requests_total", "1.0.0", "2xx", "m"] == 3
    assert seen["crossfade_requests_total", "1.0.0", "4xx", "m"] == 2
    assert seen["crossfade_requests_total", "", "", "4xx"] == 2
    assert seen["crossfade_requests_total", "", "", "5xx"] == 1
    assert seen["crossfade_rows_total", *m] == 6
    assert seen["crossfade_inference_duration_seconds_count", *m, "total"] == 3
    assert seen["crossfade_inference_duration_seconds_sum", *m, "total"] > 0
    assert seen["crossfade_batch_rows_count", *m] == 3
    assert seen["crossfade_batch_rows_sum", *m] == 6
    assert seen["crossfade_batch_rows_bucket", *sorted(("2.0", *m))] == 3
    assert seen["crossfade_model_seconds_total", *m] > 0
    assert seen["crossfade_fallbacks_total", *m] == 0
    assert seen["crossfade_requests_in_flight", *m] == 0


async def test_the_state_of_the_process_is_told(runtime):
    with leased(runtime.slots, "m", "1.0.0"):
        seen = scrape(runtime)
    assert seen["crossfade_requests_in_flight", "1.0.0", "m"] == 1
    assert seen["crossfade_slots", "ready"] == 1
    assert seen["crossfade_slots", "failed"] == 1
    assert seen["crossfade_slots", "draining"] == 0
    assert seen["crossfade_abandoned_loads_total",] == 0
    assert seen["crossfade_snapshot_revision",] == runtime.follower.snapshot.revision
    assert seen["crossfade_snapshot_age_seconds",] >= 0
    assert seen["crossfade_load_seconds", "1.0.0", "m"] > 0
    assert seen["crossfade_model_bytes", "1.0.0", "m"] > 0
    assert seen["crossfade_free_bytes",] == 10**12 - seen["crossfade_model_bytes", "1.0.0", "m"]
    assert ("crossfade_slots", "gone") not in seen


def test_every_metric_of_ours_has_the_prefix_and_a_help_text(runtime):
    families = list(text_string_to_metric_families(runtime.predictions.metrics().decode()))
    names = {family.name for family in families}
    assert {name for name in names if not name.startswith(("crossfade_", "process_"))} == set()
    assert all(family.documentation for family in families)
    assert len(families) > 10


async def test_the_stages_of_a_request_are_told_apart(runtime):
    for _ in range(4):
        await ask(runtime, "m")
    seen = scrape(runtime)
    for stage in ("total", "queue", "preprocess", "predict"):
        assert seen["crossfade_inference_duration_seconds_count", "1.0.0", "m", stage] == 4
    whole, *parts = (
        seen["crossfade_inference_duration_seconds_sum", "1.0.0", "m", stage] for stage in ("total", "queue", "predict")
    )
    assert sum(parts) <= whole


def test_a_version_that_has_answered_nothing_has_no_buckets(runtime):
    assert not any(name == "crossfade_inference_duration_seconds_bucket" for name, *_ in scrape(runtime))


def test_twenty_models_with_three_versions_each_stay_under_two_thousand_series():
    slots = SlotTable()
    for model, version in itertools.product(range(20), range(3)):
        slot = Slot(f"m{model}", f"1.0.{version}", "d")
        slot.state = State.READY
        slots.put(slot)
        if version == 0:  # the champion
            slot.counters.count_answer(1, 0.001, 1.0)
            slot.counters.queue_seconds.add(0.001)
            slot.counters.count_batch(1, 0.001)
            slot.counters.count_error(422)
            slot.counters.count_shed("overload", "online")
    nothing = SimpleNamespace(snapshot=Snapshot(), age_seconds=0.0, tally=Tally(), abandoned=0, free_bytes=lambda: 0)
    text = Measurements(slots, nothing, nothing).render().decode()
    assert 1_000 < sum(not line.startswith("#") for line in text.splitlines()) < 2_000


async def test_the_weights_of_a_rollout_are_shown_while_it_is_under_way(trial, registry):
    from crossfade.releases.requests import RolloutRequest
    from crossfade.releases.store import RolloutStore
    from crossfade.releases.subjects.models import ModelSubject

    trial = trial()
    store = RolloutStore(registry.backend.database, {"model": ModelSubject()})
    store.create(RolloutRequest("m", "1.0.1", "fast"))
    trial.runtime.follower.refresh()
    shown = trial.runtime.predictions.metrics().decode()
    assert 'crossfade_rollout_weight{model="m",rollout="m-1",version="1.0.0"} 1.0' in shown
    assert 'crossfade_rollout_weight{model="m",rollout="m-1",version="1.0.1"} 0.0' in shown
    store.abort("m")
    trial.runtime.follower.refresh()
    assert "crossfade_rollout_weight{" not in trial.runtime.predictions.metrics().decode()

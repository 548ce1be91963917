"""What Prometheus sees is what happened."""

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from crossfade.errors import CrossfadeError
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
    assert seen["crossfade_inference_duration_seconds_count", *m] == 3
    assert seen["crossfade_inference_duration_seconds_sum", *m] > 0
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

"""From counters to the statistics extension."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from crossfade.core.tensors import Signature, TensorSpec
from crossfade.errors import SignatureMismatchError
from crossfade.serving.counters import Counters
from crossfade.serving.protocol.configuration import describe_configuration
from crossfade.serving.protocol.statistics import describe_statistics
from tests.serving.fakes import ask
from tests.traffic.support import move, publish_all


def duration(count, ns=0):
    return {"count": count, "ns": ns}


def test_a_version_that_was_never_asked_has_done_nothing():
    entry = describe_statistics("m", "1.0.0", Counters())
    assert (entry["name"], entry["version"]) == ("m", "1.0.0")
    assert entry["last_inference"] == entry["inference_count"] == entry["execution_count"] == 0
    assert set(map(json.dumps, entry["inference_stats"].values())) == {json.dumps(duration(0))}
    assert entry["batch_stats"] == []


def test_two_requests_in_one_batch_both_waited_for_all_of_it():
    counters = Counters()
    counters.count_batch(5, 0.010, requests=2)
    counters.count_answer(2, 0.011, 1.0)
    counters.count_answer(3, 0.012, 1.0)
    entry = describe_statistics("m", "1.0.0", counters)
    assert (entry["inference_count"], entry["execution_count"]) == (5, 1)
    assert entry["inference_stats"] == {
        "success": duration(2, 23_000_000),
        "fail": duration(0),
        "queue": duration(2, 3_000_000),
        "compute_input": duration(2),
        "compute_infer": duration(2, 20_000_000),
        "compute_output": duration(2),
        "cache_hit": duration(0),
        "cache_miss": duration(0),
    }
    sizes = {"compute_input": duration(1), "compute_infer": duration(1, 10_000_000), "compute_output": duration(1)}
    assert entry["batch_stats"] == [{"batch_size": 5, **sizes}]


def test_failures_have_a_duration_of_their_own():
    counters = Counters()
    counters.count_error(422, 0.25)
    counters.count_error(500, 0.5)
    assert describe_statistics("m", "1.0.0", counters)["inference_stats"]["fail"] == duration(2, 750_000_000)


def test_a_batch_that_was_counted_before_its_requests_gives_no_negative_time():
    counters = Counters()
    counters.count_batch(1, 0.5)
    assert describe_statistics("m", "1.0.0", counters)["inference_stats"]["queue"] == duration(0)


def test_the_last_answer_is_told_in_milliseconds_since_1970():
    counters = Counters()
    counters.count_answer(1, 0.001, time.monotonic() - 60)
    assert abs(describe_statistics("m", "1.0.0", counters)["last_inference"] - (time.time() - 60) * 1000) < 5000


async def test_a_running_version_counts_answers_refusals_and_batches(registry, start):
    publish_all(registry, "m", "1.0.0")
    move(registry, "m", "1.0.0")
    runtime = start()
    runtime.await_ready(10)
    (before,) = runtime.predictions.served()
    batches = describe_statistics("m", "1.0.0", before.counters)["execution_count"]
    await ask(runtime, "m")
    await ask(runtime, "m", {"x": np.array([1.0])})
    with pytest.raises(SignatureMismatchError, match="finite"):
        await ask(runtime, "m", {"x": np.array([np.nan])})
    (version,) = runtime.predictions.served()
    entry = describe_statistics("m", "1.0.0", version.counters)
    stats = entry["inference_stats"]
    assert (entry["inference_count"], entry["execution_count"] - batches) == (3, 2)
    assert (stats["success"]["count"], stats["fail"]["count"]) == (2, 1)
    assert 0 < stats["compute_infer"]["ns"] <= stats["success"]["ns"]
    assert stats["fail"]["ns"] > 0
    assert entry["last_inference"] > 1.6e12


def test_the_configuration_leaves_rows_out_of_the_dimensions():
    signature = Signature(
        (TensorSpec("image", "FP16", (-1, 3, -1)), TensorSpec("city", "BYTES", (-1,))),
        (TensorSpec("predict", "BOOL", (-1,)), TensorSpec("predict_proba", "FP64", (-1, 2))),
    )
    column = {"dims": [1], "reshape": {"shape": []}}
    assert describe_configuration("m", "onnx", signature, 100) == {
        "name": "m",
        "platform": "onnx",
        "backend": "crossfade",
        "max_batch_size": 100,
        "input": [
            {"name": "image", "data_type": "TYPE_FP16", "dims": [3, -1]},
            {"name": "city", "data_type": "TYPE_STRING", **column},
        ],
        "output": [
            {"name": "predict", "data_type": "TYPE_BOOL", **column},
            {"name": "predict_proba", "data_type": "TYPE_FP64", "dims": [2]},
        ],
        "dynamic_batching": {"max_queue_delay_microseconds": 0},
    }

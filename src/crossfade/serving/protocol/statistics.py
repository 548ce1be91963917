"""The statistics extension: what a version has done in this process, in the protocol's words.

Crossfade measures a request from its check to its answer, and every call of a model. What is left of a request is the
time it waited, so `queue` holds the check and the joining of batches too, and `compute_input` and `compute_output` are
counted with no time of their own.

Source: https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_statistics.html
"""

from __future__ import annotations

import time
from typing import Any

from crossfade.serving.counters import Counters, Timing


def describe_statistics(model: str, version: str, counters: Counters) -> dict[str, Any]:
    """Return the entry of one version in `model_stats`.

    Example:
        >>> counters = Counters()
        >>> counters.count_batch(8, seconds=0.001, requests=2)
        >>> describe_statistics("lr", "1.0.0", counters)["batch_stats"][0]["compute_infer"]
        {'count': 1, 'ns': 1000000}
    """
    answered, calls = counters.seconds.count, counters.batch_rows.count
    # Batches are counted on another thread, and may be ahead of the requests they answer.
    waiting = max(0.0, counters.seconds.total - counters.model_seconds)
    return {
        "name": model,
        "version": version,
        "last_inference": _milliseconds(counters.answered_at),
        "inference_count": counters.rows,
        "execution_count": calls,
        "inference_stats": {
            "success": _duration(answered, counters.seconds.total),
            "fail": _duration(sum(counters.errors.values()), counters.failed_seconds),
            "queue": _duration(answered, waiting),
            "compute_input": _duration(answered),
            "compute_infer": _duration(answered, counters.model_seconds),
            "compute_output": _duration(answered),
            "cache_hit": _duration(0),
            "cache_miss": _duration(0),
        },
        "batch_stats": [_batch(rows, timing) for rows, timing in sorted(counters.batch_sizes.copy().items())],
    }


def _batch(rows: int, timing: Timing) -> dict[str, Any]:
    return {
        "batch_size": rows,
        "compute_input": _duration(timing.count),
        "compute_infer": _duration(timing.count, timing.seconds),
        "compute_output": _duration(timing.count),
    }


def _duration(count: int, seconds: float = 0.0) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * 1e9)}


def _milliseconds(answered_at: float) -> int:
    """Turn a reading of the performance counter into milliseconds since 1970; 0 stays 0."""
    if not answered_at:
        return 0
    return round((time.time() - (time.monotonic() - answered_at)) * 1e3)

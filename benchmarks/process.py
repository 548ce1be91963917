"""What a process of its own costs a version per batch, beside the same version in this process."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import crossfade
from benchmarks.harness import Result
from benchmarks.model import trained
from crossfade.registry.loading import load_pipeline, read_manifest
from crossfade.registry.publication import trust_policy
from crossfade.serving.isolation.host import isolate
from crossfade.serving.isolation.nursery import open_nursery

CALLS = 2_000
BATCHES = (1, 32)
GOAL_MICROSECONDS = 60.0


def microseconds(calls: list[Callable[[], object]]) -> list[float]:
    """The median of each call, taken in turn, so that all meet the same weather."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(CALLS):
        for call, taken in zip(calls, times, strict=True):
            started = time.perf_counter()
            call()
            taken.append(time.perf_counter() - started)
    return [statistics.median(taken) * 1e6 for taken in times]


def run() -> Iterator[Result]:
    model, x = trained()
    with tempfile.TemporaryDirectory() as folder:
        settings = crossfade.Settings(home=Path(folder))
        with crossfade.open_platform(settings) as platform:
            version = platform.registry.register("lr", model, example=x)
            blobs = platform.registry.backend.blobs
            manifest = read_manifest(blobs, version.manifest_digest, "lr")
            policy = trust_policy(settings.registry)
            nursery = open_nursery(settings)
            isolated = isolate(manifest, blobs, policy, settings.serving, nursery)
            try:
                isolated.start()
                here, there = load_pipeline(manifest, blobs, policy), isolated.pipeline()
                wanted = frozenset({"predict"})
                for rows in BATCHES:
                    batch = {"x": x[:rows]}
                    calls = [lambda p=pipeline, b=batch: p.predict(b, wanted) for pipeline in (here, there)]
                    inside, outside = microseconds(calls)
                    yield Result(f"process_batch_of_{rows}", outside, "us", inside)
                    yield Result(f"process_overhead_of_{rows}", outside - inside, "us", goal=GOAL_MICROSECONDS)
            finally:
                isolated.close()
                nursery.close()

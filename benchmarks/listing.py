"""100,000 versions of one model: listing a page and resolving references, beside a model with 100 versions."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import insert

import crossfade
from benchmarks.harness import Result
from crossfade.platform import Platform
from crossfade.storage import tables

LARGE, SMALL = 100_000, 100
GOAL_RATIO = 3.0
"""A model with a thousand times as many versions answers nearly as fast."""


def fill(platform: Platform, name: str, count: int) -> None:
    """Insert version rows directly: registering that many would measure something else."""
    now = "2026-01-01T00:00:00.000000Z"
    row = {
        "model": name, "manifest_digest": "0" * 64, "flavor": "onnx", "stage": "registered", "size_bytes": 1,
        "evaluation": "{}", "tags": "{}", "created_at": now, "created_by": "benchmark",
    }  # fmt: skip
    versions = (
        row | {"semver": f"{n // 1000}.{n // 10 % 100}.{n % 10}", "number": n + 1}
        | {"major": n // 1000, "minor": n // 10 % 100, "patch": n % 10}
        for n in range(count)
    )  # fmt: skip
    with platform.database.write() as connection:
        connection.execute(insert(tables.models), {"name": name, "created_at": now, "created_by": "benchmark"})
        connection.execute(insert(tables.versions), list(versions))
        connection.execute(
            insert(tables.aliases),
            {
                "model": name,
                "alias": "champion",
                "semver": f"{(count - 1) // 1000}.{(count - 1) // 10 % 100}.9",
                "moved_at": now,
            },
        )


def seconds(call: Callable[[], object]) -> float:
    times = []
    for _ in range(50):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def run() -> Iterator[Result]:
    with (
        tempfile.TemporaryDirectory() as folder,
        crossfade.open_platform(crossfade.Settings(home=Path(folder))) as platform,
    ):
        fill(platform, "large", LARGE)
        fill(platform, "small", SMALL)
        registry = platform.registry
        cursor = registry.list_versions("large", limit=1000).next_cursor
        for _ in range(49):
            cursor = registry.list_versions("large", limit=1000, cursor=cursor).next_cursor
        small_page = seconds(lambda: registry.list_versions("small", limit=50)) * 1e3
        page = seconds(lambda: registry.list_versions("large", limit=50)) * 1e3
        deep = seconds(lambda: registry.list_versions("large", limit=50, cursor=cursor)) * 1e3
        yield Result("list_first_page_of_100k", page, "ms", small_page, GOAL_RATIO)
        yield Result("list_page_after_50k", deep, "ms", small_page, GOAL_RATIO)
        for kind, reference in {"version": ":0.5.5", "alias": "@champion", "number": "/50"}.items():
            small = seconds(
                lambda ref=f"models:/small{reference}" if kind == "number" else f"small{reference}": registry.resolve(
                    ref
                )
            )
            large = seconds(
                lambda ref=f"models:/large{reference}" if kind == "number" else f"large{reference}": registry.resolve(
                    ref
                )
            )
            yield Result(f"resolve_{kind}_of_100k", large * 1e3, "ms", small * 1e3, GOAL_RATIO)

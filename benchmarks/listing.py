"""100,000 versions of one model: listing, finding and not finding, beside a model with 100 versions.

SQLite by default; `CROSSFADE_BENCH_POSTGRES` names an empty PostgreSQL database to measure instead.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import insert

import crossfade
from benchmarks.harness import Result
from crossfade.errors import NotFoundError
from crossfade.platform import Platform
from crossfade.registry.registry import Registry
from crossfade.settings import StorageSettings
from crossfade.storage import tables

LARGE, SMALL = 100_000, 100
GOAL_RATIO = 3.0
"""A model with a thousand times as many versions answers nearly as fast."""

Question = Callable[[Registry, str], object]

QUESTIONS: dict[str, Question] = {
    "model": lambda registry, name: registry.model(name),
    "list_first_page": lambda registry, name: registry.list_versions(name, limit=50),
    "list_major_line": lambda registry, name: registry.list_versions(name, prefix="0.", limit=50),
    "list_minor_line": lambda registry, name: registry.list_versions(name, prefix="0.5.", limit=50),
    "list_missing_line": lambda registry, name: registry.list_versions(name, prefix="999.", limit=50),
    "resolve_version": lambda registry, name: registry.resolve(f"{name}:0.5.5"),
    "resolve_alias": lambda registry, name: registry.resolve(f"{name}@champion"),
    "resolve_number": lambda registry, name: registry.resolve(f"models:/{name}/50"),
    "miss_version": lambda registry, name: missed(registry, f"{name}:999.0.0"),
    "miss_alias": lambda registry, name: missed(registry, f"{name}@nobody"),
}
"""What is asked of both models."""


def missed(registry: Registry, ref: str) -> None:
    with contextlib.suppress(NotFoundError):
        registry.resolve(ref)


def fill(platform: Platform, name: str, count: int) -> None:
    """Insert version rows directly: registering that many would measure something else."""
    now = "2026-01-01T00:00:00.000000Z"
    model = {"name": name, "created_at": now, "created_by": "benchmark"}
    row = {
        "model": name, "manifest_digest": "0" * 64, "flavor": "onnx", "stage": "registered", "size_bytes": 1,
        "evaluation": "{}", "tags": "{}", "created_at": now, "created_by": "benchmark",
    }  # fmt: skip
    versions = (
        row | {"semver": f"{n // 1000}.{n // 10 % 100}.{n % 10}", "number": n + 1}
        | {"major": n // 1000, "minor": n // 10 % 100, "patch": n % 10}
        for n in range(count)
    )  # fmt: skip
    newest = f"{(count - 1) // 1000}.{(count - 1) // 10 % 100}.9"
    with platform.database.write() as connection:
        connection.execute(insert(tables.models), model)
        connection.execute(insert(tables.versions), list(versions))
        connection.execute(
            insert(tables.aliases), {"model": name, "alias": "champion", "semver": newest, "moved_at": now}
        )


def milliseconds(call: Callable[[], object]) -> float:
    times = []
    for _ in range(50):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3


def measured(platform: Platform) -> Iterator[Result]:
    registry = platform.registry
    for kind, ask in QUESTIONS.items():
        small, large = (milliseconds(lambda name=name, ask=ask: ask(registry, name)) for name in ("small", "large"))
        yield Result(f"{kind}_of_100k", large, "ms", small, GOAL_RATIO)
    cursor = ""
    for _ in range(50):
        cursor = registry.list_versions("large", limit=1000, cursor=cursor).next_cursor
    first = milliseconds(lambda: registry.list_versions("small", limit=50))
    deep = milliseconds(lambda: registry.list_versions("large", limit=50, cursor=cursor))
    yield Result("list_page_after_50k", deep, "ms", first, GOAL_RATIO)


def run() -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as folder:
        storage = StorageSettings(database_url=os.environ.get("CROSSFADE_BENCH_POSTGRES", ""))
        with crossfade.open_platform(crossfade.Settings(home=Path(folder), storage=storage)) as platform:
            fill(platform, "large", LARGE)
            fill(platform, "small", SMALL)
            if platform.database.dialect == "postgresql":  # which otherwise plans without knowing what was just loaded
                with platform.database.write() as connection:
                    connection.exec_driver_sql("ANALYZE")
            yield from measured(platform)

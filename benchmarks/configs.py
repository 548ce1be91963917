"""Reading a config from the memory of a program, beside a lookup in a dict; in a server; and telling all who wait."""

from __future__ import annotations

import asyncio
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.harness import Result
from crossfade.client import Client
from crossfade.configs.active import ActiveConfig, Published, PublishedVersion
from crossfade.core.hashing import sha256
from crossfade.platform import Platform, open_platform
from crossfade.settings import ConfigSettings, ServingSettings, Settings
from crossfade.traffic.allocation.allocations import Allocations
from crossfade.traffic.allocation.specs import AllocationSpec, VariantSpec
from crossfade.traffic.routing import ExperimentRoute
from crossfade.web.app import create_app
from crossfade.web.inprocess import InProcessTransport

DOCUMENT = {"retries": {"min": 1, "max": 5}, "timeout_seconds": 2.5, "hosts": [f"host-{n}" for n in range(20)]}
WAITING = 1_000
GOAL_READ, GOAL_RATIO, GOAL_ROLLOUT = 0.2, 5.0, 3.0
"""Microseconds, and how much longer than a dict."""


def microseconds(call: Callable[[], object], repeat: int = 15, number: int = 20_000) -> float:
    """The best of several rounds: what it costs when nobody else wants the processor."""
    return min(timeit.repeat(call, number=number, repeat=repeat)) / number * 1e6


def rolled_out() -> ActiveConfig:
    both = (VariantSpec("old", 0.9), VariantSpec("new", 0.1))
    allocation = Allocations().place(AllocationSpec("rollout", both)).experiments[0]
    route = ExperimentRoute(allocation, versions={"old": "1", "new": "2"})
    documents = ('{"max":1}', '{"max":2}')
    versions = tuple(PublishedVersion(n, sha256(text.encode()), text) for n, text in enumerate(documents, 1))
    return ActiveConfig(Published("limits", 1, 1, versions, route))


def activate(platform: Platform, document: dict[str, object]) -> None:
    verbs = platform.configs.verbs
    number = verbs.draft("limits", document)[0].number
    verbs.validate("limits", number)
    verbs.approve("limits", number)
    verbs.activate("limits", number)


async def told(platform: Platform) -> tuple[float, float]:
    """Seconds from a change until all who wait know of it, and of processor time meanwhile."""
    readers = platform.configs.readers
    etag = readers.read("limits").etag
    waiting = [asyncio.create_task(readers.wait("limits", (etag,), seconds=60)) for _ in range(WAITING)]
    await asyncio.sleep(0)  # each of them begins to wait
    assert readers.waiting == WAITING
    await asyncio.to_thread(activate, platform, {**DOCUMENT, "more": True})
    began, busy = time.perf_counter(), time.process_time()
    await asyncio.gather(*waiting)
    return time.perf_counter() - began, time.process_time() - busy


def run() -> Iterator[Result]:
    plain = {"limits": DOCUMENT}
    lookup = microseconds(lambda: plain["limits"]["retries"])
    quick = ServingSettings(snapshot_poll_seconds=0.05)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            home=Path(folder) / "home", serving=quick, configs=ConfigSettings(four_eyes=False, max_waiting=WAITING)
        )
        with open_platform(settings, serve=True) as platform:
            activate(platform, DOCUMENT)
            platform.configs.readers.refresh()
            transport = InProcessTransport(create_app(platform))
            with Client("http://localhost", transport=transport) as client:
                limits = client.config("limits", cache=Path(folder), follow=False)
                read = microseconds(lambda: limits.value["retries"])
                yield Result("config_read_from_sdk", read, "us", goal=GOAL_READ)
                yield Result("config_read_beside_dict", read, "us", lookup, GOAL_RATIO)
            yield Result("config_read_in_server", microseconds(lambda: platform.configs.readers.read("limits")), "us")
            config = rolled_out()
            yield Result("config_read_in_rollout", microseconds(lambda: config.read("u-1")), "us", goal=GOAL_ROLLOUT)
            seconds, busy = asyncio.run(told(platform))
            yield Result(f"config_news_to_{WAITING}_waiting", seconds * 1e3, "ms")
            yield Result("config_news_processor_each", busy / WAITING * 1e6, "us")
            transport.close()

"""Redis and PostgreSQL behind connections that misbehave: a warm server answers predictions as if nothing happened."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from crossfade.platform import open_platform
from crossfade.settings import Settings, StorageSettings
from tests import control
from tests.faults import FAULTS, Fault, FaultProxy
from tests.stress.steady import SteadyLoad

PATH = "/v2/models/tiny/infer"
SUCCESS = 0.9999
RATE = 100.0


@dataclass
class Outage:
    """What clients of the server noticed while one of its servers was out of order."""

    target: str
    fault: str
    requests: int = 0
    failures: int = 0
    p99_seconds: float = 0.0
    violations: list[str] = field(default_factory=list)


@contextmanager
def faulty_server(home: Path, postgres_url: str, redis_url: str) -> Iterator[tuple[int, dict[str, FaultProxy]]]:
    """Run a server whose database and shared cache are reached by way of proxies; yields its port, and the proxies."""
    with FaultProxy(postgres_url) as database, FaultProxy(redis_url) as cache:
        settings = Settings(home=home, storage=StorageSettings(database_url=database.url))
        with open_platform(settings) as platform:
            client = control.local_client(platform)
            control.register(client, home, "1.0.0")
            client.move_alias("tiny", "champion", "1.0.0")
        env = {
            "CROSSFADE_STORAGE__DATABASE_URL": database.url,
            "CROSSFADE_CACHE__MODE": "on",
            "CROSSFADE_CACHE__REDIS_URL": cache.url,
            "CROSSFADE_SERVING__DRAIN_SECONDS": "0.1",
        }
        with control.running_server(home, **env) as server:
            yield int(server.url.rpartition(":")[2]), {"postgres": database, "redis": cache}
            for proxy in (database, cache):
                proxy.set(Fault())


def body_of(number: int) -> bytes:
    """Every third question has been asked before."""
    value = float(number if number % 3 else number // 30)
    return b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[%f,1.0]}]}' % value


def outages(port: int, proxies: dict[str, FaultProxy], seconds: float) -> Iterator[Outage]:
    """Let each server misbehave in each way for some seconds, then recover."""
    for target, proxy in proxies.items():
        for name, fault in FAULTS.items():
            outcome = Outage(target, name)
            with SteadyLoad(port, PATH, body_of, RATE) as load:
                time.sleep(seconds / 4)
                proxy.set(fault)
                time.sleep(seconds)
                proxy.set(Fault())
                time.sleep(seconds / 4)
            outcome.requests, outcome.failures = load.sent, load.failures
            outcome.p99_seconds = round(load.p99_seconds, 4)
            if load.failures > (1 - SUCCESS) * load.sent:
                outcome.violations.append(f"{load.failures} of {load.sent} predictions failed")
            yield outcome

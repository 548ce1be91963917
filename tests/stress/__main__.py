"""`make stress`: what a test has no time for; `ARGS="swaps"` runs one. Fails when a promise broke.

- swaps: 200 hot swaps under load, 20 of them to broken or slow versions.
- rollouts: 100 rollouts to each of their ends under 500 requests a second; `CROSSFADE_STRESS_RATE` sets another rate.
- faults: Redis and PostgreSQL behind connections that misbehave.
- slow: 500 clients that send slowly, nothing, or without end.
- poison: models that crash, hang, leak and flood, beside one that does not.
- ledger: 1,000 kills of a process that records events, and 100 with PostgreSQL.
- overload: three and ten times the load that the server can bear, with a deadline of 250 ms.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import crossfade
from benchmarks.harness import free_port, server
from crossfade.platform import Platform
from tests import servers
from tests.stress import faulty, overload, poisoned, slow_clients
from tests.stress import rollouts as ends
from tests.stress.swaps import campaign, register, settings


@contextmanager
def serving(prepare: Callable[[Platform], None], **env: str) -> Iterator[tuple[Platform, int, int]]:
    """Serve what `prepare` registers; yields the platform, the port and the server's pid."""
    with tempfile.TemporaryDirectory() as folder:
        home, port = Path(folder, "home"), free_port()
        env |= {"CROSSFADE_HOME": str(home), "CROSSFADE_REGISTRY__ALLOW_CODE_MODELS": "true"}
        with crossfade.open_platform(settings(home)) as platform:
            prepare(platform)
            url = f"http://127.0.0.1:{port}/readyz"
            with server(["-m", "crossfade", "serve", "--port", str(port)], url, env=env) as pid:
                yield platform, port, pid


def swaps(count: int = 200, broken: int = 20, rate: float = 200.0) -> bool:
    """Swap the champion under load; tells whether every promise was kept."""

    def prepare(platform: Platform) -> None:
        register(platform, 0)
        platform.switch.move("m", "champion", "1.0.0", reason="start")

    with serving(prepare) as (platform, port, _):
        outcome = campaign(platform, f"http://127.0.0.1:{port}", swaps=count, broken=broken, rate=rate)
    print(json.dumps(asdict(outcome) | {"moved": len(outcome.moved), "refused": len(outcome.refused)}))
    return not outcome.violations


def rollouts(count: int = 100, workers: int = 4) -> bool:
    """Roll versions out under load; tells whether every promise was kept."""
    rate = float(os.environ.get("CROSSFADE_STRESS_RATE", "500"))

    def prepare(platform: Platform) -> None:
        register(platform, 0)
        platform.switch.move("m", "champion", "1.0.0", reason="start")

    with serving(prepare, CROSSFADE_SERVING__WORKERS=str(workers)) as (platform, port, _):
        outcome = ends.campaign(platform, f"http://127.0.0.1:{port}", count=count, rate=rate)
    per_second = outcome.requests / outcome.seconds
    print(json.dumps(asdict(outcome) | {"rate": rate, "requests_per_second": round(per_second, 1)}))
    return not outcome.violations


def overloads(seconds: float = 10.0) -> bool:
    """Ask for more than the server can bear; tells whether every promise was kept."""

    def prepare(platform: Platform) -> None:
        platform.registry.register("busy", overload.Steady(), example=[[1.0, 2.0]], version="1.0.0")
        platform.switch.move("busy", "champion", "1.0.0", reason="start")

    with serving(prepare) as (_, port, pid):
        capacity = overload.capacity_of(port, seconds / 2)
        print(json.dumps({"capacity_per_second": round(capacity, 1)}))
        outcomes = [overload.overload(port, pid, load=load, capacity=capacity, seconds=seconds) for load in (3, 10)]
    for outcome in outcomes:
        print(json.dumps(asdict(outcome)))
    return not any(outcome.violations for outcome in outcomes)


def poisons(most_times_p99: float = 1.5) -> bool:
    """Let models do their worst beside another one; tells whether every promise was kept."""
    names = list(poisoned.MODELS)
    with serving(lambda platform: poisoned.prepare(platform, names)) as (_, port, _):
        calm = poisoned.calm(port, 10.0)
        outcomes = [poisoned.poison_neighbourhood(port, name, calm) for name in names]
    for outcome in outcomes:
        times = outcome.p99_seconds / calm
        if times > most_times_p99:
            outcome.violations.append(f"the 99th percentile of the neighbour was {times:.1f} times the calm one")
        print(json.dumps(asdict(outcome)))
    return not any(outcome.violations for outcome in outcomes)


def faults(seconds: float = 8.0) -> bool:
    """Let database and shared cache misbehave under load; tells whether every promise was kept."""
    with (
        tempfile.TemporaryDirectory() as folder,
        servers.postgres() as postgres,
        servers.redis() as redis,
        faulty.faulty_server(Path(folder), postgres, redis) as (port, proxies),
    ):
        outcomes = list(faulty.outages(port, proxies, seconds))
    for outcome in outcomes:
        print(json.dumps(asdict(outcome)))
    return not any(outcome.violations for outcome in outcomes)


def slow(clients: int = 500, most_times_p99: float = 1.5) -> bool:
    """Let hundreds of clients misbehave; tells whether every promise was kept."""
    with serving(lambda platform: poisoned.prepare(platform, [])) as (_, port, pid):
        outcome = slow_clients.besiege(port, pid, clients=clients, seconds=40.0)
    if outcome.p99_seconds > most_times_p99 * outcome.calm_p99_seconds:
        times = outcome.p99_seconds / outcome.calm_p99_seconds
        outcome.violations.append(f"the 99th percentile of good clients was {times:.1f} times the calm one")
    print(json.dumps(asdict(outcome)))
    return not outcome.violations


def ledger(count: int = 1_000) -> bool:
    """Kill a process that records events, again and again; tells whether every promise was kept."""
    kept = True
    with tempfile.TemporaryDirectory() as folder, servers.postgres() as postgres:
        for name, url, kills in (("sqlite", f"sqlite:///{folder}/crossfade.db", count), ("pg", postgres, count // 10)):
            home = Path(folder, name)
            home.mkdir()
            # a process without threads, because it forks
            command = [sys.executable, "-m", "tests.stress.kills", url, str(home), "--kills", str(kills)]
            kept &= subprocess.run(command, check=False).returncode == 0
    return kept


CAMPAIGNS = {
    "ledger": ledger,
    "swaps": swaps,
    "rollouts": rollouts,
    "overload": overloads,
    "poison": poisons,
    "faults": faults,
    "slow": slow,
}

if __name__ == "__main__":
    kept = [CAMPAIGNS[name]() for name in sys.argv[1:] or CAMPAIGNS]
    sys.exit(not all(kept))

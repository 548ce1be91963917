"""What rollouts cost, and how fast they come back.

- From the decision to roll back to the last answer of the new version, over all of four worker processes.
- From a change to its snapshot in the last of eight processes that poll the database.
- CPU of what goes on by itself: the report of a process each second, and a turn of the controller.
- CPU that a rollout adds to a prediction: the same model, half of the requests answered by its other version.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import crossfade
from benchmarks.harness import Result, cpu_seconds, crossfade_server, family_of, free_port, server
from benchmarks.load import http_request, quantile
from benchmarks.model import question, trained
from benchmarks.predict import measure
from benchmarks.switch import PATIENCE_SECONDS, Watcher, two_models, watching
from crossfade.core.clock import utc_now
from crossfade.platform import Platform
from crossfade.registry.requests import ProcessStatus
from crossfade.releases.checks.spec import ErrorRateCheck, ThresholdCheck
from crossfade.releases.plan import RolloutPlan, Step
from crossfade.releases.requests import RolloutRequest
from crossfade.releases.rollout import RolloutStatus
from crossfade.serving.counters import Counters
from crossfade.serving.health import HealthReporter
from crossfade.settings import StorageSettings
from crossfade.traffic.health import Counts
from tests import servers

WORKERS, FOLLOWERS = 4, 8
ROUNDS, CHANGES = 5, 100
TURNS = 200
GOAL_ROLLBACK_SECONDS = 1.0
GOAL_PROPAGATION_SECONDS = 0.25
GOAL_ADDED = 1.3
QUIET_SECONDS = 10.0
FOREVER = 86_400.0
HALF = RolloutPlan((Step(0.5, hold_seconds=FOREVER), Step(1.0)), checks=(ErrorRateCheck("errors", alpha=1e-9),))
"""Half of the traffic until somebody ends it."""
DOOMED = RolloutPlan(
    HALF.steps, checks=(ThresholdCheck("p50", series="p50_seconds", maximum=0.0, interval_seconds=1.0),)
)
"""Nobody is that fast: rolled back as soon as it is looked at."""


def prepare(platform: Platform) -> np.ndarray:
    """Register the two versions of `lr`, and make the first one champion; returns its rows."""
    x, models = two_models(np.random.default_rng(7))
    for patch, model in enumerate(models):
        platform.registry.register("lr", model, example=x, version=f"1.0.{patch}")
    platform.switch.move("lr", "champion", "1.0.0", reason="benchmark")
    return x


def begin(platform: Platform, plan: RolloutPlan, subject: str = "lr") -> str:
    """Begin a rollout that may have been rolled back before, and wait until it has its first step."""
    wanted = RolloutRequest(subject, "1.0.1", plan, reason="benchmark", override_latch=True)
    name = platform.rollouts.create(wanted).name
    await_true(lambda: platform.rollouts.find(name).status is not RolloutStatus.PREPARING, "it was not prepared")
    return name


def await_true(condition: Callable[[], bool], problem: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(problem)
        time.sleep(0.005)


# --- the way back ---


def last_answers(platform: Platform, watchers: list[Watcher], name: str, decide: Callable[[], float]) -> float:
    """Return how long after a decision the last worker gave its last answer by the new version."""
    await_true(lambda: all("1.0.1" in watcher.last_seen for watcher in watchers), "the new version answers nobody")
    decided_at = decide()
    await_true(lambda: not platform.rollouts.find(name).active, "it is still under way")
    time.sleep(2 * GOAL_ROLLBACK_SECONDS)
    failures = [watcher.failure for watcher in watchers if watcher.failure]
    if failures:
        raise RuntimeError("a worker does not answer") from failures[0]
    return max(watcher.last_seen["1.0.1"] for watcher in watchers) - decided_at


def rollbacks() -> Iterator[Result]:
    by_person, by_check = [], []
    with tempfile.TemporaryDirectory() as folder:
        home, port = Path(folder, "home"), free_port()
        with crossfade.open_platform(crossfade.Settings(home=home)) as platform:
            body = json.dumps(question(prepare(platform)[0].tolist())).encode()
            command = ["-m", "crossfade", "serve", "--port", str(port), "--workers", str(WORKERS)]
            url = f"http://127.0.0.1:{port}/readyz"
            with server(command, url, env={"CROSSFADE_HOME": str(home)}) as pid:
                await_true(lambda: len(platform.fleet.live()) == WORKERS, "not every worker is there")
                workers = {process.pid for process in platform.fleet.live()} & set(family_of(pid))
                with watching(port, workers, body) as watchers:
                    for plan, found in [(HALF, by_person), (DOOMED, by_check)] * ROUNDS:
                        for watcher in watchers:
                            watcher.forget()
                        name = begin(platform, plan)
                        decide = decided_by_person if plan is HALF else decided_by_check
                        found.append(last_answers(platform, watchers, name, lambda d=decide, n=name: d(platform, n)))
    yield Result("rollback_by_person_4_workers", statistics.median(by_person), "s", goal=GOAL_ROLLBACK_SECONDS)
    yield Result("rollback_by_check_4_workers", statistics.median(by_check), "s", goal=GOAL_ROLLBACK_SECONDS)
    yield Result("rollback_worst_4_workers", max(by_person + by_check), "s", goal=GOAL_ROLLBACK_SECONDS)


def decided_by_person(platform: Platform, name: str) -> float:
    decided_at = time.perf_counter()
    platform.rollouts.rollback(name, reason="benchmark")
    return decided_at


def decided_by_check(platform: Platform, name: str) -> float:
    await_true(lambda: not platform.rollouts.find(name).active, "it was not rolled back")
    decided = platform.rollouts.history(name)[-1].at  # taken before the change is written
    return time.perf_counter() - (utc_now() - decided).total_seconds()


# --- snapshots ---


@contextmanager
def followers(home: Path, url: str) -> Iterator[list[subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "benchmarks.follower", str(home), url]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(FOLLOWERS)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("a follower did not start")
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def propagation(name: str, home: Path, url: str) -> Iterator[Result]:
    """Change a rollout over and over while eight processes follow."""
    settings = crossfade.Settings(home=home, storage=StorageSettings(database_url=url))
    changed: dict[int, float] = {}
    takes = []
    with crossfade.open_platform(settings) as platform:
        prepare(platform)
        rollout = platform.rollouts.create(RolloutRequest("lr", "1.0.1", HALF, reason="benchmark")).name
        with followers(home, url) as processes:
            for turn in range(CHANGES):
                before = time.perf_counter()
                change = platform.rollouts.resume if turn % 2 else platform.rollouts.pause
                change(rollout, reason="benchmark")
                done = time.perf_counter()
                takes.append(done - before)
                changed[platform.database.revision()] = done
                time.sleep(0.15)
            time.sleep(1.0)
            seen = [json.loads(process.communicate("")[0]) for process in processes]
    # whoever sees it before the call has returned is not late at all
    late = [max(0.0, first_seen(when, revision) - at) for when in seen for revision, at in changed.items()]
    yield Result(f"rollout_change_{name}", statistics.median(takes), "s")
    yield Result(f"snapshot_{name}_p50", quantile(late, 0.5), "s", settings.serving.snapshot_poll_seconds)
    yield Result(f"snapshot_{name}_p99", quantile(late, 0.99), "s", settings.serving.snapshot_poll_seconds, 2.5)


def first_seen(seen: dict[str, float], revision: int) -> float:
    """Return when a process had a change: one that is late goes on to a newer revision at once."""
    return min(at for number, at in seen.items() if int(number) >= revision)


# --- what goes on by itself ---


class _Slot:
    """A version that is served, as the reporter sees it."""

    waiting, size_bytes, cpu_seconds = 0, 0, 0.0

    def __init__(self, version: str) -> None:
        self.name, self.version = "lr", version
        self.counters, self.shadows, self.pinned = Counters(), Counters(), Counters()

    def answer(self, requests: int) -> None:
        for number in range(requests):
            self.counters.count_answer(1, 0.002 * (1 + number % 7), 0.0)


class _Slots(dict[str, _Slot]):
    all = dict.copy


def by_itself() -> Iterator[Result]:
    """CPU of a turn of the reporter and of the controller, as a part of a processor."""
    with (
        tempfile.TemporaryDirectory() as folder,
        crossfade.open_platform(crossfade.Settings(home=Path(folder))) as platform,
    ):
        prepare(platform)
        per_second = 1 / platform.settings.releases.poll_seconds
        controller = platform.controller()
        idle = cpu_of(controller.turn)
        yield Result("controller_idle", 100 * idle * per_second, "% of a processor", goal=1.0)
        slots = _Slots(old=_Slot("1.0.0"), new=_Slot("1.0.1"))
        reporter = HealthReporter(slots, {}, platform.health, "a")  # type: ignore[arg-type]
        quiet = cpu_of(reporter.turn)
        yield Result("reporter_idle", 100 * quiet, "% of a processor", goal=1.0)

        def report() -> None:
            reporter.turn()

        def asked() -> None:
            for slot in slots.values():
                slot.answer(250)

        yield Result("reporter_at_500_a_second", 100 * cpu_of(report, asked), "% of a processor", goal=1.0)
        platform.rollouts.create(RolloutRequest("lr", "1.0.1", HALF, reason="benchmark"))
        follow(platform, controller)
        yield Result(
            "controller_under_way",
            100 * cpu_of(controller.turn, lambda: reports(platform)) * per_second,
            "% of a processor",
            goal=5.0,
        )
        controller.close()


def follow(platform: Platform, controller: object) -> None:
    """Let four processes that do not exist follow, so that the rollout gets its first step."""
    now = utc_now()
    slots = {f"lr:1.0.{patch}": ("ready", "") for patch in range(2)}
    for _ in range(2):
        for number in range(WORKERS):
            revision = platform.database.revision()
            platform.fleet.report(ProcessStatus(f"p{number}", "host", number, now, now, revision, slots))
        controller.turn()  # type: ignore[attr-defined]


def reports(platform: Platform) -> None:
    """Let each of four processes report half a second of 500 requests a second, some of which failed."""
    for number in range(WORKERS):
        counts = [Counts(requests=31, errors=1, latency=dict.fromkeys(range(60, 110, 10), 6)) for _ in range(2)]
        now_us = int(utc_now().timestamp() * 1e6)
        platform.health.write(f"p{number}", now_us, {1: {"lr": dict(zip(("1.0.0", "1.0.1"), counts, strict=True))}})


def cpu_of(action: Callable[[], object], before: Callable[[], object] = lambda: None) -> float:
    """Return the CPU seconds of an action, the median."""
    taken = []
    for _ in range(TURNS):
        before()
        started = time.process_time()
        action()
        taken.append(time.process_time() - started)
    return statistics.median(taken)


# --- predictions ---


def predictions() -> Iterator[Result]:
    """CPU of a prediction with and without a rollout of its model, and of a server that nobody asks."""
    model, x = trained()
    body = json.dumps(question(x[0].tolist())).encode()
    plain: list[float] = []
    rolled: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "home")
        with crossfade.open_platform(crossfade.Settings(home=home)) as platform:
            for name in ("plain", "rolled"):
                for patch in range(2):
                    tags = {"patch": str(patch)}
                    platform.registry.register(name, model, example=x, version=f"1.0.{patch}", tags=tags)
                platform.switch.move(name, "champion", "1.0.0", reason="benchmark")
            with crossfade_server(home) as (port, pid):
                without = share_of_cpu(pid)
                begin(platform, HALF, "rolled")
                under_way = share_of_cpu(pid)
                requests = [[http_request(port, f"/v2/models/{name}/infer", body)] for name in ("plain", "rolled")]
                for _ in range(ROUNDS):
                    for request, found in zip(requests, (plain, rolled), strict=True):
                        found.append(measure(port, pid, *request)[0])
    yield Result("server_idle", 100 * under_way, "% of a processor", 100 * without)
    cpu, alone = statistics.median(rolled), statistics.median(plain)
    yield Result("prediction_under_way_cpu", cpu, "us", alone, GOAL_ADDED)


def share_of_cpu(pid: int) -> float:
    before = cpu_seconds(pid)
    time.sleep(QUIET_SECONDS)
    return (cpu_seconds(pid) - before) / QUIET_SECONDS


def run() -> Iterator[Result]:
    yield from rollbacks()
    with tempfile.TemporaryDirectory() as folder:
        yield from propagation("sqlite", Path(folder), f"sqlite:///{folder}/crossfade.db")
    try:
        with tempfile.TemporaryDirectory() as folder, servers.postgres(durable=True) as url:
            yield from propagation("postgres", Path(folder), url)
    except pytest.skip.Exception as absent:
        print(f"not measured: {absent}", file=sys.stderr)
    yield from by_itself()
    yield from predictions()

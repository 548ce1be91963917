"""Deployments of real processes: how a version runs becomes another while it answers, and nothing makes it silent."""

import asyncio
import os
import signal
import threading
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from crossfade.core.clock import utc_now
from crossfade.errors import CrossfadeError, ModelCrashedError
from crossfade.registry.registry import Registry
from crossfade.releases.deployment import DeploymentSpec
from crossfade.releases.deployment_store import DeploymentStore
from crossfade.releases.probation import Verdict, judge
from crossfade.serving.replicas.local import fitting
from crossfade.serving.runtime import ServingRuntime
from crossfade.settings import IsolationSettings, RegistrySettings, Settings
from crossfade.traffic.deployed import Probe, ReplicaRange, Resources
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.health import HealthLog
from tests.serving import fakes
from tests.serving.isolation import poison
from tests.serving.isolation.poison import BAD
from tests.traffic.support import FAST, eventually, move, open_registry

TRUSTING = RegistrySettings(allow_code_models=True)
FINE = {"x": np.array([1.0])}
PROBE = Probe(interval_seconds=0.3, timeout_seconds=0.3, failure_threshold=2)


class Hoarder(poison.Harmless):
    """Takes 256 MiB when a row is BAD."""

    def worst(self):
        self.hoard = np.ones(2**25)


class Counting(poison.Harmless):
    """Answers how many processors it may use; one, where it is packed."""

    def predict(self, inputs):
        if Path.cwd() != Path("/"):
            return np.ones(len(inputs["x"]))
        return np.full(len(inputs["x"]), float(len(os.sched_getaffinity(0))))


class Served:
    """One serving process with a model `m`, and its deployments."""

    def __init__(self, home, url):
        registry = open_registry(home, url)
        self.registry = Registry(registry.backend, TRUSTING)
        self.database = registry.backend.database
        isolation = IsolationSettings(memory_bytes=2**30)
        self.settings = Settings(home=home, registry=TRUSTING, serving=FAST, isolation=isolation)
        self.fleet = Fleet(self.database, FAST)
        self.store = DeploymentStore(
            self.registry, self.database, self.fleet, HealthLog(self.database), lambda terms: terms.replicas.most
        )
        self.runtime = None

    def register(self, model, version="1.0.0", *, champion=True, example=FINE):
        self.registry.register("m", model, version=version, example=example)
        if champion:
            move(self.registry, "m", version)

    def start(self):
        self.runtime = ServingRuntime(self.registry.backend, self.database, self.settings)
        self.runtime.start()
        self.runtime.await_ready(30)

    def deploy(self, version="champion", name="web", **options):
        options = {"replicas": ReplicaRange(2), "probe": PROBE} | options
        self.store.deploy(DeploymentSpec(name, "m", version, **options))

    def report(self, name="web"):
        generation = self.store.find(name).generation
        found = [report for report in self.runtime._loader.deployments() if report.name == name]
        return next((report for report in found if report.generation == generation), None)

    def await_ready(self, name="web"):
        eventually(lambda: (found := self.report(name)) is not None and found.complete, 30)

    def slot(self, version="1.0.0"):
        return self.runtime.slots.find("m", version)

    def pids(self, version="1.0.0"):
        return [lane.replica.pid for lane in self.slot(version).replicas.lanes if lane.answers]

    def ask(self, tensors=FINE, ref="m"):
        return asyncio.run(fakes.ask(self.runtime, ref, tensors)).outputs["predict"].tolist()


@pytest.fixture
def served(tmp_path, sqlite_url):
    served = Served(tmp_path, sqlite_url)
    yield served
    if served.runtime is not None:
        served.runtime.close()
    served.database.close()


def is_alive(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has ended, perhaps while it was looked at
        return False


def test_a_version_gets_replicas_and_loses_them_while_it_answers(served):
    served.register(poison.Harmless())
    served.start()
    alone = served.slot().isolated.pid
    stop, outcomes = threading.Event(), []

    async def load():
        while not stop.is_set():
            outcomes.append((await fakes.ask(served.runtime, "m", FINE)).outputs["predict"].tolist())

    asking = threading.Thread(target=lambda: asyncio.run(load()))
    asking.start()
    try:
        served.deploy()
        served.await_ready()
        pids = served.pids()
        assert len(set(pids)) == 2
        assert alone not in pids
        eventually(lambda: not is_alive(alone), 10)
        served.deploy(replicas=ReplicaRange(1))
        eventually(lambda: len(served.slot().replicas.lanes) == 1, 10)
        served.store.undeploy("web")
        eventually(lambda: served.slot().isolated is not None, 20)
        eventually(lambda: not any(map(is_alive, pids)), 10)
    finally:
        stop.set()
        asking.join()
    assert len(outcomes) > 10
    assert set(map(tuple, outcomes)) == {(2.0,)}


def test_a_killed_replica_fails_at_most_what_it_was_asked_and_comes_back(served):
    served.register(poison.Harmless())
    served.deploy()
    served.start()
    served.await_ready()
    before = served.pids()

    async def load():
        outcomes = []
        for turn in range(60):
            asked = [fakes.ask(served.runtime, "m", {"x": np.full(2, float(turn))}) for _ in range(4)]
            if turn == 20:
                os.kill(before[0], signal.SIGKILL)
            outcomes += await asyncio.gather(*asked, return_exceptions=True)
            await asyncio.sleep(0.005)
        return outcomes

    outcomes = asyncio.run(load())
    failed = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert len(failed) <= 1, "one call was under way"
    assert all(isinstance(outcome, ModelCrashedError) for outcome in failed)
    served.await_ready()
    assert before[1] in served.pids()
    assert before[0] not in served.pids()
    assert served.report().restarts == 1
    assert "SIGKILL" in served.report().problem
    metrics = served.runtime.predictions.metrics()
    assert b'crossfade_replicas{model="m",state="ready",version="1.0.0"} 2.0' in metrics
    assert b'crossfade_replica_restarts_total{model="m",version="1.0.0"} 1.0' in metrics


def test_an_idle_replica_that_hangs_is_ended(served):
    served.register(poison.Harmless())
    served.deploy()
    served.start()
    served.await_ready()
    hanging = served.pids()[0]
    os.kill(hanging, signal.SIGSTOP)
    eventually(lambda: not is_alive(hanging), 20)
    assert served.ask() == [2.0]
    eventually(lambda: served.report().restarts == 1 and served.report().complete, 20)
    assert "within 0.6 seconds" in served.report().problem


def test_the_same_deadly_request_ends_two_replicas_at_most(served):
    served.register(poison.Exit())
    served.deploy(probe=Probe(interval_seconds=60.0))
    served.start()
    served.await_ready()
    for _ in range(6):
        with pytest.raises(CrossfadeError):
            served.ask({"x": np.array([BAD])})
    served.await_ready()
    assert served.report().restarts == 2
    assert served.ask() == [2.0]


def test_a_replica_gets_the_memory_and_the_processors_that_it_may_have(served):
    served.register(Hoarder())
    served.register(Counting(), "1.0.1", champion=False)
    served.deploy(resources=Resources(memory_bytes=2**28), replicas=ReplicaRange(1))
    served.deploy("1.0.1", "one", resources=Resources(cpu=1), replicas=ReplicaRange(1))
    served.start()
    served.await_ready()
    with pytest.raises(CrossfadeError, match=r"MemoryError|Unable to allocate"):
        served.ask({"x": np.array([BAD])})
    assert served.ask() == [2.0]
    served.await_ready("one")
    assert served.ask(ref="m:1.0.1") == [1.0]


def test_what_is_new_runs_beside_what_ran_before_until_it_has_proved_itself(served):
    served.register(poison.Harmless())
    served.register(poison.Harmless(), "1.0.1", champion=False)
    served.deploy("1.0.0", replicas=ReplicaRange(1))
    served.start()
    served.await_ready()
    assert served.store.settle(served.store.find("web"), lambda _connection: None)
    served.deploy("1.0.1", replicas=ReplicaRange(1))
    served.await_ready()
    now = served.store.find("web")
    eventually(lambda: len(served.store.status_of(now).processes) == 2)

    def verdict():
        late = utc_now() + timedelta(seconds=60)
        return judge(now, served.store.status_of(now).processes, late, timedelta(hours=1)).verdict

    eventually(lambda: verdict() is Verdict.PROVED)


def test_whatever_a_deployment_asks_for_the_champion_answers(served):
    served.register(poison.Harmless())
    served.deploy(resources=Resources(gpu=64))
    served.start()
    assert served.ask() == [2.0]
    eventually(lambda: served.report().failed)
    assert "cannot have its GPUs: it needs" in served.report().problem
    assert served.slot().isolated is not None
    served.deploy(resources=Resources(memory_bytes=2**40))
    eventually(lambda: served.report() is not None and "isolation.memory_bytes" in served.report().problem)
    served.deploy()
    served.await_ready()
    assert served.ask() == [2.0]


def test_a_version_that_only_a_deployment_wants_is_there_for_who_names_it(served):
    served.register(poison.Harmless())
    served.register(poison.Harmless(), "1.0.1", champion=False)
    served.register(poison.Misbehaving("raise"), "1.0.2", champion=False)
    served.deploy("1.0.1")
    served.deploy("1.0.2", "broken")
    served.deploy("1.0.2", "elsewhere", environment="staging")
    served.start()
    served.await_ready()
    assert served.ask(ref="m:1.0.1") == [2.0]
    eventually(lambda: (found := served.report("broken")) is not None and found.failed, 20)
    assert "ZeroDivisionError" in served.report("broken").problem
    assert served.report("elsewhere") is None
    assert served.fleet.deployments()[served.runtime.process] is not None
    served.store.undeploy("web")
    eventually(lambda: served.slot("1.0.1") is None, 20)


def test_what_this_machine_has_got(tmp_path):
    settings = Settings(home=tmp_path, isolation=IsolationSettings(memory_bytes=2**30))
    spec = DeploymentSpec("web", "m", replicas=ReplicaRange(1, 8), resources=Resources(cpu=1))
    processors = len(os.sched_getaffinity(0))
    assert 1 <= fitting(settings, spec.terms(1)) <= processors
    for resources, what in (
        (Resources(cpu=1000), "processors"),
        (Resources(memory_bytes=2**31), "isolation.memory_bytes"),
        (Resources(gpu=60), "GPUs"),
    ):
        with pytest.raises(CrossfadeError, match=what):
            fitting(settings, DeploymentSpec("web", "m", resources=resources).terms(1))

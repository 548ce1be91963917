"""The loader makes this process hold what the snapshot asks for, and nothing broken ever becomes ready."""

import asyncio
import logging
import threading
import time

import msgspec
import numpy as np
import pytest

from crossfade.core.hashing import sha256
from crossfade.errors import CorruptBlobError, DatabaseUnavailableError, LoadFailedError
from crossfade.serving import loader as loader_module
from crossfade.serving.loader import Loader
from crossfade.serving.slots import SlotTable, State
from crossfade.traffic.deployed import Deployed, ReplicaCounts
from crossfade.traffic.snapshot import Aspired, Role, Route, Snapshot
from tests.serving.fakes import Constant
from tests.traffic.support import FAST, eventually, publish_all

MODEL = "m"


@pytest.fixture
def versions(registry):
    return {version.version: version for version in publish_all(registry, MODEL, "1.0.0", "1.0.1", "1.0.2")}


class Bench:
    """A loader, its slots, and the snapshot it is given."""

    def __init__(self, openings, versions, **changes):
        self.slots = SlotTable()
        self.versions = versions
        self.states = []
        self.slots.subscribe(self.note)
        self.loader = Loader(self.slots, openings, FAST.model_copy(update=changes))
        self.revision = 0

    def note(self):
        state = {slot.version: str(slot.state) for slot in self.slots.all().values()}
        if not self.states or self.states[-1] != state:
            self.states.append(state)

    def wish(self, *wanted, size=None, digest=None, requested_at="", deployments=()):
        self.revision += 1
        aspired = tuple(
            Aspired(
                version,
                digest or self.versions[version].manifest_digest,
                self.versions[version].size_bytes if size is None else size,
                role,
                requested_at,
                deployments=deployments,
            )
            for version, role in wanted
        )
        self.loader.aspire(Snapshot(self.revision, {MODEL: Route(MODEL, aspired=aspired)}))
        assert self.loader.revision == self.revision

    def slot(self, version):
        return self.slots.find(MODEL, version)


@pytest.fixture
def bench(openings, versions):
    made = []

    def make(**changes):
        bench = Bench(openings, versions, **changes)
        made.append(bench)
        bench.loader.start()
        return bench

    yield make
    for each in made:
        each.loader.close()


def active(*versions):
    return [(version, Role.ACTIVE) for version in versions]


def states(**pairs):
    return {version[1:].replace("_", "."): state for version, state in pairs.items()}


def until(bench, **pairs):
    eventually(lambda: {s.version: str(s.state) for s in bench.slots.all().values()} == states(**pairs))


def test_a_version_is_loaded_verified_warmed_and_ready(bench, openings):
    bench = bench()
    openings.golden["1.0.1"] = 1.0
    bench.wish(*active("1.0.1"))
    until(bench, v1_0_1="ready")
    assert [state.get("1.0.1") for state in bench.states] == ["new", "loading", "warming", "ready"]
    slot = bench.slot("1.0.1")
    assert slot.manifest.ref == "m:1.0.1"
    assert slot.number == 2
    assert slot.load_seconds > 0
    assert slot.size_bytes >= bench.versions["1.0.1"].size_bytes
    assert openings.opened == ["1.0.1"], "once"


def test_the_replaced_version_goes_after_the_new_one_is_ready(bench):
    bench = bench()
    bench.wish(*active("1.0.0"))
    until(bench, v1_0_0="ready")
    bench.wish(*active("1.0.1"))
    until(bench, v1_0_1="ready")
    both = [state for state in bench.states if len(state) == 2]
    assert [state["1.0.0"] for state in both if state["1.0.1"] != "ready"] == ["ready"] * 3
    assert {"1.0.0": "draining", "1.0.1": "ready"} in both


def test_a_leased_version_is_not_freed(bench):
    bench = bench()
    bench.wish(*active("1.0.0"))
    until(bench, v1_0_0="ready")
    slot = bench.slots.take(MODEL, "1.0.0")
    bench.wish(*active("1.0.1"))
    until(bench, v1_0_0="draining", v1_0_1="ready")
    bench.wish(*active("1.0.2"))
    until(bench, v1_0_0="draining", v1_0_2="ready")
    assert slot.batcher is not None
    slot.release()
    until(bench, v1_0_2="ready")
    assert not hasattr(slot, "batcher")


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        (
            CorruptBlobError(digest="abc", path="model.bin", ref="m:1.0.1", damage="damaged"),
            "blob abc (model.bin of `m:1.0.1`) is damaged",
        ),
        (RuntimeError("boom"), "RuntimeError: boom"),
        (SystemExit(3), "SystemExit: 3"),
        (MemoryError(), "MemoryError: "),
        (DatabaseUnavailableError(problem="gone"), "the database does not answer: gone"),
    ],
)
def test_what_cannot_be_loaded_fails_with_the_reason(bench, openings, plan, problem):
    bench = bench()
    openings.plans["1.0.1"] = plan
    bench.wish(*active("1.0.0", "1.0.1"))
    until(bench, v1_0_0="ready", v1_0_1="failed")
    assert bench.slot("1.0.1").problem == problem
    assert bench.slot("1.0.1").size_bytes == 0


def test_wrong_golden_answers_keep_a_version_from_being_ready(bench, openings):
    bench = bench()
    openings.golden["1.0.1"] = 5.0
    bench.wish(*active("1.0.1"))
    until(bench, v1_0_1="failed")
    assert "gives other answers than its golden requests: output `predict` differs by" in bench.slot("1.0.1").problem
    assert "warming" not in [state.get("1.0.1") for state in bench.states]


def test_a_version_that_fails_while_warming_up_fails(bench, openings):
    class Tiring(Constant):
        def __call__(self, tensors, wanted):
            if self.calls:
                raise RuntimeError("tired")
            return super().__call__(tensors, wanted)

    bench = bench()
    openings.plans["1.0.1"] = Tiring(1)
    openings.golden["1.0.1"] = 1.0
    bench.wish(*active("1.0.1"))
    until(bench, v1_0_1="failed")
    assert bench.slot("1.0.1").problem == "RuntimeError: tired"


def test_other_content_under_the_same_version_is_refused(bench):
    bench = bench()
    bench.wish(*active("1.0.1"), digest=sha256(b"other"))
    until(bench, v1_0_1="failed")
    assert bench.slot("1.0.1").problem == "it was registered anew meanwhile"


def test_a_failed_version_is_tried_again_after_ever_longer_pauses(bench, openings, monkeypatch):
    monkeypatch.setattr(loader_module, "_FIRST_PAUSE", 0.01)
    failures = []

    def fail_three_times():
        failures.append(bench.slot("1.0.1").failures)
        if len(failures) < 4:
            raise RuntimeError("not yet")
        return Constant(1)

    bench = bench()
    openings.plans["1.0.1"] = fail_three_times
    bench.wish(*active("1.0.1"))
    until(bench, v1_0_1="ready")
    assert failures == [0, 1, 2, 3]
    assert bench.slot("1.0.1").failures == 0


@pytest.mark.parametrize(("failures", "pause"), [(1, 1.0), (2, 2.0), (5, 16.0), (20, 300.0), (5000, 300.0)])
def test_pauses_double_up_to_five_minutes(failures, pause):
    assert loader_module.pause_after(failures) == pause


def test_a_failed_version_rests_until_it_is_asked_for_again(bench, openings):
    bench = bench()
    openings.plans["1.0.1"] = RuntimeError("broken")
    wanted = [("1.0.1", Role.CANDIDATE)]
    bench.wish(*wanted, requested_at="monday")
    until(bench, v1_0_1="failed")
    bench.wish(*wanted, requested_at="monday")
    bench.wish(*wanted)
    assert openings.opened == ["1.0.1"]
    openings.plans.clear()
    bench.wish(*wanted, requested_at="tuesday")
    assert bench.slot("1.0.1") is None or bench.slot("1.0.1").state is not State.FAILED, "forgotten at once"
    until(bench, v1_0_1="ready")


def test_a_ready_version_is_not_loaded_again_for_a_new_request(bench, openings):
    bench = bench()
    bench.wish(("1.0.1", Role.CANDIDATE), requested_at="monday")
    until(bench, v1_0_1="ready")
    bench.wish(("1.0.1", Role.CANDIDATE), requested_at="tuesday")
    bench.wish(*active("1.0.1", "1.0.2"))
    until(bench, v1_0_1="ready", v1_0_2="ready")
    assert openings.opened == ["1.0.1", "1.0.2"]


def test_a_failed_version_that_nobody_wants_disappears(bench, openings):
    bench = bench()
    openings.plans["1.0.1"] = RuntimeError("broken")
    bench.wish(*active("1.0.0"), ("1.0.1", Role.CANDIDATE))
    until(bench, v1_0_0="ready", v1_0_1="failed")
    bench.wish(*active("1.0.0"))
    until(bench, v1_0_0="ready")


def test_one_version_is_loaded_at_a_time(bench, openings):
    running, most = [], []
    gate = threading.Event()

    def load():
        running.append(1)
        most.append(len(running))
        gate.wait(10)
        running.pop()
        return Constant(0)

    openings.plans = dict.fromkeys(("1.0.0", "1.0.1", "1.0.2"), load)
    bench = bench()
    bench.wish(*active("1.0.0", "1.0.1", "1.0.2"))
    eventually(lambda: most)
    gate.set()
    until(bench, v1_0_0="ready", v1_0_1="ready", v1_0_2="ready")
    assert most == [1, 1, 1]


def test_a_version_about_to_leave_is_not_reported_as_ready(bench):
    bench = bench()
    bench.wish(*active("1.0.0"))
    until(bench, v1_0_0="ready")
    assert bench.loader.report() == (1, {"m:1.0.0": ("ready", "")})
    bench.loader.close()
    bench.wish(*active("1.0.1"))
    assert bench.slot("1.0.0").state is State.READY
    assert bench.loader.report() == (2, {"m:1.0.0": ("draining", "")})


# --- memory ---


def test_what_does_not_fit_is_refused_with_the_numbers(bench, openings):
    bench = bench(memory_limit_bytes=1000)
    bench.wish(*active("1.0.0"), size=2000)
    until(bench, v1_0_0="failed")
    assert bench.slot("1.0.0").problem == "it needs 2000 bytes of memory, and 1000 of 1000 are free"
    assert openings.opened == [], "it was not even read"


def test_measured_memory_counts(bench, openings, monkeypatch):
    sizes = iter([0, 400, 0, 900])
    monkeypatch.setattr(loader_module, "resident_bytes", lambda: next(sizes))
    bench = bench(memory_limit_bytes=1000)
    bench.wish(*active("1.0.0"), size=10)
    until(bench, v1_0_0="ready")
    assert bench.slot("1.0.0").size_bytes == 400
    assert bench.loader.free_bytes() == 600
    bench.wish(*active("1.0.0", "1.0.1"), size=10)
    until(bench, v1_0_0="ready", v1_0_1="failed")
    assert bench.slot("1.0.1").problem == "it needs 900 bytes of memory, and 600 of 1000 are free"
    assert bench.loader.free_bytes() == 600


def test_the_default_limit_is_a_share_of_the_machine(openings, versions):
    one = Loader(SlotTable(), openings, FAST)
    four = Loader(SlotTable(), openings, FAST.model_copy(update={"workers": 4}))
    assert 0 < four.limit_bytes == one.limit_bytes // 4


# --- the mode, the thread ---


def test_fast_models_run_on_the_loop_and_slow_ones_on_a_thread(bench, openings):
    def slow():
        class Slow(Constant):
            def __call__(self, tensors, wanted):
                time.sleep(0.005)
                return super().__call__(tensors, wanted)

        return Slow(1)

    bench = bench(inline_below_seconds=0.004)
    openings.plans["1.0.1"] = slow
    bench.wish(*active("1.0.0", "1.0.1"))
    until(bench, v1_0_0="ready", v1_0_1="ready")
    assert bench.slot("1.0.0").batcher.inline
    assert not bench.slot("1.0.1").batcher.inline


def test_a_fault_of_its_own_does_not_end_the_loader(bench, monkeypatch, caplog):
    monkeypatch.setattr(loader_module, "_FIRST_PAUSE", 0.01)
    decide = loader_module.next_action
    faults = iter([RuntimeError("fault"), RuntimeError("fault")])

    def failing(*args):
        for fault in faults:
            raise fault
        return decide(*args)

    monkeypatch.setattr(loader_module, "next_action", failing)
    bench = bench()
    bench.wish(*active("1.0.0"))
    until(bench, v1_0_0="ready")
    assert caplog.text.count("loading is interrupted") == 2


def test_closing_ends_every_thread(bench, openings, caplog):
    caplog.set_level(logging.INFO)
    before = set(threading.enumerate())
    bench = bench(inline_below_seconds=1e-9)
    bench.wish(*active("1.0.0"))
    until(bench, v1_0_0="ready")
    slot = bench.slot("1.0.0")
    slot.batcher._thread = threading.Thread(target=slot.batcher._work, name="crossfade-m:1.0.0")
    slot.batcher._thread.start()
    bench.loader.close()
    assert not [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("crossfade-")]
    assert "on a thread of its own" in caplog.text


# --- loads that hang ---


@pytest.fixture
def hang(openings):
    """Make opening a version hang until the test ends, or lets it go."""
    gates = []

    def hang(version):
        gate = threading.Event()
        gates.append(gate)
        openings.plans[version] = lambda: gate.wait(60) and Constant(1)
        return gate

    yield hang
    for gate in gates:
        gate.set()


def test_a_load_that_hangs_fails_and_the_next_version_is_loaded(bench, hang):
    bench = bench(ready_timeout_seconds=0.1)
    hang("1.0.1")
    bench.wish(*active("1.0.1", "1.0.2"))
    until(bench, v1_0_1="failed", v1_0_2="ready")
    assert bench.slot("1.0.1").problem == "it did not finish loading within 0.1 seconds"
    assert bench.loader.abandoned == 1


def test_a_version_that_hangs_while_it_is_warmed_fails(bench, openings):
    model = Constant(1)
    openings.plans["1.0.1"] = model
    model.gate.clear()
    bench = bench(ready_timeout_seconds=0.1)
    bench.wish(*active("1.0.1"))
    until(bench, v1_0_1="failed")
    model.gate.set()


def test_what_a_hanging_load_returns_is_discarded_and_the_version_tried_again(bench, openings, hang, monkeypatch):
    monkeypatch.setattr(loader_module, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(loader_module, "_IDLE_LOOK_SECONDS", 0.01)
    bench = bench(ready_timeout_seconds=0.1)
    gate = hang("1.0.1")
    bench.wish(*active("1.0.1"))
    until(bench, v1_0_1="failed")
    time.sleep(0.05)
    assert openings.opened == ["1.0.1"], "one thread of it hangs already"
    openings.plans.clear()
    gate.set()
    until(bench, v1_0_1="ready")
    assert openings.opened == ["1.0.1", "1.0.1"]


def test_a_version_whose_load_hangs_is_tried_again_when_it_is_asked_for(bench, openings, hang):
    bench = bench(ready_timeout_seconds=0.1)
    hang("1.0.1")
    bench.wish(("1.0.1", Role.CANDIDATE), requested_at="monday")
    until(bench, v1_0_1="failed")
    openings.plans.clear()
    bench.wish(("1.0.1", Role.CANDIDATE), requested_at="tuesday")
    until(bench, v1_0_1="ready")


def test_closing_does_not_wait_for_a_load_that_hangs(bench, hang):
    bench = bench(drain_timeout_seconds=0.1)
    hang("1.0.1")
    bench.wish(*active("1.0.1"))
    until(bench, v1_0_1="loading")
    started = time.monotonic()
    bench.loader.close()
    assert time.monotonic() - started < 2
    until(bench, v1_0_1="failed")
    assert bench.slot("1.0.1").problem == "this process is shutting down"
    assert bench.loader.abandoned == 0
    assert "crossfade-loader" not in {thread.name for thread in threading.enumerate()}


def test_answers_may_outlive_the_version(bench):
    bench = bench()
    bench.wish(*active("1.0.1"))
    until(bench, v1_0_1="ready")
    answer = bench.slot("1.0.1").batcher.caller.predict({"x": np.zeros(2)}, frozenset({"predict"}))
    bench.wish()
    until(bench)
    assert answer["predict"].tolist() == [1.0, 1.0]


# --- how versions run ---


TERMS = Deployed("d", 1)


class ByTerms:
    """Opens versions; what runs by a deployment answers 100 more, or fails as the test says."""

    def __init__(self, openings):
        self._openings = openings
        self.problems = {}
        self.asked = []

    def __call__(self, name, wish):
        self.asked.append(wish.terms)
        problem = self.problems.get(wish.terms)
        if problem is not None:
            raise problem
        opened = self._openings(name, wish)
        more = 0 if wish.terms is None else 100
        model = Constant(opened.predict.number + more)
        return msgspec.structs.replace(opened, predict=model)


@pytest.fixture
def by_terms(openings):
    return ByTerms(openings)


@pytest.fixture
def deploying(by_terms, versions, monkeypatch):
    monkeypatch.setattr(loader_module, "_FIRST_PAUSE", 0.01)
    bench = Bench(by_terms, versions)
    bench.loader.start()
    yield bench
    bench.loader.close()


def answered(bench, version="1.0.1"):
    return bench.slot(version).batcher.caller.predict({"x": np.zeros(1)}, frozenset({"predict"}))["predict"].tolist()


def report(bench):
    (found,) = bench.loader.deployments()
    return found


def test_how_a_version_runs_is_exchanged_while_it_answers(deploying):
    deploying.wish(*active("1.0.1"))
    until(deploying, v1_0_1="ready")
    slot, former = deploying.slot("1.0.1"), deploying.slot("1.0.1").batcher
    changed = []
    deploying.loader.on_changed = lambda: changed.append(True)
    deploying.wish(*active("1.0.1"), deployments=(TERMS,))
    eventually(lambda: slot.terms == TERMS)
    assert deploying.slot("1.0.1") is slot
    assert slot.batcher is not former
    assert answered(deploying) == [101.0]
    assert report(deploying).replicas == ReplicaCounts(1, 1)
    assert changed
    deploying.wish(*active("1.0.1"))
    eventually(lambda: slot.terms is None)
    assert answered(deploying) == [1.0]
    assert deploying.loader.deployments() == ()
    assert {state.get("1.0.1") for state in deploying.states} == {"new", "loading", "warming", "ready"}


def test_a_change_that_fails_leaves_what_answers_and_is_tried_again(deploying, by_terms):
    by_terms.problems[TERMS] = RuntimeError("no such machine")
    deploying.wish(*active("1.0.1"))
    until(deploying, v1_0_1="ready")
    deploying.wish(*active("1.0.1"), deployments=(TERMS,))
    eventually(lambda: report(deploying).failed)
    assert report(deploying).problem == "RuntimeError: no such machine"
    assert answered(deploying) == [1.0]
    del by_terms.problems[TERMS]
    eventually(lambda: report(deploying).complete)
    assert answered(deploying) == [101.0]


def test_a_version_that_cannot_run_as_deployed_runs_as_it_would_without(deploying, by_terms):
    by_terms.problems[TERMS] = LoadFailedError(ref="m:1.0.1", problem="no such machine")
    deploying.wish(*active("1.0.1"), deployments=(TERMS,))
    until(deploying, v1_0_1="ready")
    assert answered(deploying) == [1.0]
    assert (report(deploying).failed, report(deploying).problem) == (True, "no such machine")


def test_what_a_model_says_when_it_fails_can_be_stored_and_shown(deploying, by_terms):
    by_terms.problems[TERMS] = RuntimeError("bad\0 \x1b[2Jmachine")
    deploying.wish(*active("1.0.1"), deployments=(TERMS,))
    eventually(lambda: report(deploying).failed)
    assert report(deploying).problem == "RuntimeError: bad   [2Jmachine"


def test_one_that_only_a_deployment_wants_fails_and_is_tried_as_soon_as_it_shall_run_otherwise(deploying, by_terms):
    by_terms.problems[TERMS] = LoadFailedError(ref="m:1.0.1", problem="no such machine")
    deploying.wish(("1.0.1", Role.DEPLOYED), deployments=(TERMS,))
    until(deploying, v1_0_1="failed")
    assert report(deploying).failed
    other = Deployed("d", 2)
    deploying.wish(("1.0.1", Role.DEPLOYED), deployments=(other,))
    until(deploying, v1_0_1="ready")
    assert report(deploying).generation == 2


def test_other_environments_are_none_of_its_business(deploying):
    elsewhere = Deployed("d", 1, environment="staging")
    deploying.wish(*active("1.0.1"), ("1.0.2", Role.DEPLOYED), deployments=(elsewhere,))
    until(deploying, v1_0_1="ready")
    assert deploying.slot("1.0.1").terms is None
    assert deploying.loader.deployments() == ()


def test_a_request_that_holds_the_former_one_is_answered_by_it(deploying):
    deploying.wish(*active("1.0.1"))
    until(deploying, v1_0_1="ready")
    slot = deploying.slot("1.0.1")
    former = slot.batcher
    former.caller.predict.gate.clear()

    async def ask():
        held = former.submit({"x": np.zeros(1)}, frozenset({"predict"}))
        deploying.wish(*active("1.0.1"), deployments=(TERMS,))
        await asyncio.to_thread(eventually, lambda: slot.batcher is not former)
        later = await slot.batcher.submit({"x": np.zeros(1)}, frozenset({"predict"}))
        former.caller.predict.gate.set()
        return (await held)["predict"].tolist(), later["predict"].tolist()

    former.inline = False
    assert asyncio.run(ask()) == ([1.0], [101.0])

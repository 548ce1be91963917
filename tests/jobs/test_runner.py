"""The runner, in this process: models that refuse, hang or are away, processes that end, jobs that are cancelled."""

from __future__ import annotations

import asyncio
import json

import pytest
from sqlalchemy import select

from crossfade.errors import DatabaseUnavailableError, OverloadedError, PredictionError
from crossfade.jobs.claims import LostClaimError
from crossfade.jobs.runner import JobRunner
from crossfade.jobs.store import JobStore
from crossfade.safety.specs import Constant, RangeCheck, SafetyPolicySpec
from crossfade.safety.store import SafetyStore
from crossfade.serving.runtime import ServingRuntime
from crossfade.serving.waiting import Priority
from crossfade.settings import CacheSettings, JobSettings, Settings
from crossfade.storage.tables import job_parts, jobs
from tests.jobs.support import submitted
from tests.serving.fakes import Openings
from tests.traffic.support import FAST, move, open_registry, publish_all, soon

JOBS = JobSettings(poll_seconds=0.01, lease_seconds=0.6, patience_seconds=0.5, chunk_rows=10)


class Doubling:
    """Answers twice the input, or another multiple; keeps its calls, and refuses what a test says."""

    def __init__(self, factor=2):
        self.factor = factor
        self.calls = []
        self.refuses = set()
        self.error = PredictionError
        self.before = lambda: None

    def __call__(self, tensors, wanted):
        rows = tensors["x"].tolist()
        self.calls.append(rows)
        self.before()
        if bad := self.refuses & set(rows):
            raise self.error(ref="churn:1.0.0", problem=f"{min(bad)} is not for me")
        return {"predict": self.factor * tensors["x"]}


class House:
    """A registry, jobs, and processes that serve and run them."""

    def __init__(self, registry, home):
        self.home = home
        self.registry = registry
        self.database = registry.backend.database
        self.store = JobStore(registry, self.database, JOBS)
        self.openings = Openings(registry.backend)
        self.models = {version: Doubling() for version in ("1.0.0", "1.0.1")}
        self.openings.plans = {version: lambda version=version: self.models[version] for version in self.models}
        self.started = []

    async def start(self, **changes):
        options = {"home": self.home, "jobs": JOBS, "serving": FAST, **changes}
        settings = Settings(**options)
        runtime = ServingRuntime(self.registry.backend, self.database, settings, self.openings)
        runner = JobRunner(self.registry, self.database, runtime.predictions, settings)
        self.started.append((runtime, runner))
        await asyncio.to_thread(runtime.start)
        await soon(lambda: not runtime.predictions.unready())
        runner.start(asyncio.get_running_loop())
        return runtime, runner

    def submit(self, rows, **changes):
        data = "".join(json.dumps({"x": row}) + "\n" for row in rows).encode()
        return submitted(self.store, self.registry, data, format="jsonl", **changes).id

    async def finished(self, job):
        await soon(lambda: self.store.find(job).finished, 20)
        return self.store.find(job)

    async def succeeded(self, job):
        found = await self.finished(job)
        assert (found.state, found.problem) == ("succeeded", "")
        return self.rows(job)

    def rows(self, job):
        with self.store.open_result(job)[2] as stream:
            return [json.loads(line) for line in stream]

    async def close(self):
        for runtime, runner in self.started:
            await asyncio.to_thread(runner.close)
            await asyncio.to_thread(runtime.close)


@pytest.fixture
async def house(tmp_path, sqlite_url):
    registry = open_registry(tmp_path, sqlite_url)
    publish_all(registry, "churn", "1.0.0", "1.0.1")
    move(registry, "churn", "1.0.0")
    house = House(registry, tmp_path)
    yield house
    house.database.away = False
    await house.close()
    registry.backend.database.close()


def doubled(rows):
    return [{"row": number, "prediction": 2.0 * row} for number, row in enumerate(rows)]


async def test_every_row_is_answered_in_its_place(house):
    await house.start()
    job = house.submit(range(35))
    assert await house.succeeded(job) == doubled(range(35))
    found = house.store.find(job)
    assert (found.rows_done, found.rows_failed, found.bytes_done) == (35, 0, found.input_bytes)
    with house.database.read() as connection:
        assert connection.execute(select(job_parts)).all() == []


async def test_a_file_without_rows_has_a_result_without_rows(house):
    await house.start()
    assert await house.succeeded(house.submit([])) == []


async def test_a_job_stays_with_its_version_while_the_alias_moves(house):
    house.models["1.0.1"].factor = 3
    runtime, _ = await house.start()
    job = house.submit(range(300), chunk_rows=5)
    await soon(lambda: house.store.find(job).rows_done > 0)
    move(house.registry, "churn", "1.0.1")
    await soon(lambda: runtime.predictions.served()[-1].ready)
    later = house.submit(range(20))
    assert await house.succeeded(job) == doubled(range(300))
    assert (await house.succeeded(later))[10]["prediction"] == 30.0


async def test_a_version_that_no_alias_points_to_is_loaded_for_its_job_and_unloaded_afterwards(house):
    runtime, _ = await house.start()
    assert runtime.slots.find("churn", "1.0.1") is None
    job = house.submit(range(3), ref="churn:1.0.1")
    assert await house.succeeded(job) == doubled(range(3))
    assert house.models["1.0.1"].calls
    await soon(lambda: runtime.slots.find("churn", "1.0.1") is None)


async def test_rows_go_in_calls_of_one_batch_and_after_online_requests(house, monkeypatch):
    seen = []
    submit = "crossfade.serving.slots.Slot.predict"

    def watched(slot, tensors, wanted, deadline, priority):
        seen.append((len(tensors["x"]), priority))
        return slot.batcher.submit(tensors, wanted, deadline, priority)

    monkeypatch.setattr(submit, watched)
    await house.start(serving=FAST.model_copy(update={"max_batch_rows": 4}))
    await house.succeeded(house.submit(range(10)))
    assert seen == [(4, Priority.BATCH), (4, Priority.BATCH), (2, Priority.BATCH)]


async def test_jobs_do_not_fill_the_response_cache(house):
    runtime, _ = await house.start(cache=CacheSettings(mode="on"))
    await house.succeeded(house.submit(range(10)))
    assert runtime.cache_status().entries == 0


# --- rows that are bad -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [{0}, {7, 8, 34}, set(range(35))])
async def test_rows_that_the_model_refuses_get_an_error_in_their_place(house, bad):
    await house.start()
    house.models["1.0.0"].refuses = set(map(float, bad))
    rows = await house.succeeded(job := house.submit(range(35)))
    assert {row["row"] for row in rows if "error" in row} == bad
    assert [row for row in rows if "error" not in row] == [row for row in doubled(range(35)) if row["row"] not in bad]
    assert f"{min(bad)}.0 is not for me" in rows[min(bad)]["error"]
    assert house.store.find(job).rows_failed == len(bad)


async def test_rows_that_do_not_fit_get_an_error_and_never_reach_the_model(house):
    await house.start()
    calls = house.models["1.0.0"].calls
    calls.clear()
    rows = await house.succeeded(job := house.submit([1, "two", None, 4]))
    assert ["error" in row for row in rows] == [False, True, True, False]
    assert calls == [[1.0, 4.0]]
    assert house.store.find(job).rows_failed == 2


async def test_a_bug_ends_the_job_and_not_the_runner(house, caplog):
    await house.start()
    house.models["1.0.0"].refuses, house.models["1.0.0"].error = {3.0}, lambda **_: ZeroDivisionError("oops")
    found = await house.finished(house.submit(range(5)))
    assert (found.state, found.problem) == ("failed", "a bug of the server; its log says more")
    assert "oops" in caplog.text
    assert "oops" not in found.problem
    house.models["1.0.0"].refuses = set()
    await house.succeeded(house.submit(range(5)))


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (b"no parquet", "parquet", "the file cannot be read: it is not a sound Parquet file"),
        (b"no arrow", "arrow", "the file cannot be read: it is not Arrow IPC"),
        (b"a,b\n1,2\n", "csv", "the file cannot be read: it has no column `x`"),
    ],
)
async def test_a_file_that_cannot_be_read_fails_the_job_with_the_reason(house, data, kind, words):
    await house.start()
    found = await house.finished(submitted(house.store, house.registry, data, format=kind).id)
    assert found.state == "failed"
    assert found.problem.startswith(words)


@pytest.mark.parametrize("damage", ["missing", "damaged"])
async def test_a_file_that_went_bad_fails_the_job(house, damage):
    job = house.submit(range(3))
    digest = house.store.find(job).input_digest
    path = house.registry.backend.blobs.root / "sha256" / digest[:2] / digest
    data = path.read_bytes()
    path.unlink()
    if damage == "damaged":
        path.write_bytes(data.replace(b"1", b"7"))
    await house.start()
    found = await house.finished(job)
    assert (found.state, found.rows_done) == ("failed", 0)
    assert f"is {damage}" in found.problem


async def test_a_file_that_kills_its_reader_fails_the_job(house, monkeypatch):
    monkeypatch.setattr("crossfade.jobs.runner.READER", "tests.core.misbehaving")
    await house.start()
    assert "its reader" in (await house.finished(house.submit(range(3)))).problem


# --- things that are away --------------------------------------------------------------------------------------------


async def test_a_version_that_cannot_be_loaded_is_waited_for_only_so_long(house):
    house.openings.plans["1.0.1"] = ValueError("it is broken")
    await house.start()
    job = house.submit(range(3), ref="churn:1.0.1")
    other = house.submit(range(3))
    assert len(await house.succeeded(other)) == 3, "it does not hold up others"
    found = await house.finished(job)
    assert found.state == "failed"
    assert "no progress for 0.5 s" in found.problem
    assert "not ready" in found.problem


async def test_a_model_that_is_too_busy_is_asked_again(house, monkeypatch):
    refusals = iter([True, True, False, True, False, False])
    runtime, _ = await house.start()
    slot = runtime.slots.find("churn", "1.0.0")
    submit = slot.batcher.submit

    def busy(*args):
        if next(refusals, False):
            raise OverloadedError(ref="churn:1.0.0", waiting=9, retry_after_seconds=0.01)
        return submit(*args)

    monkeypatch.setattr(slot.batcher, "submit", busy)
    assert await house.succeeded(house.submit(range(35))) == doubled(range(35))


async def test_a_database_that_is_away_for_a_while(house):
    job = house.submit(range(300), chunk_rows=3)
    await house.start()
    await soon(lambda: house.store.find(job).rows_done > 0)
    house.database.away = True
    await asyncio.sleep(0.2)
    house.database.away = False
    assert await house.succeeded(job) == doubled(range(300))


# --- processes -------------------------------------------------------------------------------------------------------


async def test_a_process_that_ends_gives_its_job_back_at_once(house):
    long = JOBS.model_copy(update={"lease_seconds": 600.0})
    _, runner = await house.start(jobs=long)
    job = house.submit(range(500), chunk_rows=5)
    await soon(lambda: house.store.find(job).rows_done > 0)
    await asyncio.to_thread(runner.close)
    between = house.store.find(job)
    assert between.state == "running"
    assert 0 < between.rows_done < 500
    await house.start(jobs=long)
    assert await house.succeeded(job) == doubled(range(500))


async def test_a_slow_model_keeps_its_job(house):
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    patient = JOBS.model_copy(update={"lease_seconds": 2.0})  # a machine that stops for a moment is no slow model
    for _ in range(2):  # neither may hold up the loop that opens the gate
        await house.start(jobs=patient, serving=FAST.model_copy(update={"execution": "thread"}))
    house.models["1.0.0"].before = lambda: asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(20)
    job = house.submit(range(5))
    await soon(lambda: epoch(house, job) == 1)
    await asyncio.sleep(2 * patient.lease_seconds)
    assert epoch(house, job) == 1, "nobody took it over"
    gate.set()
    assert await house.succeeded(job) == doubled(range(5))


def epoch(house, job):
    with house.database.read() as connection:
        return connection.execute(select(jobs.c.epoch).where(jobs.c.id == job)).scalar_one()


async def test_two_processes_share_jobs_and_never_one(house):
    await house.start()
    await house.start()
    made = [house.submit(range(number, number + 60), chunk_rows=7) for number in range(6)]
    for number, job in enumerate(made):
        assert await house.succeeded(job) == doubled(range(number, number + 60))
        assert epoch(house, job) == 2, "one claim, and its end"


async def test_a_cancelled_job_stops(house, caplog):
    await house.start()
    caplog.set_level("INFO")
    job = house.submit(range(20_000), chunk_rows=5)
    await soon(lambda: house.store.find(job).rows_done > 0)
    done = house.store.cancel(job)
    await house.succeeded(house.submit(range(3)))
    assert house.store.find(job) == done
    assert f"batch job `{job}` was cancelled" in caplog.text


async def test_results_are_let_go_of_when_their_time_is_over(house, monkeypatch):
    monkeypatch.setattr("crossfade.jobs.runner._SWEEP_SECONDS", 0.01)
    await house.start(jobs=JOBS.model_copy(update={"retention_seconds": 0.1}))
    job = house.submit(range(3))
    await soon(lambda: house.store.find(job).finished)
    await soon(lambda: house.store.find(job).result is None)


async def test_what_nobody_foresaw_does_not_end_the_runner(house, monkeypatch, caplog):
    _, runner = await house.start()
    take, faults = runner._claims.take, iter([ValueError("a bug"), DatabaseUnavailableError(problem="x")])
    lost = iter([LostClaimError("some-job")])

    def faulty():
        for error in (*faults, *lost):
            raise error
        return take()

    monkeypatch.setattr(runner._claims, "take", faulty)
    assert await house.succeeded(house.submit(range(3))) == doubled(range(3))


async def test_a_stream_that_is_no_file_is_copied(house, monkeypatch):
    """As a blob of S3 is."""
    blobs = house.registry.backend.blobs
    opened = blobs.open

    class Stream:
        def __init__(self, digest):
            self.inner = opened(digest)

        def read(self, size=-1):
            return self.inner.read(size)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.inner.close()

    monkeypatch.setattr(blobs, "open", Stream)
    await house.start()
    job = house.submit(range(25))
    found = await house.finished(job)
    assert (found.state, found.rows_done) == ("succeeded", 25)


async def test_rows_whose_answer_is_unsafe_get_an_error_in_their_place(house):
    runtime, _ = await house.start()
    safety = SafetyStore(house.registry, house.database, house.home, tuple, lambda _revision, _seconds: ())
    high = RangeCheck(name="high", output="predict", maximum=30)
    safety.put_policy(SafetyPolicySpec(model="churn", checks=(high,)))
    runtime.follower.refresh()
    rows = await house.succeeded(house.submit([1, 20, 3, 40, 5]))
    assert [row.get("prediction") for row in rows] == [2.0, None, 6.0, None, 10.0]
    assert "is unsafe and not given: it violates `high`" in rows[1]["error"]


async def test_rows_whose_answer_is_unsafe_get_what_the_policy_gives_instead(house):
    runtime, _ = await house.start()
    safety = SafetyStore(house.registry, house.database, house.home, tuple, lambda _revision, _seconds: ())
    high = RangeCheck(name="high", output="predict", maximum=30)
    fallback = (Constant(outputs={"predict": 9}),)
    safety.put_policy(SafetyPolicySpec(model="churn", checks=(high,), fallback=fallback))
    runtime.follower.refresh()
    rows = await house.succeeded(house.submit([1, 20, 3]))
    assert [row["prediction"] for row in rows] == [2.0, 9.0, 6.0]


async def test_a_job_waits_while_its_model_is_stopped_and_then_goes_on(house):
    runtime, _ = await house.start()
    safety = SafetyStore(house.registry, house.database, house.home, tuple, lambda _revision, _seconds: ())
    safety.begin_emergency("why", model="churn")
    runtime.follower.refresh()
    job = house.submit([1, 2])
    await soon(lambda: "stopped" in house.store.find(job).problem)
    assert house.models["1.0.0"].calls == [] or all(len(call) == 1 for call in house.models["1.0.0"].calls)
    safety.end_emergency("over", model="churn")
    assert [row["prediction"] for row in await house.succeeded(job)] == [2.0, 4.0]

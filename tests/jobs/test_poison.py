"""Jobs whose rows end the model's process: the rows are found, and nobody else notices more than a pause."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from crossfade.errors import ModelCrashedError
from crossfade.jobs import runner as runners
from crossfade.jobs.runner import JobRunner
from crossfade.jobs.store import JobStore
from crossfade.registry.registry import Registry
from crossfade.serving.isolation import host as hosts
from crossfade.serving.isolation import suspects
from crossfade.serving.runtime import ServingRuntime
from crossfade.settings import JobSettings, RegistrySettings, Settings
from tests.jobs.support import submitted
from tests.serving import fakes
from tests.serving.isolation import poison
from tests.serving.isolation.poison import BAD
from tests.traffic.support import FAST, move, open_registry, soon

TRUSTING = RegistrySettings(allow_code_models=True)
JOBS = JobSettings(poll_seconds=0.01, chunk_rows=64)


class Deadly(poison.Harmless):
    """Ends its process whatever it is asked, once it is served."""

    def predict(self, inputs):
        if (inputs["x"] != 1.0).any():
            self.worst()
        return 2 * inputs["x"]

    worst = poison.Abort.worst


@pytest.fixture
async def serve(tmp_path, sqlite_url, monkeypatch):
    """Serves a model, and runs jobs of it."""
    monkeypatch.setattr(hosts, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(suspects, "_LEAST_REST", 0.01)
    monkeypatch.setattr(suspects, "_REST_FACTOR", 0.0)
    monkeypatch.setattr(runners, "_LONGEST_PAUSE_SECONDS", 0.02)
    registry = Registry(open_registry(tmp_path, sqlite_url).backend, TRUSTING)
    closing = []

    async def serve(model):
        registry.register("churn", model, version="1.0.0", example={"x": np.array([1.0])})
        move(registry, "churn", "1.0.0")
        settings = Settings(home=tmp_path, registry=TRUSTING, serving=FAST, jobs=JOBS)
        database = registry.backend.database
        runtime = ServingRuntime(registry.backend, database, settings)
        runner = JobRunner(registry, database, runtime.predictions, settings)
        closing.extend((runner, runtime))
        await asyncio.to_thread(runtime.start)
        await soon(lambda: not runtime.predictions.unready(), 30)
        runner.start(asyncio.get_running_loop())
        return runtime, JobStore(registry, database, JOBS), registry

    yield serve
    for part in closing:
        await asyncio.to_thread(part.close)
    registry.backend.database.close()


async def finished(store, registry, rows):
    data = b"x\n" + b"".join(b"%g\n" % row for row in rows)
    job = submitted(store, registry, data).id
    await soon(lambda: store.find(job).finished, 60)
    return store.find(job)


async def test_a_row_that_ends_the_process_is_an_error_in_its_place_and_the_version_stays(serve):
    runtime, store, registry = await serve(poison.Abort())
    rows = [1.0] * 16
    rows[7] = rows[12] = BAD
    rows[13] = BAD + 1
    job = await finished(store, registry, rows)
    assert (job.state, job.rows_done, job.rows_failed, job.problem) == ("succeeded", 16, 2, "")
    slot = runtime.slots.find("churn", "1.0.0")
    assert slot.isolated.ends["signal"] > hosts.CRASHES
    assert slot.isolated.given_up == ""
    answer = await fakes.ask(runtime, "churn", {"x": np.array([1.0])})
    assert answer.outputs["predict"].tolist() == [2.0]
    with store.open_result(job.id)[2] as stream:
        lines = stream.read().splitlines()
    assert [number for number, line in enumerate(lines) if b"error" in line] == [7, 12]
    assert b"SIGABRT" in lines[7]


async def test_a_model_that_crashes_on_everything_fails_its_job_and_says_why(serve, monkeypatch):
    monkeypatch.setattr(runners, "_MOST_CRASHED_ROWS", 3)
    _, store, registry = await serve(Deadly())
    job = await finished(store, registry, range(2, 12))
    assert job.state == "failed"
    assert "3 rows in a row ended the model's process" in job.problem
    assert "SIGABRT" in job.problem


async def test_crashes_of_requests_that_somebody_waits_for_count_as_before(serve):
    runtime, _, _ = await serve(poison.Abort())
    for number in range(hosts.CRASHES):
        with pytest.raises(ModelCrashedError):
            await fakes.ask(runtime, "churn", {"x": np.array([BAD, float(number)])})
    assert "quarantined" in runtime.slots.find("churn", "1.0.0").isolated.given_up

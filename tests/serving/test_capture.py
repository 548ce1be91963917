"""Captures cost predictions nothing but a place in a bounded queue."""

import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from crossfade.core.identity import ModelRef
from crossfade.errors import MissingExtraError
from crossfade.serving import capture as capture_module
from crossfade.serving.capture import Capture
from crossfade.serving.capture_files import find_files, read_file, write_file
from crossfade.serving.holding import Terms
from crossfade.serving.naming import unknown_models
from crossfade.serving.observing import open_observer
from crossfade.serving.runtime import ServingRuntime
from crossfade.serving.tracing import TraceContext
from crossfade.settings import CacheSettings, CaptureRules, CaptureSettings, ModelRules, ServingSettings, Settings
from tests.serving.fakes import SIGNATURE, X
from tests.traffic.support import FAST, eventually, move, publish_all, soon

ONE = CaptureRules(ratio=1.0)


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(capture_module, "LOOK_SECONDS", 0.01)


@pytest.fixture
def capture_of(tmp_path):
    """Makes captures of a model `m`, and closes them."""
    made = []

    def make(rules=ONE, **changes):
        settings = CaptureSettings(models={"m": rules}, **({"file_seconds": 0.01} | changes))
        made.append(Capture(settings, tmp_path, b"k" * 32))
        return made[-1]

    yield make
    for capture in made:
        capture.close()


def slot(name="m", digest="d1"):
    return SimpleNamespace(name=name, version="1.0.0", digest=digest, signature=SIGNATURE)


def rows_in(folder):
    return sum(len(inputs["x"]) for path in find_files(folder) for inputs, _ in read_file(path)[1])


def offer(capture, to=None, count=1, rows=2):
    x = np.arange(float(rows))
    for _ in range(count):
        capture.offer(to or slot(), {"x": x}, {"predict": x * 2}, "r")


def test_predictions_are_written_by_version(capture_of, tmp_path):
    capture = capture_of()
    offer(capture, count=3)
    offer(capture, slot(digest="d2"))
    offer(capture, slot("other"))
    eventually(lambda: capture.rows["written"] == 8)
    assert rows_in(tmp_path) == 8
    assert {read_file(path)[0].digest for path in find_files(tmp_path)} == {"d1", "d2"}
    assert not list(tmp_path.rglob("*.part"))


def test_a_file_ends_by_rows_and_by_bytes_and_by_time(capture_of, tmp_path):
    by_rows = capture_of(file_seconds=1000, max_file_rows=4)
    offer(by_rows, count=5)
    eventually(lambda: by_rows.rows["written"] == 8)
    by_bytes = capture_of(file_seconds=1000, max_file_bytes=100)
    offer(by_bytes, count=8)
    eventually(lambda: by_bytes.rows["written"] == 16)
    by_time = capture_of(file_seconds=0.05)
    offer(by_time)
    eventually(lambda: by_time.rows["written"] == 2)


def test_a_sample_is_taken(capture_of):
    capture = capture_of(CaptureRules(ratio=0.25))
    offer(capture, count=2000, rows=1)
    capture.close()
    assert 350 < capture.rows["written"] < 650


def test_closing_writes_what_waits(capture_of, tmp_path):
    capture = capture_of(file_seconds=1000)
    offer(capture, count=3)
    capture.close()
    assert rows_in(tmp_path) == 6


def test_what_is_too_much_is_dropped_and_counted_while_the_disk_hangs(capture_of, monkeypatch):
    gate, asked = threading.Event(), threading.Event()

    def hang(*arguments):
        asked.set()
        gate.wait(30)
        return write_file(*arguments)

    monkeypatch.setattr(capture_module, "write_file", hang)
    capture = capture_of(max_file_rows=1, max_waiting_bytes=320)  # ten predictions of 32 bytes
    offer(capture)
    asked.wait(10)
    offer(capture, count=100)  # it would hang here
    assert capture.rows == {"written": 0, "failed": 0, "refused": 0, "dropped": 182}
    gate.set()
    eventually(lambda: capture.rows["written"] == 20)
    offer(capture)
    eventually(lambda: capture.rows["written"] == 22)


def test_what_waits_to_fill_a_file_is_bounded_too(capture_of):
    capture = capture_of(file_seconds=1000, max_waiting_bytes=320)
    for number in range(20):
        offer(capture, slot(digest=f"d{number}"))
        eventually(lambda: not capture._queue)
    eventually(lambda: capture.rows["written"] > 20)


def test_a_disk_that_fails_is_said_once_and_predictions_go_on(capture_of, monkeypatch, caplog):
    failing = [True]

    def write(*arguments):
        if failing:
            raise OSError(28, "No space left on device")
        return write_file(*arguments)

    monkeypatch.setattr(capture_module, "write_file", write)
    capture = capture_of()
    for number in (2, 4, 6):
        offer(capture)
        eventually(lambda number=number: capture.rows["failed"] == number)
    assert len([record for record in caplog.records if "cannot be written" in record.getMessage()]) == 1
    failing.clear()
    offer(capture)
    eventually(lambda: capture.rows["written"] == 2)
    assert capture._offered_bytes == capture._done_bytes


def test_views_do_not_keep_what_they_are_views_of(capture_of):
    capture = capture_of(file_seconds=1000)
    capture._ending.set()
    capture._thread.join()
    batch = np.zeros(10_000)
    capture.offer(slot(), {"x": batch[:1]}, {"predict": batch[1:2]}, "r")
    _, captured, size = capture._queue[0]
    assert captured.inputs["x"].base is None
    assert captured.outputs["predict"].base is None
    assert size == 16


def test_a_request_without_rows_is_not_captured(capture_of):
    capture = capture_of()
    offer(capture, rows=0)
    assert not capture._queue


def test_old_files_are_deleted(capture_of, tmp_path, monkeypatch):
    monkeypatch.setattr(capture_module, "PRUNE_SECONDS", 0.01)
    capture = capture_of(retention_seconds=0.2)
    offer(capture)
    eventually(lambda: capture.rows["written"] == 2)
    eventually(lambda: not find_files(tmp_path))


@pytest.mark.parametrize("part", ["include", "exclude", "hashed"])
def test_nothing_is_captured_of_a_version_that_lacks_a_field_of_the_policy(capture_of, tmp_path, caplog, part):
    capture = capture_of(CaptureRules(ratio=1.0, **{part: ("x", "distrct")}))
    offer(capture, count=3)
    offer(capture, slot(digest="d2"))
    capture.close()
    assert not find_files(tmp_path)
    assert capture.rows == {"written": 0, "failed": 0, "refused": 8, "dropped": 0}
    said = "nothing of `m:1.0.0` is captured: `capture.models` names `distrct`, which it has no input or output of"
    assert capture.problems() == [said] * 2, "each of the two versions"
    assert caplog.text.count(said) == 2


def test_a_policy_may_name_inputs_and_outputs(capture_of, tmp_path):
    capture = capture_of(CaptureRules(ratio=1.0, include=("x", "predict"), hashed=("predict",)))
    offer(capture)
    capture.close()
    assert capture.rows["written"] == 2
    assert capture.problems() == []


def test_captures_are_for_their_owner_only(capture_of, tmp_path):
    capture = capture_of()
    capture._folder = tmp_path / "made" / "here"
    offer(capture)
    capture.close()
    (path,) = find_files(tmp_path)
    assert path.stat().st_mode & 0o077 == 0
    assert {folder.stat().st_mode & 0o077 for folder in (path.parent, path.parent.parent)} == {0}


# --- in a process that serves --------------------------------------------------------------------------------------


@pytest.fixture
def captured(registry, openings, tmp_path):
    """Starts a runtime that captures, and returns what it has written when it is closed."""
    publish_all(registry, "m", "1.0.0")
    move(registry, "m", "1.0.0")
    folder = tmp_path / "captured"
    started = []

    def start(rules):
        capture = CaptureSettings(models={"m": rules}, folder=str(folder), file_seconds=1000)
        settings = Settings(home=tmp_path, serving=FAST, capture=capture)
        runtime = ServingRuntime(registry.backend, registry.backend.database, settings, openings)
        started.append(runtime)
        runtime.start()
        runtime.await_ready(10)
        return runtime

    start.folder = folder
    yield start
    for runtime in started:
        runtime.close()


async def ask(runtime, tensors=X, request_id="", trace=None):
    with await runtime.predictions.hold(ModelRef.parse("m")) as held:
        return await held.predict(tensors, None, Terms(trace=trace), request_id)


async def test_predictions_of_a_runtime_are_captured(captured):
    runtime = captured(ONE)
    await ask(runtime, request_id="seven")
    await ask(runtime, {"x": np.array([3, 4], dtype=np.int32)})  # becomes FP64 on the way
    runtime.close()
    (path,) = find_files(captured.folder)
    ((inputs, outputs),) = read_file(path)[1]
    assert inputs["x"].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert outputs["predict"].tolist() == [0.0] * 4
    import pyarrow.parquet as pq

    ids = pq.read_table(path)["request_id"].to_pylist()
    assert ids[:2] == ["seven"] * 2
    assert len(set(ids)) == 2
    assert read_file(path)[0].digest == runtime.slots.find("m", "1.0.0").digest
    assert 'crossfade_captured_rows_total{result="written"} 4.0' in runtime.predictions.metrics().decode()


async def test_equal_values_have_equal_hashes_in_every_process_of_a_deployment(captured):
    import pyarrow.parquet as pq

    for _ in range(2):
        runtime = captured(CaptureRules(ratio=1.0, hashed=("x",)))
        await ask(runtime)
        runtime.close()
    first, second = (pq.read_table(path)["input.x"].to_pylist() for path in find_files(captured.folder))
    assert first == second
    assert len(set(first)) == 2
    assert all(len(text) == 32 for text in first)


@pytest.mark.parametrize(("hashed", "opened"), [((), True), (("x",), False)])
def test_a_start_without_the_database_captures_what_needs_no_secret(registry, tmp_path, caplog, hashed, opened):
    registry.backend.database.away = True
    capture = CaptureSettings(models={"m": CaptureRules(ratio=1.0, hashed=hashed)})
    observer = open_observer(Settings(home=tmp_path, capture=capture), registry.backend.database)
    assert (observer is not None) == opened
    assert ("nothing is captured" in caplog.text) != opened
    if observer is not None:
        observer.close()


async def test_one_that_cannot_be_kept_keeps_nothing_of_the_budget(captured, monkeypatch):
    runtime = captured(ONE)
    capture = runtime._observer.capture
    with monkeypatch.context() as patched:
        patched.setattr(capture, "_origin", None)
        await ask(runtime)
        await soon(lambda: capture.rows["failed"] == 2)
    await ask(runtime)
    runtime.close()
    assert capture.rows == {"written": 2, "failed": 2, "refused": 0, "dropped": 0}
    assert capture._done_bytes == capture._offered_bytes


async def test_failures_are_not_captured_and_traces_do_not_matter(captured):
    runtime = captured(ONE)
    with pytest.raises(Exception, match="x"):
        await ask(runtime, {})
    await ask(runtime, trace=TraceContext("a" * 32, "b" * 16, sampled=True))
    runtime.close()
    assert rows_in(captured.folder) == 2


async def test_replays_are_not_captured(captured):
    runtime = captured(ONE)
    with await runtime.predictions.hold(ModelRef.parse("m")) as held:
        await held.predict({"x": np.array([1.0])}, None, Terms(replay=True))
    await ask(runtime)
    runtime.close()
    assert rows_in(captured.folder) == 2


def test_a_model_that_nobody_knows_is_warned_about(captured):
    runtime = captured(ONE)
    assert runtime.warnings() == []
    settings = Settings(
        serving=ServingSettings(models={"mm": ModelRules(max_batch_rows=3), "m": ModelRules()}),
        capture=CaptureSettings(models={"m": ONE, "hosues": ONE}),
        cache=CacheSettings(mode="models", models=("n", "m")),
    )
    assert unknown_models(settings, runtime.follower.snapshot.models) == [
        "`serving.models` names `mm`, and no model has this name",
        "`capture.models` names `hosues`, and no model has this name",
        "`cache.models` names `n`, and no model has this name",
    ]


def test_a_server_that_cannot_capture_says_so_when_it_starts(capture_of, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="pyarrow"):
        capture_of()
